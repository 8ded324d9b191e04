package commands

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/compare"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
)

func (t *tree) backfill() *cobra.Command {
	var s settings
	b := backfill{tree: t}
	cmd := &cobra.Command{
		Use:   "backfill",
		Short: "Import existing subscriptions and other objects from Stripe",
		Long: `Imports the objects that exist at Stripe: stores each subscription and mirrored object that
is missing here or differs. Use it once, after the receiver is deployed, for the objects that
are older than the receiver. It can run while deliveries arrive, and does not overwrite a newer
state that a delivery has stored. --type selects the object types, even types that the receiver
does not mirror. Connected accounts that have rows are included. Requires STRIPE_API_KEY.

Objects are imported from the newest to the oldest. The position is recorded after each page
of Stripe's lists (see 'runs'). After an interruption or a crash, the same command continues
there; --restart begins anew. Only one backfill runs at a time. OnChange is not called. With
--hooks it is called with a nil Event and Imported true.

The exit code is 1 if an object still differs; run verify to list the differences.`,
		Example: `  stripeonce backfill --here
  stripeonce backfill --type billing --here
  stripeonce backfill --type invoice --since 365d --here`,
		Args: cli.Args(cobra.NoArgs),
	}
	flags := cmd.Flags()
	b.add(cmd)
	flags.Var(&b.since, "since", "only objects that were created within this `duration` before now, such as 365d (default: all)")
	flags.BoolVar(&b.hooks, "hooks", false, "call OnChange for each stored object")
	flags.StringSliceVar(&b.accounts, "account", nil, "also these connected `accounts`, comma separated; accounts that have rows are included anyway, unless --account-id is set")
	flags.IntVar(&b.rate, "rate", 0, fmt.Sprintf("the maximum `number` of requests per second to Stripe (default: %d with a live key, for which Stripe permits 100, and %d in a sandbox, for which it permits 25)",
		operations.BackfillRateLive, operations.BackfillRateSandbox))
	flags.BoolVar(&b.restart, "restart", false, "begin anew instead of continuing an interrupted run")
	s.addReason(cmd, "")
	t.addWhere(cmd, &s, false)
	s.addAPI(cmd)
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if t.Remote != nil && !s.here {
			return errWhere(false)
		}
		if b.rate < 0 || b.rate == 0 && flags.Changed("rate") {
			return cli.Usage("--rate must be at least 1")
		}
		if err := b.check(); err != nil {
			return err
		}
		cli.IgnoreBrokenPipe()
		return t.work(cmd.Context(), func(host *Host) error {
			if host.APIKey == "" {
				return operations.ErrNoAPIKey
			}
			b.complete(host)
			if host.Projection == nil && b.Subscriptions {
				return errNoSubscriptions
			}
			b.host, b.settings, b.out, b.progress = host, s, out.Of(cmd), cli.NewProgress(cmd)
			return b.run(cmd.Context())
		})
	}
	return cmd
}

// backfill is one run of backfill.
type backfill struct {
	*tree
	objectTypes
	since          cli.Duration
	hooks, restart bool
	accounts       []string
	rate           int
	settings       settings

	host     *Host
	out      *cli.Output
	progress *cli.Progress
	written  error // of the output
}

func (b *backfill) run(ctx context.Context) error {
	jobs, err := b.jobs()
	if err != nil {
		return err
	}
	slices.Sort(b.accounts)
	o := operations.New(b.host.Pool, &operations.Config{APIKey: b.host.APIKey, AccountID: b.host.AccountID, Reason: b.settings.reason, Logger: b.Logger})
	sum, err := o.Backfill(ctx, operations.BackfillOptions{
		Jobs: jobs, Since: time.Duration(b.since), Restart: b.restart, Resumed: b.resumed, Progress: b.show,
		Arguments: map[string]any{"accounts": b.accounts, "hooks": b.hooks},
	})
	b.progress.Clear()
	if err != nil && sum.Checked == 0 {
		return err
	}
	if b.out.JSON {
		b.line(sum)
	}
	b.out.Printf("%d checked, %d drifted, %d fixed\n", sum.Checked, sum.Drifted, sum.Fixed)
	switch {
	case err != nil:
		return err
	case sum.Drifted > sum.Fixed:
		return fmt.Errorf("%s still different from Stripe's: list the differences with 'verify'", plural(sum.Drifted-sum.Fixed, b.noun()))
	}
	return b.written
}

// jobs returns a job for each type.
func (b *backfill) jobs() (jobs []operations.Job, err error) {
	if b.Subscriptions {
		job, err := subscriptions.NewJob(b.host.Pool, &subscriptions.VerifyConfig{
			APIKey: b.host.APIKey, APIBase: b.host.APIBase, APITimeout: b.settings.apiTimeout, Fix: b.host.Receiver, Projection: b.host.Projection, NoHooks: !b.hooks,
			AccountID: b.host.AccountID, Accounts: b.accounts, Rate: b.rate, Logger: b.Logger,
			Each: func(d subscriptions.Difference) {
				b.difference(mirror.Difference{Type: compare.Subscription, ID: d.ID, Field: d.Field, Local: d.Local, Stripe: d.Stripe})
			},
		})
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, job)
	}
	if len(b.Mirrored) == 0 {
		return jobs, nil
	}
	others, err := mirror.Jobs(b.host.Pool, &mirror.VerifyConfig{
		Types: b.Mirrored, APIKey: b.host.APIKey, APIBase: b.host.APIBase, APITimeout: b.settings.apiTimeout, Fix: b.host.Receiver, Projection: b.host.Mirror,
		NoHooks: !b.hooks, AccountID: b.host.AccountID, Accounts: b.accounts, Rate: b.rate, Logger: b.Logger, Each: b.difference,
	})
	return append(jobs, others...), err
}

func (b *backfill) resumed(run operations.Run, sum operations.ComparisonCounts) {
	b.out.Hintf("resuming the backfill that was started %s and interrupted %s ago: %d checked so far (--restart begins anew)\n",
		cli.Time(run.StartedAt), cli.Ago(run.UpdatedAt), sum.Checked)
}

// show shows the progress: with --since a share of the time, since Stripe does not say how many objects there are.
func (b *backfill) show(p operations.BackfillProgress) {
	share, what := -1.0, p.Type
	if !p.Created.IsZero() { // it is listed by creation, not by customer
		what += ", back to " + p.Created.Format(time.DateOnly)
		if !p.Since.IsZero() {
			share = time.Since(p.Created).Seconds() / time.Since(p.Since).Seconds()
		}
	}
	b.progress.Show(share, "%s: %d checked, %d drifted, %d fixed", what, p.Checked, p.Drifted, p.Fixed)
}

// difference prints one difference as JSON. As text, the first import would have a line for each object.
func (b *backfill) difference(d mirror.Difference) {
	if b.out.JSON {
		b.progress.Clear()
		b.line(d)
	}
}

func (b *backfill) line(value any) {
	if err := b.out.Line(value); b.written == nil {
		b.written = err
	}
}
