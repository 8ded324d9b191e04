package subscriptions

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/rawjson"
	"github.com/pook/stripeonce/webhooks"
)

// store reads and writes the tables for the engine.
type store struct{ queries *db.Queries }

var _ engine.Store[Subscription] = store{}

// Key is the id alone: Stripe's ids of subscriptions are unique across accounts and modes.
func (store) Key(_ string, _ bool, id string) engine.Key       { return engine.Key{ID: id} }
func (store) Decode(ev *webhooks.Event) (*Subscription, error) { return decode(ev) }
func (store) Head(s *Subscription) engine.Head                 { return headOf(s) }
func (store) Digest(s *Subscription) []byte                    { return digestOf(s) }
func (store) Same(a, b *Subscription) bool                     { return sameState(a, b) }
func (store) Clone(s *Subscription) *Subscription              { return s.clone() }

// Clock returns PostgreSQL's time.
func (s store) Clock(ctx context.Context, db pgpipe.DBTX) (*time.Time, error) {
	at, err := s.queries.ServerClock(ctx, db)
	return engine.UTC(&at), engine.Wrap(err, "read the server's clock")
}

// Ordering reads the columns that order events.
func (s store) Ordering(ctx context.Context, dbtx pgpipe.DBTX, key engine.Key, created *time.Time, unlessApplied string) (*storedRow, error) {
	row, err := s.queries.SubscriptionOrdering(ctx, dbtx, db.SubscriptionOrderingParams{EventCreatedAt: created, ID: key.ID, UnlessApplied: unlessApplied})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, engine.Wrap(err, "get subscription %s", key.ID)
	}
	return storedOrdering(key.ID, &row), nil
}

// Load reads a row with its items.
func (s store) Load(ctx context.Context, dbtx pgpipe.DBTX, key engine.Key, unlessApplied string) (*storedRow, error) {
	row, err := s.queries.SubscriptionGet(ctx, dbtx, key.ID, unlessApplied)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, engine.Wrap(err, "get subscription %s", key.ID)
	}
	return storedFrom((*db.SubscriptionListRow)(&row))
}

// Write returns the queries that write a version.
func (s store) Write(stored *storedRow, next *version, at *time.Time) ([]pgpipe.Query, error) {
	next.Digest, next.Revision = digestOf(next.State), engine.RevisionOf(stored)+1
	next.State = keepOrder(keepItems(next.State, stored), stored)
	params, err := upsertParams(next)
	if err != nil {
		return nil, err
	}
	if params.WrittenAt = at; at != nil {
		next.State.CreatedAt, next.State.UpdatedAt = *at, *at
		if stored != nil {
			next.State.CreatedAt = stored.State.CreatedAt
		}
	}
	upsert := func(ctx context.Context, db pgpipe.DBTX) error {
		rows, err := s.queries.SubscriptionUpsert(ctx, db, params)
		if err == nil && rows == 0 {
			err = fault.ErrNotReadBack
		}
		return engine.Wrap(err, "store subscription %s", params.ID)
	}
	items, err := s.writeItems(stored, next)
	return append([]pgpipe.Query{upsert}, items...), err
}

// writeItems returns the queries that write the items that differ, or may differ, from the stored ones.
func (s store) writeItems(stored *storedRow, next *version) (queries []pgpipe.Query, err error) {
	sub := next.State
	before, keepsAll := itemsBefore(stored, next)
	for i := range sub.Items {
		if i < len(before) && reflect.DeepEqual(before[i], sub.Items[i]) {
			continue
		}
		params, err := itemParams(sub.ID, i, &sub.Items[i])
		if err != nil {
			return nil, err
		}
		queries = append(queries, func(ctx context.Context, db pgpipe.DBTX) error {
			return engine.Wrap(s.queries.SubscriptionItemUpsert(ctx, db, params), "store item %s of subscription %s", params.ID, sub.ID)
		})
	}
	if keepsAll {
		return queries, nil
	}
	ids := itemIDs(sub.Items)
	return append(queries, func(ctx context.Context, db pgpipe.DBTX) error {
		return engine.Wrap(s.queries.SubscriptionItemDeleteOthers(ctx, db, sub.ID, ids), "remove items of subscription %s", sub.ID)
	}), nil
}

// Stub reports whether an object is {"id", "object", "deleted": true}.
func (store) Stub(object []byte) bool {
	return rawjson.IsTrue(object, "deleted") && rawjson.Get(object, "status") == nil
}

// Tombstone is a canceled subscription. OnChange is not called for it: there is no state that it could have changed from, and no
// customer.
func (store) Tombstone(key engine.Key, ev *webhooks.Event, asOf time.Time) *Subscription {
	return &Subscription{
		ID: key.ID, Status: StatusCanceled, EndedAt: &asOf, Metadata: map[string]string{}, ItemsComplete: true, Livemode: ev.Livemode,
		AccountID: ev.Account, Object: ev.Object, LastEventID: ev.ID, LastEventCreatedAt: engine.CreatedAt(ev),
	}
}

// Gone returns the stored subscription as canceled.
func (store) Gone(stored *storedRow, ev *webhooks.Event, asOf time.Time) (*Subscription, error) {
	sub := stored.State.clone()
	sub.Status = StatusCanceled
	if sub.CanceledAt == nil {
		sub.CanceledAt = &asOf
	}
	if sub.EndedAt == nil {
		sub.EndedAt = &asOf
	}
	sub.LastEventID, sub.LastEventCreatedAt = "", nil
	if ev != nil {
		sub.LastEventID, sub.LastEventCreatedAt = ev.ID, engine.CreatedAt(ev)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(stored.Object, &members); err != nil {
		return nil, err
	}
	for name, value := range map[string]any{"status": sub.Status, "canceled_at": sub.CanceledAt.Unix(), "ended_at": sub.EndedAt.Unix()} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		members[name] = text
	}
	object, err := json.Marshal(members)
	sub.Object = object
	return sub, err
}

// Accounts lists the accounts that have rows.
func (s store) Accounts(ctx context.Context, db pgpipe.DBTX) ([]string, error) {
	return s.queries.SubscriptionAccountList(ctx, db)
}

// Version is the first API version that has billing_mode and a period on each item. States do not differ by version.
// See https://docs.stripe.com/changelog/basil/2025-06-30/billing-mode.
func (store) Version(context.Context, pgpipe.DBTX, string, *bool) (string, error) {
	return "2025-06-30.basil", nil
}

// Rows reads whole rows by their ids.
func (s store) Rows(ctx context.Context, dbtx pgpipe.DBTX, keys []engine.Key) ([]*storedRow, error) {
	ids := make([]string, len(keys))
	for i, key := range keys {
		ids[i] = key.ID
	}
	list, err := s.queries.SubscriptionList(ctx, dbtx, db.SubscriptionListParams{Ids: ids})
	if err != nil {
		return nil, err
	}
	rows := make([]*storedRow, len(list))
	for i := range list {
		if rows[i], err = storedFrom(&list[i]); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// Keys lists the rows of a span.
func (s store) Keys(ctx context.Context, dbtx pgpipe.DBTX, span engine.Span) (keys []engine.DatedKey, err error) {
	rows, err := s.queries.SubscriptionKeyList(ctx, dbtx, db.SubscriptionKeyListParams{
		AccountID: span.Account, CreatedAfter: &span.After, Before: span.Before, BeforeID: span.BeforeID, Livemode: span.Livemode, MaxRows: engine.KeyPage,
	})
	for _, row := range rows {
		keys = append(keys, engine.DatedKey{Key: engine.Key{ID: row.ID}, Created: row.StripeCreatedAt})
	}
	return keys, err
}

// CustomerKeys lists the rows of a customer.
func (s store) CustomerKeys(ctx context.Context, dbtx pgpipe.DBTX, account string, livemode *bool, customer, after string) (keys []engine.Key, err error) {
	ids, err := s.queries.SubscriptionKeyListByCustomer(ctx, dbtx, db.SubscriptionKeyListByCustomerParams{
		CustomerID: customer, AccountID: account, Livemode: livemode, AfterID: after, MaxRows: engine.KeyPage,
	})
	for _, id := range ids {
		keys = append(keys, engine.Key{ID: id})
	}
	return keys, err
}

// UndatedKeys lists the rows without a creation time.
func (s store) UndatedKeys(ctx context.Context, dbtx pgpipe.DBTX, account string, livemode *bool, after string) (keys []engine.Key, err error) {
	ids, err := s.queries.SubscriptionKeyListUndated(ctx, dbtx, db.SubscriptionKeyListUndatedParams{
		AccountID: account, Livemode: livemode, AfterID: after, MaxRows: engine.KeyPage,
	})
	for _, id := range ids {
		keys = append(keys, engine.Key{ID: id})
	}
	return keys, err
}

// IncompleteKeys lists the rows of which only a part of the items is stored.
func (s store) IncompleteKeys(ctx context.Context, dbtx pgpipe.DBTX, livemode *bool, after engine.Key, most int) (keys []engine.Key, err error) {
	rows, err := s.queries.SubscriptionIncompleteList(ctx, dbtx, db.SubscriptionIncompleteListParams{Livemode: livemode, AfterID: after.ID, MaxRows: int32(most)})
	for _, row := range rows {
		keys = append(keys, engine.Key{Account: row.AccountID, ID: row.ID})
	}
	return keys, err
}

// LockCompletion lets one process complete items at a time.
func (s store) LockCompletion(ctx context.Context, tx pgpipe.DBTX) (bool, error) {
	return s.queries.ServerWorkLockTry(ctx, tx, "complete")
}

// Differences compares fields.
func (store) Differences(id string, local, stripe *Subscription) []engine.Difference {
	return differences(id, local, stripe)
}
