package commands

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/operations"
)

func (t *tree) prune() *cobra.Command {
	var s settings
	var age cli.Duration
	options := operations.PruneOptions{}
	cmd := &cobra.Command{
		Use:   "prune --older-than DURATION",
		Short: "Delete old events, resolved failures and run records",
		Long: `Deletes events that took effect before the given age from the ledger, oldest first, with the
failure records that they resolved, and run records (stripe_webhook_runs) of that age. Run it
regularly, such as once a day, to bound the size of the tables. It uses small transactions,
holds no lock for long, and can be interrupted. Events that still fail are kept.

The minimum age is 35 days: Stripe can resend an event for 30 days, and an event without its
ledger row would take effect twice.`,
		Example: "  stripeonce prune --older-than 90d\n  stripeonce prune --older-than 90d --json",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().Var(&age, "older-than", "the minimum age as a `duration`, such as 90d; required")
	cmd.Flags().BoolVar(&options.Force, "force", false, "allow an age of less than 35d")
	cmd.Flags().IntVar(&options.BatchSize, "batch", operations.DefaultPruneBatchSize, "the `number` of rows to delete per transaction")
	s.addReason(cmd, "")
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if age == 0 {
			return cli.Usage("--older-than is missing: set the minimum age, such as --older-than 90d")
		}
		if options.BatchSize < 1 {
			return cli.Usage("--batch must be at least 1")
		}
		options.OlderThan = time.Duration(age)
		return t.work(cmd.Context(), func(host *Host) error {
			progress := cli.NewProgress(cmd)
			options.Progress = func(p operations.PruneResult) {
				progress.Show(-1, "%d rows deleted", p.Deleted)
			}
			pruned, err := operations.New(host.Pool, &operations.Config{Reason: s.reason, Logger: t.Logger}).Prune(cmd.Context(), options)
			progress.Clear()
			if errors.Is(err, operations.ErrRefused) {
				return fmt.Errorf("%w: use --older-than 35d or more, or --force", err)
			}
			if err != nil && pruned.Deleted == 0 {
				return err
			}
			if out.Of(cmd).JSON {
				if lineErr := out.Line(pruned); err == nil {
					err = lineErr
				}
			}
			out.Printf("%d rows of the ledger deleted, and %d failures that they had resolved\n", pruned.Deleted, pruned.Failures)
			return err
		})
	}
	return cmd
}
