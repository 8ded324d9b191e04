package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/webhooks"
)

// Config configures the projection. The zero value is fine.
type Config struct {
	// OnChange is called for each real change of a subscription's state, in the transaction that writes
	// it and under a lock of that subscription; never for a duplicate, a stale event, or an event that
	// says nothing new. An error undoes the whole event, which Stripe then sends again. Nil: none.
	OnChange func(ctx context.Context, tx pgx.Tx, c Change) error
}

// Change is one change of a subscription.
type Change struct {
	Before *Subscription   // nil on the first
	After  *Subscription   // never nil
	Event  *webhooks.Event // the event that brought it
}

// Register adds the projection of every customer.subscription.* event to h. A nil config is the zero one.
func Register(h *webhooks.Handlers, config *Config) {
	p := &projection{queries: db.New()}
	if config != nil {
		p.config = *config
	}
	webhooks.Project(h, "customer.subscription.*", p.apply)
}

type projection struct {
	queries *db.Queries
	config  Config
}

// apply makes the stored subscription that of the event, unless it is newer already.
func (p *projection) apply(ctx context.Context, tx pgx.Tx, ev *webhooks.Event) (changed bool, err error) {
	after, err := decode(ev)
	if err != nil {
		return false, err
	}
	if err := p.queries.SubscriptionLock(ctx, tx, after.ID); err != nil {
		return false, fmt.Errorf("lock subscription %s: %w", after.ID, err)
	}
	before, err := New(tx).Get(ctx, after.ID)
	if errors.Is(err, ErrNotFound) {
		before, err = nil, nil
	}
	if err != nil {
		return false, err
	}
	if before != nil && !supersedes(after, ev.Type, before) {
		return false, nil
	}
	if err := p.store(ctx, tx, before, after); err != nil {
		return false, err
	}
	// An event that says nothing new has moved the row's place in the order, which later ones need.
	if before != nil && sameState(before, after) {
		return false, nil
	}
	if p.config.OnChange == nil {
		return true, nil
	}
	return true, p.config.OnChange(ctx, tx, Change{Before: before, After: after, Event: ev})
}

func (p *projection) store(ctx context.Context, tx pgx.Tx, before, after *Subscription) error {
	params, err := after.upsertParams()
	if err != nil {
		return err
	}
	times, err := p.queries.SubscriptionUpsert(ctx, tx, params)
	if err != nil {
		return fmt.Errorf("store subscription %s: %w", after.ID, err)
	}
	after.CreatedAt, after.UpdatedAt = times.CreatedAt.UTC(), times.UpdatedAt.UTC()
	if before != nil && reflect.DeepEqual(before.Items, after.Items) {
		return nil
	}
	items, err := after.itemRows()
	if err != nil {
		return err
	}
	if err := p.queries.SubscriptionItemReplace(ctx, tx, after.ID, items); err != nil {
		return fmt.Errorf("store the items of subscription %s: %w", after.ID, err)
	}
	return nil
}
