package commands

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// appliedLine is the JSON of one replayed event.
type appliedLine struct {
	operations.Applied
	Error string `json:"error,omitempty"`
}

func lineOf(a operations.Applied) appliedLine {
	line := appliedLine{Applied: a}
	if a.Err != nil {
		line.Error = a.Err.Error()
	}
	return line
}

func (t *tree) replay() *cobra.Command {
	var s settings
	var all bool
	var account string
	cmd := &cobra.Command{
		Use:   "replay EVENT…",
		Short: "Apply events again, as a delivery would",
		Long: `Applies events again, as a delivery would: from the payload of their failure record, or
else fetched from Stripe (for 30 days; requires STRIPE_API_KEY). An event that has taken
effect is a duplicate, so replaying twice does nothing. The exit code is 1 if any event
still fails, and each such event is named.`,
		Example: `  stripeonce replay evt_1NvKoKIGBnsLynRr --to http://127.0.0.1:4242/webhooks/stripe
  stripeonce replay --all-failed --to http://127.0.0.1:4242/webhooks/stripe`,
		Args: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return cli.Usage("name events, or use --all-failed\nsee '%s --help'", cmd.CommandPath())
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all-failed", false, "every failing event that is not parked, oldest failure first")
	cmd.Flags().StringVar(&account, "account", "", "the connected `account` of the events, if the ledger does not have it; with --all-failed, only events of this account")
	t.addWhere(cmd, &s, true)
	s.addAPI(cmd)
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		if err := t.checkWhere(&s, true); err != nil {
			return err
		}
		cli.IgnoreBrokenPipe()
		return t.work(cmd.Context(), func(host *Host) error {
			o, err := t.operator(host, &s, true)
			if err != nil {
				return err
			}
			if err := t.refuseParked(cmd.Context(), &s, o, ids); err != nil {
				return err
			}
			r, started := &replayed{out: out.Of(cmd)}, time.Now()
			if all {
				err = o.ReplayFailed(cmd.Context(), account, r.add)
			} else {
				err = r.each(cmd.Context(), o, ids, account)
			}
			if r.count > r.duplicates {
				o.RecordRun(cmd.Context(), &operations.RunRecord{
					Kind: operations.RunReplay, Arguments: map[string]any{"events": ids, "all_failed": all, "account": account},
					Counts: map[string]int{"replayed": r.count, "failed": len(r.failed)}, Started: started, Err: err,
				})
			}
			if err != nil {
				return err
			}
			return r.end()
		})
	}
	return cmd
}

// refuseParked refuses to apply events here that were parked by a handler that this program does not contain. They would
// count as applied although that handler did not run.
func (t *tree) refuseParked(ctx context.Context, s *settings, o *operations.Operator, ids []string) error {
	if t.Remote == nil || !s.here {
		return nil
	}
	for _, id := range ids {
		if detail, err := o.EventDetail(ctx, id); err == nil && detail.Parked() {
			return cli.Usage("%s was parked by a handler of the application, which this program does not contain: "+
				"replay it with --to URL, or with the application's own command", cli.OneLine(id))
		}
	}
	return nil
}

// replayed prints and counts results.
type replayed struct {
	out        *cli.Output
	count      int
	duplicates int // events that had taken effect
	failed     []string
	first      error // of the first failed event
	err        error // of writing
}

func (r *replayed) each(ctx context.Context, o *operations.Operator, ids []string, account string) error {
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.add(o.Replay(ctx, id, account))
	}
	return nil
}

func (r *replayed) add(a operations.Applied) {
	r.count++
	if a.Outcome == webhooks.OutcomeDuplicate {
		r.duplicates++
	}
	if a.Err != nil {
		a.Err = cli.Explain(a.Err)
		r.failed = append(r.failed, a.EventID)
		r.first = cmp.Or(r.first, a.Err)
	}
	if r.out.JSON {
		if err := r.out.Line(lineOf(a)); r.err == nil {
			r.err = err
		}
		return
	}
	r.out.Printf("%s  %s\n", cli.OneLine(a.EventID), resultText(a))
}

func resultText(a operations.Applied) string {
	if a.Err != nil {
		return "failed: " + cli.OneLine(a.Err.Error())
	}
	return string(a.Outcome)
}

func (r *replayed) end() error {
	if r.count == 0 {
		r.out.Printf("No failing events.\n")
	}
	if len(r.failed) > 0 {
		of := ""
		if len(r.failed) > 1 {
			of = "the first: "
		}
		return fmt.Errorf("not applied, %d of %d: %s: %s%s", len(r.failed), r.count, strings.Join(r.failed, ", "), of, cli.OneLine(r.first.Error()))
	}
	return r.err
}
