package webhooks

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/admission"
	"github.com/pook/stripeonce/internal/pgpipe"
)

// A known event is found with one query outside of a transaction. Lookups that are made at the same time share a query, as
// events share a transaction, so that a storm of duplicates costs PostgreSQL little.

// lookup is the lookup of one delivery in the ledger.
type lookup struct {
	ctx      context.Context
	delivery *delivery
	done     bool
	err      error
}

// lookup reports whether the event is a duplicate.
func (r *Receiver) lookup(ctx context.Context, d *delivery) (found bool, err error) {
	if err := r.readiness.Ensure(ctx); err != nil {
		return false, err
	}
	one := &lookup{ctx: ctx, delivery: d}
	if r.config.MaxBatchSize == 1 || !r.lookups.Carry(ctx, one, r.lookUpTogether) || !one.done {
		r.lookUpAlone(one)
	}
	if d.ledger.final && d.ledger.other == nil {
		r.warnOfOtherType(ctx, d, d.ledger.eventType)
	}
	return d.ledger.final && d.ledger.other == nil, one.err
}

func (r *Receiver) lookUpAlone(one *lookup) {
	one.err = r.pool.Do(one.ctx, func(conn *pgxpool.Conn) error {
		one.delivery.ledger = ledgerState{}
		return r.lookupQuery(one.delivery)(one.ctx, conn)
	})
	one.done = true
}

// lookUpTogether looks up the deliveries of a batch. Where the batch fails since the time of one of them is up, the others are not
// done, and are looked up alone.
func (r *Receiver) lookUpTogether(batch []*admission.Member[*lookup]) {
	if len(batch) == 1 {
		r.lookUpAlone(batch[0].Item)
		return
	}
	contexts := make([]context.Context, len(batch))
	var ids []string
	for i, m := range batch {
		contexts[i] = m.Item.ctx
		ids = append(ids, m.Item.ids()...)
	}
	ctx, cancel := sharedContext(contexts)
	defer cancel()
	err := r.pool.Do(ctx, func(conn *pgxpool.Conn) error {
		rows, err := r.queries.StripeWebhookEventOutcomes(ctx, conn, ids)
		for _, m := range batch {
			m.Item.read(rows)
		}
		return pgpipe.Wrap("look up events", err)
	})
	for _, m := range batch {
		if err == nil || ctx.Err() == nil || m.Item.ctx.Err() != nil {
			m.Item.done, m.Item.err = true, err
		}
	}
}

// ids are the ids under which the ledger may have the event: its own, and that of its twin.
func (l *lookup) ids() []string {
	if id := l.delivery.id(); id != l.delivery.received.ID {
		return []string{id, l.delivery.received.ID}
	}
	return []string{l.delivery.received.ID}
}

// read reads the rows of the event among those of a batch.
func (l *lookup) read(rows []db.StripeWebhookEventOutcomesRow) {
	l.delivery.ledger = ledgerState{}
	for _, row := range rows {
		if slices.Contains(l.ids(), row.EventID) {
			l.delivery.foundRow(row.EventID, row.Outcome, row.EventType, row.AccountID)
		}
	}
}
