package subscriptions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/db"
)

// ErrNotFound reports that there is no such subscription. The methods of Reader wrap it for a subscription that is not stored, and
// Verify for the one of VerifyConfig.Only if neither Stripe nor the table has it.
var ErrNotFound = errors.New("no such subscription")

// Reader reads subscriptions through a pool, a connection or a transaction. Each call is one statement, so a subscription
// and its items are consistent.
type Reader struct {
	db      db.DBTX
	queries *db.Queries
}

// New returns a Reader on conn: a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx.
func New(conn db.DBTX) *Reader { return &Reader{conn, db.New()} }

// Get returns a subscription by Stripe's id. The error wraps ErrNotFound if there is none.
func (r *Reader) Get(ctx context.Context, id string) (*Subscription, error) {
	list, err := r.list(ctx, db.SubscriptionListParams{Ids: []string{id}})
	if err != nil {
		return nil, fmt.Errorf("get subscription %s: %w", id, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	return list[0], nil
}

// List returns subscriptions by Stripe's ids, in the order of the ids. Subscriptions that are not stored are left out.
func (r *Reader) List(ctx context.Context, ids []string) ([]*Subscription, error) {
	position := make(map[string]int, len(ids))
	for i, id := range ids {
		position[id] = i
	}
	list, err := r.list(ctx, db.SubscriptionListParams{Ids: slices.Collect(maps.Keys(position))})
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	slices.SortFunc(list, func(a, b *Subscription) int { return position[a.ID] - position[b.ID] })
	return list, nil
}

// ListByCustomer returns a customer's subscriptions, the newest first by Stripe's creation time.
func (r *Reader) ListByCustomer(ctx context.Context, customerID string) ([]*Subscription, error) {
	list, err := r.list(ctx, db.SubscriptionListParams{CustomerID: &customerID})
	if err != nil {
		return nil, fmt.Errorf("list the subscriptions of %s: %w", customerID, err)
	}
	slices.SortFunc(list, func(a, b *Subscription) int {
		return cmp.Or(newestFirst(a.Created, b.Created), strings.Compare(b.ID, a.ID))
	})
	return list, nil
}

// newestFirst orders times, the unknown ones last.
func newestFirst(a, b *time.Time) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return b.Compare(*a)
}

func (r *Reader) list(ctx context.Context, params db.SubscriptionListParams) ([]*Subscription, error) {
	rows, err := r.queries.SubscriptionList(ctx, r.db, params)
	if err != nil {
		return nil, err
	}
	list := make([]*Subscription, len(rows))
	for i := range rows {
		if list[i], err = fromRow(&rows[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Current returns the subscription that decides what a customer is entitled to: the newest that is active or trialing,
// else the newest that is past_due, else the newest that has not ended, else the newest. The error wraps ErrNotFound if
// the customer has none.
func (r *Reader) Current(ctx context.Context, customerID string) (*Subscription, error) {
	list, err := r.ListByCustomer(ctx, customerID)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("of customer %s: %w", customerID, ErrNotFound)
	}
	// MinFunc returns the first of equal elements, and the list begins with the newest.
	return slices.MinFunc(list, func(a, b *Subscription) int { return rank(a.Status) - rank(b.Status) }), nil
}

func rank(s Status) int {
	switch {
	case s.Entitled():
		return 0
	case s == StatusPastDue:
		return 1
	case !s.Terminal():
		return 2
	default:
		return 3
	}
}
