package operations

import (
	"context"
	"fmt"
	"time"

	"github.com/pook/stripeonce/db"
)

// MinAge is the least age of what Prune deletes. Stripe's command line can send an event again for 30 days;
// one that the ledger has forgotten by then would take effect twice.
const MinAge = 35 * 24 * time.Hour

// DefaultBatch is how many rows Prune deletes in one transaction.
const DefaultBatch = 1000

// PruneOptions say what to delete.
type PruneOptions struct {
	OlderThan time.Duration // by when it took effect; less than MinAge is refused
	Force     bool          // do it all the same
	Batch     int           // 0: DefaultBatch
	// Progress, if set, is told after each batch.
	Progress func(Pruned)
}

// Pruned is what was deleted.
type Pruned struct {
	Deleted  int64 `json:"deleted"` // rows of the ledger
	Failures int64 `json:"-"`       // rows of failures that these had resolved
}

// Prune deletes old rows of the ledger, the oldest first, and with each the failure that it resolved. Each
// batch is a transaction of its own, so that no lock is held for long and that it may be interrupted: the
// result says how far it came. Of an event that failed and has not been applied since, nothing is deleted.
func (o *Operator) Prune(ctx context.Context, options PruneOptions) (Pruned, error) {
	var pruned Pruned
	if options.OlderThan < MinAge && !options.Force {
		return pruned, fmt.Errorf("%w: the ledger must keep %d days, since Stripe can send an event again for 30, which would then take effect twice",
			ErrRefused, int(MinAge.Hours()/24))
	}
	if err := o.checkSeesRows(ctx); err != nil {
		return pruned, fmt.Errorf("prune the ledger: %w", err)
	}
	batch := db.StripeWebhookEventPruneParams{Before: time.Now().Add(-options.OlderThan), MaxRows: DefaultBatch}
	if options.Batch > 0 {
		batch.MaxRows = limit(options.Batch)
	}
	for {
		row, err := o.queries.StripeWebhookEventPrune(ctx, o.pool, batch)
		if err != nil {
			return pruned, fmt.Errorf("prune the ledger: %w", err)
		}
		pruned.Deleted += row.Events
		pruned.Failures += row.Failures
		if options.Progress != nil {
			options.Progress(pruned)
		}
		if row.Seen < int64(batch.MaxRows) {
			return pruned, nil
		}
		batch.After, batch.AfterEventID = row.Last, row.LastEventID
	}
}
