package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/ordering"
	"github.com/pook/stripeonce/internal/pgpipe"
)

// Accounts lists the accounts that have rows.
func (s store) Accounts(ctx context.Context, db pgpipe.DBTX) ([]string, error) {
	return s.queries.ObjectAccountList(ctx, db)
}

// Version is that of most of the newest rows, so that few objects are read in another one.
func (s store) Version(ctx context.Context, dbtx pgpipe.DBTX, account string, livemode *bool) (string, error) {
	return s.queries.ObjectVersion(ctx, dbtx, db.ObjectVersionParams{AccountID: account, Livemode: engine.OrZero(livemode), ObjectType: s.Object})
}

// Rows reads whole rows.
func (s store) Rows(ctx context.Context, dbtx pgpipe.DBTX, keys []engine.Key) ([]*storedRow, error) {
	params := db.ObjectListByKeyParams{ObjectType: s.Object}
	for _, key := range keys {
		params.AccountIds, params.Livemodes, params.Ids = append(params.AccountIds, key.Account), append(params.Livemodes, key.Livemode), append(params.Ids, key.ID)
	}
	list, err := s.queries.ObjectListByKey(ctx, dbtx, params)
	if err != nil {
		return nil, err
	}
	rows := make([]*storedRow, len(list))
	for i := range list {
		rows[i] = s.storedFrom(&list[i])
	}
	return rows, nil
}

// Keys lists the rows of a span. A key that does not show its mode counts as one of test mode.
func (s store) Keys(ctx context.Context, dbtx pgpipe.DBTX, span engine.Span) (keys []engine.DatedKey, err error) {
	livemode := engine.OrZero(span.Livemode)
	rows, err := s.queries.ObjectKeyList(ctx, dbtx, db.ObjectKeyListParams{
		AccountID: span.Account, Livemode: livemode, ObjectType: s.Object, CreatedAfter: &span.After,
		Before: span.Before, BeforeID: span.BeforeID, MaxRows: engine.KeyPage,
	})
	for _, row := range rows {
		keys = append(keys, engine.DatedKey{Key: engine.Key{Account: span.Account, Livemode: livemode, ID: row.ID}, Created: row.StripeCreatedAt})
	}
	return keys, err
}

// CustomerKeys lists the rows of a customer.
func (s store) CustomerKeys(ctx context.Context, dbtx pgpipe.DBTX, account string, livemode *bool, customer, after string) (keys []engine.Key, err error) {
	ids, err := s.queries.ObjectKeyListByCustomer(ctx, dbtx, db.ObjectKeyListByCustomerParams{
		CustomerID: customer, ObjectType: s.Object, AccountID: account, Livemode: engine.OrZero(livemode), AfterID: after, MaxRows: engine.KeyPage,
	})
	for _, id := range ids {
		keys = append(keys, engine.Key{Account: account, Livemode: engine.OrZero(livemode), ID: id})
	}
	return keys, err
}

// UndatedKeys lists the rows without a creation time.
func (s store) UndatedKeys(ctx context.Context, dbtx pgpipe.DBTX, account string, livemode *bool, after string) (keys []engine.Key, err error) {
	ids, err := s.queries.ObjectKeyListUndated(ctx, dbtx, db.ObjectKeyListUndatedParams{
		AccountID: account, Livemode: engine.OrZero(livemode), ObjectType: s.Object, AfterID: after, MaxRows: engine.KeyPage,
	})
	for _, id := range ids {
		keys = append(keys, engine.Key{Account: account, Livemode: engine.OrZero(livemode), ID: id})
	}
	return keys, err
}

// IncompleteKeys lists the rows of whose lists only a part is stored.
func (s store) IncompleteKeys(ctx context.Context, dbtx pgpipe.DBTX, livemode *bool, after engine.Key, most int) (keys []engine.Key, err error) {
	rows, err := s.queries.ObjectIncompleteList(ctx, dbtx, db.ObjectIncompleteListParams{
		ObjectType: s.Object, AfterAccountID: after.Account, AfterLivemode: after.Livemode, AfterID: after.ID, Livemode: livemode, MaxRows: int32(most),
	})
	for _, row := range rows {
		keys = append(keys, engine.Key{Account: row.AccountID, Livemode: row.Livemode, ID: row.ID})
	}
	return keys, err
}

// LockCompletion lets one process complete rows at a time.
func (s store) LockCompletion(ctx context.Context, tx pgpipe.DBTX) (bool, error) {
	return s.queries.ServerWorkLockTry(ctx, tx, "complete")
}

// Differences compares the members of the objects, and the columns that are made of them. A member that one side lacks is null
// there.
func (s store) Differences(id string, local, stripe *Object) []engine.Difference {
	var found []engine.Difference
	if local.Deleted != stripe.Deleted {
		found = append(found, engine.Difference{ID: id, Field: "deleted", Local: local.Deleted, Stripe: stripe.Deleted})
	}
	if !local.Complete || !stripe.Complete {
		found = append(found, engine.Difference{ID: id, Field: "lists_complete", Local: local.Complete, Stripe: !local.Complete, Incomplete: true})
	}
	for _, column := range []struct{ name, local, stripe string }{
		{"customer_id", local.CustomerID, stripe.CustomerID}, {"subscription_id", local.SubscriptionID, stripe.SubscriptionID},
		{"status", local.Status, stripe.Status}, {"stripe_created_at", dateOf(local), dateOf(stripe)},
	} {
		if column.local != column.stripe && s.sameObject(local, stripe) { // else the object's own member says so
			found = append(found, engine.Difference{ID: id, Field: column.name, Local: column.local, Stripe: column.stripe})
		}
	}
	rules := s.ordering()
	here, there := membersOf(local.Object), membersOf(stripe.Object)
	names := maps.Clone(here)
	maps.Copy(names, there)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if name == "deleted" {
			continue
		}
		a, b := map[string]any{name: here[name]}, map[string]any{name: there[name]}
		if rules.Canonical(a) != rules.Canonical(b) {
			found = append(found, engine.Difference{ID: id, Field: name, Local: ordering.Plain(here[name]), Stripe: ordering.Plain(there[name])})
		}
	}
	return found
}

// sameObject reports whether two states have the same object.
func (s store) sameObject(a, b *Object) bool {
	return s.ordering().Digest(a.Object) == s.ordering().Digest(b.Object)
}

func dateOf(o *Object) string {
	if o.Created == nil {
		return ""
	}
	return o.Created.UTC().Format(time.RFC3339)
}

func membersOf(object json.RawMessage) map[string]any {
	members, _ := ordering.Decode(bytes.TrimSpace(object)).(map[string]any)
	return members
}
