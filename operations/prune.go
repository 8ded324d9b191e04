package operations

import (
	"context"
	"fmt"
	"time"

	"github.com/pook/stripeonce/db"
)

// MinPruneAge is the minimum age of rows that Prune deletes. Stripe's CLI can resend an event for 30 days. If the event's row has been
// deleted by then, it takes effect twice.
const MinPruneAge = 35 * 24 * time.Hour

// DefaultPruneBatchSize is how many rows Prune deletes in one transaction.
const DefaultPruneBatchSize = 1000

// PruneOptions configures Prune.
type PruneOptions struct {
	OlderThan time.Duration // the time since an event took effect; less than MinPruneAge is refused
	Force     bool          // allow less than MinPruneAge
	BatchSize int           // rows per transaction; 0: DefaultPruneBatchSize
	// Progress is called with the numbers so far after each batch. Optional.
	Progress func(PruneResult)
}

// PruneResult counts the deleted rows.
type PruneResult struct {
	Deleted  int64 `json:"deleted"` // rows of the ledger
	Failures int64 `json:"-"`       // failure records that these had resolved
	Payloads int64 `json:"-"`       // payloads that were kept
	Runs     int64 `json:"-"`       // records of runs
}

// Prune deletes old rows of the ledger, oldest first, together with the failure records that they resolved, and then old payloads
// (webhooks.Config.KeepPayloads) and records of runs. Each batch is its own transaction, so no lock is held for long, and Prune
// may be interrupted. The result counts the deleted rows. Rows of an event that failed and has not been applied since are kept. A
// run that deleted rows of the ledger is recorded.
func (o *Operator) Prune(ctx context.Context, options PruneOptions) (PruneResult, error) {
	var pruned PruneResult
	if options.OlderThan < MinPruneAge && !options.Force {
		return pruned, fmt.Errorf("%w: the ledger must keep %d days, since Stripe can resend an event for 30 days, and the event would then take effect twice",
			ErrRefused, int(MinPruneAge.Hours()/24))
	}
	if err := o.checkSeesRows(ctx); err != nil {
		return pruned, fmt.Errorf("prune the ledger: %w", err)
	}
	run := o.StartRun(RunPrune, map[string]any{"older_than": options.OlderThan.String(), "force": options.Force})
	batch := db.StripeWebhookEventPruneParams{Before: time.Now().Add(-options.OlderThan), MaxRows: DefaultPruneBatchSize}
	if options.BatchSize > 0 {
		batch.MaxRows = limit(options.BatchSize)
	}
	err := o.pruneLedger(ctx, &batch, &pruned, func(sum PruneResult) {
		if sum.Deleted > 0 {
			run.Progress(ctx, sum, 0)
		}
		if options.Progress != nil {
			options.Progress(sum)
		}
	})
	if err == nil {
		err = o.pruneSettled(ctx, &batch, &pruned)
	}
	if err == nil {
		pruned.Payloads, err = o.prunePayloads(ctx, batch.Before, batch.MaxRows)
	}
	if err == nil {
		pruned.Runs, err = inBatches(batch.MaxRows, func() (int64, error) {
			return o.queries.StripeWebhookRunPrune(ctx, o.pool, batch.Before, batch.MaxRows)
		})
	}
	if pruned.Deleted > 0 {
		run.Finish(ctx, pruned, err)
	}
	return pruned, err
}

func (o *Operator) pruneLedger(ctx context.Context, batch *db.StripeWebhookEventPruneParams, pruned *PruneResult, progress func(PruneResult)) error {
	for {
		row, err := o.queries.StripeWebhookEventPrune(ctx, o.pool, *batch)
		if err != nil {
			return fmt.Errorf("prune the ledger: %w", err)
		}
		pruned.Deleted += row.Events
		pruned.Failures += row.Failures
		progress(*pruned)
		if row.Seen < int64(batch.MaxRows) {
			return nil
		}
		batch.After, batch.AfterEventID = row.Last, row.LastEventID
	}
}

// pruneSettled deletes the records of failures that are settled without a row in the ledger.
func (o *Operator) pruneSettled(ctx context.Context, batch *db.StripeWebhookEventPruneParams, pruned *PruneResult) error {
	rows, err := inBatches(batch.MaxRows, func() (int64, error) {
		return o.queries.StripeWebhookFailurePruneSettled(ctx, o.pool, batch.Before, batch.MaxRows)
	})
	pruned.Failures += rows
	return err
}

func (o *Operator) prunePayloads(ctx context.Context, before time.Time, batch int32) (int64, error) {
	return inBatches(batch, func() (int64, error) { return o.queries.StripeWebhookPayloadPrune(ctx, o.pool, before, batch) })
}

// inBatches deletes rows in batches until one is not full, and returns how many.
func inBatches(batch int32, prune func() (int64, error)) (pruned int64, err error) {
	for {
		rows, err := prune()
		if err != nil {
			return pruned, fmt.Errorf("prune: %w", err)
		}
		if pruned += rows; rows < int64(batch) {
			return pruned, nil
		}
	}
}

// payloadInterval is how often PrunePayloadsEvery deletes.
const payloadInterval = time.Hour

// PrunePayloadsEvery deletes payloads that were stored (webhooks.Config.KeepPayloads) longer ago than olderThan, immediately and then
// every hour until ctx ends. The rows of the ledger stay.
func (o *Operator) PrunePayloadsEvery(ctx context.Context, olderThan time.Duration) error {
	if olderThan <= 0 {
		return fmt.Errorf("%w: the maximum age of payloads must be more than 0", ErrRefused)
	}
	var counts runCounts
	o.repeat(ctx, repetition{every: payloadInterval, afterFailure: retryInterval, what: "prune payloads"}, &counts, func(ctx context.Context) (bool, error) {
		pruned, err := o.prunePayloads(ctx, time.Now().Add(-olderThan), DefaultPruneBatchSize)
		if pruned > 0 {
			o.config.Logger.InfoContext(ctx, "pruned payloads", "deleted", pruned)
		}
		return true, err
	})
	return nil
}
