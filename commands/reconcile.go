package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/operations"
)

// missingLine is the JSON of one missing event.
type missingLine struct {
	appliedLine
	EventType string    `json:"event_type"`
	CreatedAt time.Time `json:"event_created_at"`
}

func (t *tree) reconcile() *cobra.Command {
	var s settings
	var since cli.Duration
	options := operations.ReconcileOptions{}
	kind := string(operations.PayloadAuto)
	cmd := &cobra.Command{
		Use:   "reconcile --since DURATION",
		Short: "Find events that never arrived, and apply them",
		Long: `Lists Stripe's events of the last 30 days at most, and applies the events that are missing in
the ledger, oldest first, as a delivery would. Use it after an outage that was longer than
Stripe's retries (three days), or regularly. It can be interrupted and run again at any time:
no event takes effect twice. Requires STRIPE_API_KEY.

The command continues after an event that fails, and then exits with 1. It stops if the
receiver refuses the connection, rejects the signature or stays unavailable, and prints how
many events are left. Parked, dismissed and, without --include-waiting, failing events that
wait for their next retry are skipped. Only types that have handlers are reconciled.` + t.aboutTypes(),
		Example: `  stripeonce reconcile --since 72h --dry-run
  stripeonce reconcile --since 72h --to http://127.0.0.1:4242/webhooks/stripe
  stripeonce reconcile --since 30d --here --type 'customer.subscription.*'`,
		Args: cli.Args(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.Var(&since, "since", "the `duration` to go back, such as 72h or 30d; required")
	flags.BoolVar(&options.DryRun, "dry-run", false, "only list the missing events")
	flags.BoolVar(&options.IncludeWaiting, "include-waiting", false, "also apply failing events that wait for their next retry")
	flags.StringSliceVar(&options.Types, "type", nil, "only events of these `types`, comma separated; invoice.* matches every type with that prefix")
	flags.StringVar(&options.Account, "account", "", "only events of this connected `account` (default: only events of the own account)")
	flags.StringVar(&kind, "kind", kind, "the `list` of events to read: snapshot (/v1/events), thin (/v2/core/events), or auto, which reads thin if the account has only destinations for thin events")
	s.addReason(cmd, "")
	t.addWhere(cmd, &s, true)
	s.addAPI(cmd)
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if since == 0 {
			return cli.Usage("--since is missing: set how far to go back, such as --since 72h")
		}
		options.Since = time.Duration(since)
		switch options.Payload = operations.EventPayload(kind); options.Payload {
		case operations.PayloadAuto, operations.PayloadSnapshot, operations.PayloadThin:
		default:
			return cli.Usage("--kind %q: use auto, snapshot or thin", kind)
		}
		if s.reason != "" && options.DryRun {
			return cli.Usage("--reason and --dry-run are mutually exclusive: a dry run is not recorded")
		}
		if err := t.checkWhere(&s, !options.DryRun); err != nil {
			return err
		}
		cli.IgnoreBrokenPipe()
		return t.work(cmd.Context(), func(host *Host) error {
			o, err := t.operator(host, &s, !options.DryRun)
			if err != nil {
				return err
			}
			return reconcile(cmd, o, options, out.Of(cmd))
		})
	}
	return cmd
}

func reconcile(cmd *cobra.Command, o *operations.Operator, options operations.ReconcileOptions, out *cli.Output) error {
	progress := cli.NewProgress(cmd)
	var written error
	var failed []string
	options.Each = func(m operations.MissingEvent) {
		progress.Clear()
		if m.Err != nil {
			failed = append(failed, m.EventID)
		}
		if out.JSON {
			if err := out.Line(missingLine{lineOf(m.EventResult), m.EventType, m.CreatedAt}); written == nil {
				written = err
			}
			return
		}
		what := "missing"
		if !options.DryRun {
			what = resultText(m.EventResult)
		}
		out.Printf("%s  %s  %s  %s\n", cli.Time(m.CreatedAt), cli.OneLine(m.EventID), cli.OneLine(m.EventType), what)
	}
	start := time.Now()
	options.Progress = func(sum operations.ReconcileResult, at time.Time) {
		back := start.Sub(at)
		progress.Show(back.Seconds()/options.Since.Seconds(), "%s of %s back: %d listed, %d missing, %d applied, %d failed",
			cli.Short(back), cli.Short(options.Since), sum.Listed, sum.Missing, sum.Applied, sum.Failed)
	}
	sum, err := o.Reconcile(cmd.Context(), options)
	progress.Clear()
	if err != nil && sum == (operations.ReconcileResult{}) {
		return err
	}
	if out.JSON {
		if lineErr := out.Line(sum); written == nil {
			written = lineErr
		}
	}
	out.Printf("%d listed, %d missing, %d applied, %d failed\n", sum.Listed, sum.Missing, sum.Applied, sum.Failed)
	if sum.Waiting > 0 {
		say := out.Printf
		if out.JSON {
			say = out.Hintf
		}
		say("%s left to retries; 'replay --all-failed' or --include-waiting takes these now\n", plural(sum.Waiting, "failing event"))
	}
	switch {
	case err != nil:
		return err
	case sum.Failed > 0:
		return notApplied(cmd.Context(), o, failed)
	}
	return written
}

// notApplied returns an error that explains where the reasons are. An event that did not reach its handlers (no connection,
// no response, a wrong secret) has no failure record.
func notApplied(ctx context.Context, o *operations.Operator, failed []string) error {
	recorded := 0
	for _, id := range failed {
		if detail, err := o.EventDetail(ctx, id); err == nil && detail.Failure != nil {
			recorded++
		}
	}
	text := fmt.Sprintf("%d of the missing events failed", len(failed))
	if recorded > 0 {
		text += fmt.Sprintf("; %d of them have a failure record: see 'failures'", recorded)
	}
	if without := len(failed) - recorded; without > 0 {
		text += fmt.Sprintf("; %d did not reach their handlers and have no failure record: fix the errors above and run this command again", without)
	}
	return errors.New(text)
}

func (t *tree) aboutTypes() string {
	if t.Remote == nil {
		return ""
	}
	return " With\n--to this program does not know the handlers and reconciles every type, unless --type is set."
}
