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
		Short: "Delete old rows of the ledger",
		Long: `Deletes ledger rows of events that took effect earlier, oldest first, and the failure
records that they resolved, and records of runs (stripe_webhook_runs) of that age. It uses
small transactions, holds no lock for long, and may be interrupted. Events that still fail
are kept.

Less than 35 days is refused: Stripe can resend an event for 30 days, and without its
ledger row it would take effect twice.`,
		Example: "  stripeonce prune --older-than 90d",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().Var(&age, "older-than", "the minimum age, such as 90d")
	cmd.Flags().BoolVar(&options.Force, "force", false, "allow less than 35 days")
	cmd.Flags().IntVar(&options.BatchSize, "batch", operations.DefaultPruneBatchSize, "the `number` of rows in one transaction")
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
				return fmt.Errorf("%w (--force overrides this)", err)
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
