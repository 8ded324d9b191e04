package subscriptions

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pook/stripeonce/db"
)

// fromRow makes a Subscription of a row and the JSON array of its items' rows.
func fromRow(row *db.Subscription, items json.RawMessage) (*Subscription, error) {
	sub := &Subscription{
		ID:                 row.ID,
		CustomerID:         orZero(row.CustomerID),
		Status:             Status(row.Status),
		PriceID:            orZero(row.PriceID),
		Quantity:           row.Quantity,
		Currency:           orZero(row.Currency),
		CancelAtPeriodEnd:  row.CancelAtPeriodEnd,
		CancelAt:           utc(row.CancelAt),
		CanceledAt:         utc(row.CanceledAt),
		EndedAt:            utc(row.EndedAt),
		CurrentPeriodStart: utc(row.CurrentPeriodStart),
		CurrentPeriodEnd:   utc(row.CurrentPeriodEnd),
		TrialStart:         utc(row.TrialStart),
		TrialEnd:           utc(row.TrialEnd),
		CollectionMethod:   orZero(row.CollectionMethod),
		LatestInvoiceID:    orZero(row.LatestInvoiceID),
		Livemode:           row.Livemode,
		AccountID:          orZero(row.AccountID),
		Created:            utc(row.StripeCreatedAt),
		Object:             row.Object,
		LastEventID:        orZero(row.LastEventID),
		LastEventCreatedAt: utc(row.LastEventCreatedAt),
		CreatedAt:          row.CreatedAt.UTC(),
		UpdatedAt:          row.UpdatedAt.UTC(),
	}
	if err := json.Unmarshal(row.Metadata, &sub.Metadata); err != nil {
		return nil, fmt.Errorf("metadata of subscription %s: %w", row.ID, err)
	}
	if err := json.Unmarshal(items, &sub.Items); err != nil {
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

func (s *Subscription) upsertParams() (db.SubscriptionUpsertParams, error) {
	metadata, err := json.Marshal(s.Metadata)
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
		Object:             s.Object,
		LastEventID:        nilIfEmpty(s.LastEventID),
		LastEventCreatedAt: s.LastEventCreatedAt,
	}, err
}

// itemRows is the JSON array that SubscriptionItemReplace takes.
func (s *Subscription) itemRows() (json.RawMessage, error) {
	type row struct {
		Item
		PriceID   *string `json:"price_id"`
		ProductID *string `json:"product_id"`
		Position  int     `json:"position"`
	}
	rows := make([]row, len(s.Items))
	for i, item := range s.Items {
		rows[i] = row{item, nilIfEmpty(item.PriceID), nilIfEmpty(item.ProductID), i}
	}
	return json.Marshal(rows)
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
