package operations

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/webhooks"
)

// EventFilter selects the events to list. The zero value selects the newest 50.
type EventFilter struct {
	// Type is an event type, or a pattern that ends in ".*". Empty: every type. There is no index on it, so a rare type is
	// searched for all the way back to Since.
	Type     string
	Outcome  webhooks.Outcome // empty: every outcome
	ObjectID string           // the id of a Stripe object; empty: any
	// Customer is the id of a customer (cus_…): only events about an object of CustomerObjects. Empty: any. Set ObjectID or
	// Customer, not both.
	Customer string
	// Account is the id of an account. Empty: any, and events without an account. There is no index on it either.
	Account   string
	NoAccount bool      // only events without an account
	Livemode  *bool     // nil: both modes
	Since     time.Time // the earliest time at which an event took effect; zero: any
	Until     time.Time // events took effect before this time; zero: any
	// Before is an event's id: only events that took effect before it are listed. Pass the last id of a listing to get
	// the next one. Empty: start with the newest.
	Before string
	Limit  int // 0: DefaultLimit
}

// Events lists the ledger, newest first. It reads only the rows that it returns and those that the filter skips, however
// long the ledger is.
func (o *Operator) Events(ctx context.Context, f EventFilter) ([]Event, error) {
	switch {
	case f.ObjectID != "" && f.Customer != "":
		return nil, fmt.Errorf("%w: ObjectID and Customer are both set: the events of a customer are those of all its objects", ErrRefused)
	case f.ObjectID != "":
		return o.EventsOf(ctx, []string{f.ObjectID}, f)
	case f.Customer != "":
		objects, err := o.CustomerObjects(ctx, f)
		if err != nil {
			return nil, err
		}
		return o.EventsOf(ctx, objects.IDs, f)
	}
	page, err := o.pageOf(ctx, f)
	if err != nil {
		return nil, err
	}
	params := db.StripeWebhookEventListParams{
		Before: page.before, BeforeEventID: page.beforeID, Since: f.Since, EventType: page.eventType, TypePrefix: page.typePrefix,
		Outcome: string(f.Outcome), AccountID: f.Account, NoAccount: f.NoAccount, Livemode: f.Livemode, MaxRows: limit(f.Limit),
	}
	rows, err := o.queries.StripeWebhookEventList(ctx, o.pool, params)
	if err == nil && len(rows) == 0 && f == (EventFilter{Limit: f.Limit}) {
		err = o.checkSeesRows(ctx)
	}
	return eventsOf(rows, err)
}

// EventsOf is Events for the events of several objects, in place of the filter's ObjectID and Customer. Each object is looked up in
// an index, and all of its events are read.
func (o *Operator) EventsOf(ctx context.Context, objectIDs []string, f EventFilter) ([]Event, error) {
	page, err := o.pageOf(ctx, f)
	if err != nil {
		return nil, err
	}
	return eventsOf(o.queries.StripeWebhookEventListByObjects(ctx, o.pool, db.StripeWebhookEventListByObjectsParams{
		ObjectIds: distinct(objectIDs), Before: page.before, BeforeEventID: page.beforeID, Since: f.Since, EventType: page.eventType,
		TypePrefix: page.typePrefix, Outcome: string(f.Outcome), AccountID: f.Account, NoAccount: f.NoAccount, Livemode: f.Livemode,
		MaxRows: limit(f.Limit),
	}))
}

// page is where a listing begins, and its type as the queries take it: an exact one, or the beginning of several.
type page struct {
	before                *time.Time
	beforeID              string
	eventType, typePrefix string
}

func (o *Operator) pageOf(ctx context.Context, f EventFilter) (p page, err error) {
	p.eventType, p.typePrefix = typeAndPrefix(f.Type)
	if !f.Until.IsZero() {
		p.before = &f.Until
	}
	if f.Before != "" {
		row, err := o.event(ctx, f.Before)
		if err != nil {
			return p, err
		}
		p.before, p.beforeID = &row.ProcessedAt, row.EventID
	}
	return p, nil
}

// typeAndPrefix returns an event type as the queries take it: an exact one, or what a pattern ("invoice.*") begins with.
func typeAndPrefix(pattern string) (eventType, prefix string) {
	if prefix, wild := strings.CutSuffix(pattern, "*"); wild {
		return "", prefix
	}
	return pattern, ""
}

func eventsOf(rows []db.StripeWebhookEvent, err error) ([]Event, error) {
	if err != nil {
		return nil, fmt.Errorf("list the events: %w", err)
	}
	events := make([]Event, len(rows))
	for i := range rows {
		events[i] = eventOf(&rows[i])
	}
	return events, nil
}

// distinct returns the texts without repeated and empty ones.
func distinct(texts []string) (list []string) {
	seen := map[string]bool{"": true}
	for _, one := range texts {
		if !seen[one] {
			seen[one] = true
			list = append(list, one)
		}
	}
	return list
}
