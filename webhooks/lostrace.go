package webhooks

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/fault"
)

// A delivery loses the race to a concurrent duplicate of another process when its row of the ledger violates the unique index on
// event_id. The index of the plain table is known by its name. That of a partition has any name and belongs to a table of any name, and
// partitions can be attached while receivers work. So the catalog is asked, between two attempts: once for each index, as long as the
// process runs, and never unless a race was lost.

// ledgerTable is the table, and ledgerIndex its unique index, that the migrations create.
const (
	ledgerTable = "stripe_webhook_events"
	ledgerIndex = "stripe_webhook_events_event_id_key"
)

// otherIndexError is the violation of a unique index by the ledger's INSERT, whose name is not ledgerIndex: that of a partition, or one of
// the host's, on the ledger or on a table that a trigger writes.
type otherIndexError struct{ *pgconn.PgError }

func (e *otherIndexError) Unwrap() error { return e.PgError }

// ofLedgerInsert returns errLostRace if the INSERT of an event has lost the race by the index that the migrations create, and an
// otherIndexError if it violates another unique index.
func ofLedgerInsert(err error) error {
	violated := fault.UniqueViolationOf(err)
	switch {
	case violated == nil:
		return err
	case violated.TableName == ledgerTable && violated.ConstraintName == ledgerIndex && !fault.InTrigger(violated):
		return errLostRace
	}
	return &otherIndexError{violated}
}

// lostRace reports whether the ledger's INSERT has lost the race to a concurrent duplicate. If the violated index is gone, as after
// a swap of the ledger's table, the next attempt finds out.
func (r *Receiver) lostRace(ctx context.Context, err error) (lost bool, failure error) {
	var violated *otherIndexError
	switch {
	case errors.Is(err, errLostRace):
		return true, nil
	case !errors.As(err, &violated):
		return false, nil
	}
	index := [2]string{violated.SchemaName, violated.ConstraintName}
	if _, known := r.ledgerIndexes.Load(index); known {
		return true, nil
	}
	failure = r.pool.Do(ctx, func(conn *pgxpool.Conn) error {
		ofLedger, err := r.queries.StripeWebhookEventIndex(ctx, conn, violated.ConstraintName, violated.SchemaName)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			lost = true
			return nil
		case err == nil && ofLedger:
			lost = true
			r.ledgerIndexes.Store(index, struct{}{})
		}
		return err
	})
	return lost && failure == nil, failure
}
