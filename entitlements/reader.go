package entitlements

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
)

// ErrIncomplete is wrapped by the error of a question that the stored entitlements do not answer: the customer has further ones, or
// events of one second contradict each other, and they could not be fetched from Stripe. Configure an API key: the rest is then
// fetched in the background (mirror.CompleteListsEvery; stripeonce serve does so).
var ErrIncomplete = errors.New("the customer's entitlements are not completely known: set an API key (STRIPE_API_KEY)")

// Reader reads entitlements through a pool, a connection or a transaction.
type Reader struct {
	db      db.DBTX
	queries *db.Queries
}

// New returns a Reader on conn: a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx.
func New(conn db.DBTX) *Reader { return &Reader{conn, db.New()} }

// Has reports whether a customer (cus_…) may use the feature with a lookup key now. It is one lookup in an index. A customer of whom
// no event has come has no entitlements. The error wraps ErrIncomplete if the entitlement is not among the stored ones, and these
// are not all.
func (r *Reader) Has(ctx context.Context, customerID, lookupKey string) (bool, error) {
	found, err := r.queries.EntitlementFind(ctx, r.db, lookupKey, customerID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look up the entitlement %s of %s: %w", lookupKey, customerID, err)
	case !found.Has && !found.ListsComplete:
		return false, fmt.Errorf("entitlement %s of %s: %w", lookupKey, customerID, ErrIncomplete)
	}
	return found.Has, nil
}

// List returns the active entitlements of a customer (cus_…), in Stripe's order. If these are not all, it returns them with an error
// that wraps ErrIncomplete.
func (r *Reader) List(ctx context.Context, customerID string) ([]Entitlement, error) {
	row, err := r.queries.EntitlementSummaryGet(ctx, r.db, customerID)
	if errors.Is(err, pgx.ErrNoRows) {
		return []Entitlement{}, nil
	}
	var all []Entitlement
	if err == nil {
		all, err = Decode(row.Object)
	}
	if err == nil && !row.ListsComplete {
		err = ErrIncomplete
	}
	if err != nil {
		return all, fmt.Errorf("list the entitlements of %s: %w", customerID, err)
	}
	return all, nil
}
