package subscriptions

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
)

// storedRow is a row with the columns that order events, and version is a new state with these.
type (
	storedRow = engine.Row[Subscription]
	version   = engine.Version[Subscription]
)

func storedFrom(row *db.SubscriptionListRow) (*storedRow, error) {
	sub, err := fromRow(row)
	if err != nil {
		return nil, err
	}
	return &storedRow{
		Head: headOf(sub), State: sub, Whole: true, Revision: row.Revision, AsOf: engine.UTC(row.AsOf), APIVersion: engine.OrZero(row.ApiVersion),
		Events: row.NewestEvents, Digest: engine.StoredDigest(row.Digest, row.Revision),
	}, nil
}

func storedOrdering(id string, row *db.SubscriptionOrderingRow) *storedRow {
	sub := &Subscription{
		ID: id, Status: Status(row.Status), Livemode: row.Livemode, AccountID: engine.OrZero(row.AccountID), Object: engine.JSON(row.Object),
		LastEventID: engine.OrZero(row.LastEventID), LastEventCreatedAt: engine.UTC(row.LastEventCreatedAt), UpdatedAt: row.UpdatedAt.UTC(),
	}
	return &storedRow{
		Head: headOf(sub), State: sub, Revision: row.Revision, AsOf: engine.UTC(row.AsOf), APIVersion: engine.OrZero(row.ApiVersion),
		Events: engine.JSON(row.NewestEvents), Digest: engine.StoredDigest(row.Digest, row.Revision),
	}
}

func headOf(s *Subscription) engine.Head {
	return engine.Head{
		ID: s.ID, Account: s.AccountID, Livemode: s.Livemode, Terminal: s.Status.Terminal(), Ended: s.Status.Terminal(), Complete: s.ItemsComplete, Created: s.Created,
		Object: s.Object, EventID: s.LastEventID, EventCreated: s.LastEventCreatedAt, UpdatedAt: s.UpdatedAt,
	}
}

// itemsBefore returns the stored items, or nil if they are not known, and whether none of them must be deleted. Equal
// items in another order count as the version's items: an event that changes no item writes none, and the positions stay.
func itemsBefore(s *storedRow, next *version) (items []Item, keepsAll bool) {
	truncated := !next.State.ItemsComplete
	switch {
	case s == nil:
		return nil, true
	case s.Whole && sameItems(s.State.Items, next.State.Items), !s.Whole && digest(next.Digest).sameItems(s.Digest):
		return next.State.Items, true
	case !s.Whole:
		return nil, truncated || digest(next.Digest).sameItemIDs(s.Digest)
	case !s.State.ItemsComplete: // its positions need not be 0, 1, 2 and so on
		items = nil
	default:
		items = s.State.Items
	}
	return items, truncated || slices.Equal(itemIDs(s.State.Items), itemIDs(next.State.Items))
}

// keepItems adds the stored items that a truncated list lacks, since they may be on a further page of Stripe's list. If
// only the digest of the row is known, they stay in the table without being added here.
func keepItems(sub *Subscription, stored *storedRow) *Subscription {
	if sub.ItemsComplete || stored == nil || !stored.Whole {
		return sub
	}
	listed := make(map[string]bool, len(sub.Items))
	for i := range sub.Items {
		listed[sub.Items[i].ID] = true
	}
	merged := *sub
	merged.Items = slices.Clone(sub.Items)
	for i := range stored.State.Items {
		if !listed[stored.State.Items[i].ID] {
			merged.Items = append(merged.Items, stored.State.Items[i])
		}
	}
	return &merged
}

// keepOrder gives the items the stored order if they are the same items: the stored positions stay.
func keepOrder(sub *Subscription, stored *storedRow) *Subscription {
	if len(sub.Items) < 2 || stored == nil || !stored.Whole || !sameItems(stored.State.Items, sub.Items) {
		return sub
	}
	ordered := *sub
	ordered.Items = slices.Clone(sub.Items)
	at := make(map[string]int, len(stored.State.Items))
	for i := range stored.State.Items {
		at[stored.State.Items[i].ID] = i
	}
	slices.SortStableFunc(ordered.Items, func(a, b Item) int { return at[a.ID] - at[b.ID] })
	return &ordered
}

// itemIDs returns the sorted ids of items.
func itemIDs(items []Item) []string {
	ids := make([]string, len(items))
	for i := range items {
		ids[i] = items[i].ID
	}
	slices.Sort(ids)
	return ids
}

// fromRow returns the Subscription of a row and the JSON array of its items.
func fromRow(row *db.SubscriptionListRow) (*Subscription, error) {
	sub := &Subscription{
		ID:                     row.ID,
		CustomerID:             engine.OrZero(row.CustomerID),
		Status:                 Status(row.Status),
		PriceID:                engine.OrZero(row.PriceID),
		Quantity:               row.Quantity,
		Currency:               engine.OrZero(row.Currency),
		CancelAtPeriodEnd:      row.CancelAtPeriodEnd,
		CancelAt:               engine.UTC(row.CancelAt),
		CanceledAt:             engine.UTC(row.CanceledAt),
		EndedAt:                engine.UTC(row.EndedAt),
		CurrentPeriodStart:     engine.UTC(row.CurrentPeriodStart),
		CurrentPeriodEnd:       engine.UTC(row.CurrentPeriodEnd),
		TrialStart:             engine.UTC(row.TrialStart),
		TrialEnd:               engine.UTC(row.TrialEnd),
		CollectionMethod:       engine.OrZero(row.CollectionMethod),
		LatestInvoiceID:        engine.OrZero(row.LatestInvoiceID),
		CustomerAccountID:      engine.OrZero(row.CustomerAccountID),
		PauseCollection:        readPause(row.PauseCollection),
		ScheduleID:             engine.OrZero(row.ScheduleID),
		DefaultPaymentMethodID: engine.OrZero(row.DefaultPaymentMethodID),
		BillingMode:            engine.OrZero(row.BillingMode),
		ItemsComplete:          row.ItemsComplete,
		Livemode:               row.Livemode,
		AccountID:              engine.OrZero(row.AccountID),
		Created:                engine.UTC(row.StripeCreatedAt),
		Object:                 row.Object,
		LastEventID:            engine.OrZero(row.LastEventID),
		LastEventCreatedAt:     engine.UTC(row.LastEventCreatedAt),
		CreatedAt:              row.CreatedAt.UTC(),
		UpdatedAt:              row.UpdatedAt.UTC(),
	}
	if len(row.DiscountIds) > 0 {
		sub.DiscountIDs = row.DiscountIds
	}
	if err := json.Unmarshal(row.Metadata, &sub.Metadata); err != nil {
		return nil, fmt.Errorf("metadata of subscription %s: %w", row.ID, err)
	}
	if err := json.Unmarshal(row.Items, &sub.Items); err != nil {
		return nil, fmt.Errorf("items of subscription %s: %w", row.ID, err)
	}
	if len(sub.Items) == 0 {
		sub.Items = nil
	}
	for i := range sub.Items {
		item := &sub.Items[i]
		item.CurrentPeriodStart, item.CurrentPeriodEnd = engine.UTC(item.CurrentPeriodStart), engine.UTC(item.CurrentPeriodEnd)
	}
	return sub, nil
}

func upsertParams(v *version) (db.SubscriptionUpsertParams, error) {
	s := v.State
	metadata, err := json.Marshal(s.Metadata)
	var pause json.RawMessage
	if s.PauseCollection != nil {
		pause = s.PauseCollection.Object
	}
	return db.SubscriptionUpsertParams{
		ID:                 s.ID,
		CustomerID:         engine.NilIfEmpty(s.CustomerID),
		Status:             string(s.Status),
		PriceID:            engine.NilIfEmpty(s.PriceID),
		Quantity:           s.Quantity,
		Currency:           engine.NilIfEmpty(s.Currency),
		CancelAtPeriodEnd:  s.CancelAtPeriodEnd,
		CancelAt:           s.CancelAt,
		CanceledAt:         s.CanceledAt,
		EndedAt:            s.EndedAt,
		CurrentPeriodStart: s.CurrentPeriodStart,
		CurrentPeriodEnd:   s.CurrentPeriodEnd,
		TrialStart:         s.TrialStart,
		TrialEnd:           s.TrialEnd,
		CollectionMethod:   engine.NilIfEmpty(s.CollectionMethod),
		LatestInvoiceID:    engine.NilIfEmpty(s.LatestInvoiceID),
		Metadata:           metadata,
		Livemode:           s.Livemode,
		AccountID:          engine.NilIfEmpty(s.AccountID),
		StripeCreatedAt:    s.Created,

		PauseCollection:        pause,
		CustomerAccountID:      engine.NilIfEmpty(s.CustomerAccountID),
		ScheduleID:             engine.NilIfEmpty(s.ScheduleID),
		DefaultPaymentMethodID: engine.NilIfEmpty(s.DefaultPaymentMethodID),
		BillingMode:            engine.NilIfEmpty(s.BillingMode),
		DiscountIds:            append([]string{}, s.DiscountIDs...), // not null
		ItemsComplete:          s.ItemsComplete,

		Object:             s.Object,
		LastEventID:        engine.NilIfEmpty(s.LastEventID),
		LastEventCreatedAt: s.LastEventCreatedAt,
		AsOf:               v.AsOf,
		NewestEvents:       v.NewestJSON(s.LastEventID),
		ApiVersion:         engine.NilIfEmpty(v.APIVersion),
		Digest:             engine.DigestAt(v.Digest, v.Revision),
	}, err
}

func itemParams(subscription string, position int, item *Item) (db.SubscriptionItemUpsertParams, error) {
	metadata, err := json.Marshal(item.Metadata)
	return db.SubscriptionItemUpsertParams{
		SubscriptionID:     subscription,
		ID:                 item.ID,
		Position:           int32(position),
		PriceID:            engine.NilIfEmpty(item.PriceID),
		ProductID:          engine.NilIfEmpty(item.ProductID),
		Quantity:           item.Quantity,
		CurrentPeriodStart: item.CurrentPeriodStart,
		CurrentPeriodEnd:   item.CurrentPeriodEnd,
		Metadata:           metadata,
	}, err
}
