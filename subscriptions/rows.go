package subscriptions

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pook/stripeonce/db"
)

// storedRow is a row with the columns that order events.
type storedRow struct {
	*Subscription
	revision   int64
	asOf       *time.Time
	apiVersion string
	events     json.RawMessage // the events of the row's second, see newest
	digest     digest
	whole      bool // false: Subscription has only the columns that SubscriptionOrdering reads
}

// revisionOf returns the revision of a row, or 0 for nil.
func revisionOf(row *storedRow) int64 {
	if row == nil {
		return 0
	}
	return row.revision
}

func storedFrom(row *db.SubscriptionListRow) (*storedRow, error) {
	sub, err := fromRow(row)
	if err != nil {
		return nil, err
	}
	return &storedRow{
		Subscription: sub, revision: row.Revision, asOf: utc(row.AsOf), apiVersion: orZero(row.ApiVersion),
		events: row.NewestEvents, digest: storedDigest(row.Digest, row.Revision), whole: true,
	}, nil
}

func storedOrdering(id string, row *db.SubscriptionOrderingRow) *storedRow {
	sub := &Subscription{
		ID: id, Status: Status(row.Status), Livemode: row.Livemode, AccountID: orZero(row.AccountID), Object: row.Object,
		LastEventID: orZero(row.LastEventID), LastEventCreatedAt: utc(row.LastEventCreatedAt), UpdatedAt: row.UpdatedAt.UTC(),
	}
	return &storedRow{
		Subscription: sub, revision: row.Revision, asOf: utc(row.AsOf), apiVersion: orZero(row.ApiVersion),
		events: row.NewestEvents, digest: storedDigest(row.Digest, row.Revision),
	}
}

// newest returns the events of the row's second.
func (s *storedRow) newest() (set []occurrence, err error) {
	if err := json.Unmarshal(s.events, &set); err != nil {
		return nil, fmt.Errorf("newest events of subscription %s: %w", s.ID, err)
	}
	found := false
	for i := range set {
		if set[i].ID == s.LastEventID {
			set[i].Object, found = s.Object, true
		}
	}
	if !found && s.asOf == nil && s.LastEventID != "" {
		// An earlier version wrote the row without the set: its event is a state without a step.
		set = with(set, occurrence{ID: s.LastEventID, Object: s.Object})
	}
	return set, nil
}

// hasState reports whether a version has the stored state.
func (s *storedRow) hasState(next *version) bool {
	if s.whole {
		return sameState(s.Subscription, next.sub)
	}
	return next.digest.equal(s.digest)
}

// itemsBefore returns the stored items, or nil if they are not known, and whether none of them must be deleted. Equal
// items in another order count as the version's items: an event that changes no item writes none, and the positions stay.
func (s *storedRow) itemsBefore(next *version) (items []Item, keepsAll bool) {
	truncated := !next.sub.ItemsComplete
	switch {
	case s == nil:
		return nil, true
	case s.whole && sameItems(s.Items, next.sub.Items), !s.whole && next.digest.sameItems(s.digest):
		return next.sub.Items, true
	case !s.whole:
		return nil, truncated || next.digest.sameItemIDs(s.digest)
	case !s.ItemsComplete: // its positions need not be 0, 1, 2 and so on
		items = nil
	default:
		items = s.Items
	}
	return items, truncated || slices.Equal(itemIDs(s.Items), itemIDs(next.sub.Items))
}

// keepItems adds the stored items that a truncated list lacks, since they may be on a further page of Stripe's list. If
// only the digest of the row is known, they stay in the table without being added here.
func (v *version) keepItems(stored *storedRow) {
	if v.sub.ItemsComplete || stored == nil || !stored.whole {
		return
	}
	listed := make(map[string]bool, len(v.sub.Items))
	for i := range v.sub.Items {
		listed[v.sub.Items[i].ID] = true
	}
	merged := *v.sub
	merged.Items = slices.Clone(v.sub.Items)
	for i := range stored.Items {
		if !listed[stored.Items[i].ID] {
			merged.Items = append(merged.Items, stored.Items[i])
		}
	}
	v.sub = &merged
}

// keepOrder gives the items the stored order if they are the same items: the stored positions stay.
func (v *version) keepOrder(stored *storedRow) {
	if len(v.sub.Items) < 2 || stored == nil || !stored.whole || !sameItems(stored.Items, v.sub.Items) {
		return
	}
	ordered := *v.sub
	ordered.Items = slices.Clone(v.sub.Items)
	at := make(map[string]int, len(stored.Items))
	for i := range stored.Items {
		at[stored.Items[i].ID] = i
	}
	slices.SortStableFunc(ordered.Items, func(a, b Item) int { return at[a.ID] - at[b.ID] })
	v.sub = &ordered
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

// version is a new state of a subscription, with the columns that order later events.
type version struct {
	sub        *Subscription
	asOf       *time.Time
	apiVersion string
	newest     []occurrence
	tombstone  bool   // nothing is known of it but that it was deleted
	digest     digest // set by store
	revision   int64  // of the row, set by store; the lock keeps others from writing it
}

// newestRows returns newest as JSON. The object of the row's own event is left out: the row has it.
func (v *version) newestRows() json.RawMessage {
	rows := []byte{'['}
	for i, o := range v.newest {
		if i > 0 {
			rows = append(rows, ',')
		}
		if o.ID == v.sub.LastEventID {
			o.Object = nil
		}
		rows = o.appendJSON(rows)
	}
	return append(rows, ']')
}

// fromRow returns the Subscription of a row and the JSON array of its items.
func fromRow(row *db.SubscriptionListRow) (*Subscription, error) {
	sub := &Subscription{
		ID:                     row.ID,
		CustomerID:             orZero(row.CustomerID),
		Status:                 Status(row.Status),
		PriceID:                orZero(row.PriceID),
		Quantity:               row.Quantity,
		Currency:               orZero(row.Currency),
		CancelAtPeriodEnd:      row.CancelAtPeriodEnd,
		CancelAt:               utc(row.CancelAt),
		CanceledAt:             utc(row.CanceledAt),
		EndedAt:                utc(row.EndedAt),
		CurrentPeriodStart:     utc(row.CurrentPeriodStart),
		CurrentPeriodEnd:       utc(row.CurrentPeriodEnd),
		TrialStart:             utc(row.TrialStart),
		TrialEnd:               utc(row.TrialEnd),
		CollectionMethod:       orZero(row.CollectionMethod),
		LatestInvoiceID:        orZero(row.LatestInvoiceID),
		CustomerAccountID:      orZero(row.CustomerAccountID),
		PauseCollection:        readPause(row.PauseCollection),
		ScheduleID:             orZero(row.ScheduleID),
		DefaultPaymentMethodID: orZero(row.DefaultPaymentMethodID),
		BillingMode:            orZero(row.BillingMode),
		ItemsComplete:          row.ItemsComplete,
		Livemode:               row.Livemode,
		AccountID:              orZero(row.AccountID),
		Created:                utc(row.StripeCreatedAt),
		Object:                 row.Object,
		LastEventID:            orZero(row.LastEventID),
		LastEventCreatedAt:     utc(row.LastEventCreatedAt),
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
		item.CurrentPeriodStart, item.CurrentPeriodEnd = utc(item.CurrentPeriodStart), utc(item.CurrentPeriodEnd)
	}
	return sub, nil
}

func (v *version) upsertParams() (db.SubscriptionUpsertParams, error) {
	s := v.sub
	metadata, err := json.Marshal(s.Metadata)
	var pause json.RawMessage
	if s.PauseCollection != nil {
		pause = s.PauseCollection.Object
	}
	return db.SubscriptionUpsertParams{
		ID:                 s.ID,
		CustomerID:         nilIfEmpty(s.CustomerID),
		Status:             string(s.Status),
		PriceID:            nilIfEmpty(s.PriceID),
		Quantity:           s.Quantity,
		Currency:           nilIfEmpty(s.Currency),
		CancelAtPeriodEnd:  s.CancelAtPeriodEnd,
		CancelAt:           s.CancelAt,
		CanceledAt:         s.CanceledAt,
		EndedAt:            s.EndedAt,
		CurrentPeriodStart: s.CurrentPeriodStart,
		CurrentPeriodEnd:   s.CurrentPeriodEnd,
		TrialStart:         s.TrialStart,
		TrialEnd:           s.TrialEnd,
		CollectionMethod:   nilIfEmpty(s.CollectionMethod),
		LatestInvoiceID:    nilIfEmpty(s.LatestInvoiceID),
		Metadata:           metadata,
		Livemode:           s.Livemode,
		AccountID:          nilIfEmpty(s.AccountID),
		StripeCreatedAt:    s.Created,

		PauseCollection:        pause,
		CustomerAccountID:      nilIfEmpty(s.CustomerAccountID),
		ScheduleID:             nilIfEmpty(s.ScheduleID),
		DefaultPaymentMethodID: nilIfEmpty(s.DefaultPaymentMethodID),
		BillingMode:            nilIfEmpty(s.BillingMode),
		DiscountIds:            append([]string{}, s.DiscountIDs...), // not null
		ItemsComplete:          s.ItemsComplete,

		Object:             s.Object,
		LastEventID:        nilIfEmpty(s.LastEventID),
		LastEventCreatedAt: s.LastEventCreatedAt,
		AsOf:               v.asOf,
		NewestEvents:       v.newestRows(),
		ApiVersion:         nilIfEmpty(v.apiVersion),
		Digest:             v.digest.at(v.revision),
	}, err
}

func itemParams(subscription string, position int, item *Item) (db.SubscriptionItemUpsertParams, error) {
	metadata, err := json.Marshal(item.Metadata)
	return db.SubscriptionItemUpsertParams{
		SubscriptionID:     subscription,
		ID:                 item.ID,
		Position:           int32(position),
		PriceID:            nilIfEmpty(item.PriceID),
		ProductID:          nilIfEmpty(item.ProductID),
		Quantity:           item.Quantity,
		CurrentPeriodStart: item.CurrentPeriodStart,
		CurrentPeriodEnd:   item.CurrentPeriodEnd,
		Metadata:           metadata,
	}, err
}

func utc(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	inUTC := at.UTC()
	return &inUTC
}

func orZero[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

func nilIfEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
