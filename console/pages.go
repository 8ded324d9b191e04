package console

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"html/template"
	"strings"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/compare"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

type eventsData struct {
	Filter   struct{ ID, Type, Outcome, Object, Customer, Account, Span, Until string }
	Spans    []span
	Outcomes []string
	Events   []operations.Event
	Traced   int          // of how many objects of the customer
	Cut      bool         // the customer has further, older ones
	Next     template.URL // of the next page, empty if there is none
}

// untilLayout is the format of an input of type datetime-local. The time is in UTC.
const untilLayout = "2006-01-02T15:04"

var (
	errTime = errors.New("not a time")
	errBoth = errors.New("an object and a customer")
)

func (c *Console) events(r *request) (*page, error) {
	d := &eventsData{Spans: spans, Outcomes: outcomes}
	f := &d.Filter
	f.ID, f.Type, f.Outcome, f.Object, f.Span = trimmed(r, "id"), trimmed(r, "type"), trimmed(r, "outcome"), trimmed(r, "object"), trimmed(r, "span")
	f.Account, f.Customer = trimmed(r, "account"), trimmed(r, "customer")
	if f.Object != "" && f.Customer != "" {
		return nil, errBoth
	}
	filter := operations.EventFilter{Type: f.Type, Outcome: webhooks.Outcome(f.Outcome), ObjectID: f.Object, Account: f.Account, Before: r.param("before"), Limit: pageRows + 1}
	end := time.Now()
	var err error
	if f.Until = trimmed(r, "until"); f.Until != "" {
		if end, err = time.Parse(untilLayout, f.Until); err != nil {
			return nil, errTime
		}
		filter.Until = end
	}
	if f.Span != "" {
		filter.Since = end.Add(-spanNamed(f.Span, "24h").length)
	}
	switch {
	case f.ID != "":
		d.Events, err = c.one(r.ctx, f.ID)
	case f.Customer != "":
		filter.Customer = f.Customer
		err = c.eventsOfCustomer(r.ctx, d, filter)
	default:
		d.Events, err = c.operator.Events(r.ctx, filter)
	}
	if err != nil {
		return nil, err
	}
	if len(d.Events) > pageRows {
		d.Events = d.Events[:pageRows]
		d.Next = following(r, "/events", d.Events[pageRows-1].EventID)
	}
	return &page{Title: "Ledger", Template: "events", Data: d}, nil
}

// eventsOfCustomer lists the events of a customer's objects.
func (c *Console) eventsOfCustomer(ctx context.Context, d *eventsData, filter operations.EventFilter) error {
	objects, err := c.operator.CustomerObjects(ctx, filter)
	if err != nil {
		return err
	}
	d.Traced, d.Cut = len(objects.IDs), objects.Truncated
	d.Events, err = c.operator.EventsOf(ctx, objects.IDs, filter)
	return err
}

// one returns the event with an id, if it is in the ledger.
func (c *Console) one(ctx context.Context, id string) ([]operations.Event, error) {
	detail, err := c.operator.EventDetail(ctx, id)
	if errors.Is(err, operations.ErrNotFound) || err == nil && detail.Event == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []operations.Event{*detail.Event}, nil
}

type eventData struct {
	ID        string
	Detail    *operations.EventDetail
	Delivered *webhooks.Event // from the payload, if the event is not in the ledger and the payload was kept
	Payload   string
	Hidden    bool
	TraceURL  string // Config.TraceURL
	Replayed  string // the outcome, after a replay
	AtStripe  []more // its pages in Stripe's dashboard
	Done      string // what else was done
	// Unhandled is the type of a failed event that no handler of this process handles: its replay here fails, whatever failed before.
	Unhandled string
	// Reprocessable reports whether the event took effect, so that its handlers can run again.
	Reprocessable bool
}

func (c *Console) event(r *request) (*page, error) {
	id := r.PathValue("id")
	detail, err := c.operator.EventDetail(r.ctx, id)
	if err != nil {
		return nil, err
	}
	d := &eventData{ID: id, Detail: detail, Hidden: c.config.HidePayloads, TraceURL: c.config.TraceURL}
	switch replayed := r.param("replayed"); replayed {
	case "processed", "stale", "ignored", "duplicate", replayFailed:
		if (detail.Failing() || detail.Parked()) == (replayed == replayFailed) { // otherwise the event's state has changed since
			d.Replayed = replayed
		}
	}
	d.Reprocessable = reprocessable(detail) && len(c.receiver.HandlerNames()) > 0
	if detail.Failure != nil {
		if ev, err := webhooks.ParseEvent(detail.Failure.Payload); err == nil && !c.receiver.Handles(ev) {
			d.Unhandled = detail.Failure.EventType
		}
	}
	switch done := r.param("done"); {
	case done == doneReprocessed && d.Reprocessable && detail.Event.ReprocessedAt != nil, done == doneSkipped && d.Reprocessable, done == doneDismissed && detail.Dismissed():
		d.Done = done
	}
	if detail.Event == nil && detail.Failure != nil && len(detail.Failure.Payload) > 0 {
		d.Delivered, _ = webhooks.ParseEvent(detail.Failure.Payload)
	}
	d.AtStripe = d.atStripe()
	if detail.Failure != nil && !d.Hidden {
		d.Payload = pretty(detail.Failure.Payload)
	}
	return &page{Title: id, Template: "event", Data: d}, nil
}

type subscriptionsData struct {
	Query         string
	Subscriptions []*subscriptions.Subscription
	Next          template.URL // of the next page, empty if there is none
}

func (c *Console) subscriptions(r *request) (*page, error) {
	d := &subscriptionsData{Query: trimmed(r, "q")}
	if d.Query == "" {
		return &page{Title: "Subscriptions", Template: "subscriptions", Data: d}, c.newest(r, d)
	}
	one, err := c.reader.Get(r.ctx, d.Query)
	switch {
	case err == nil:
		d.Subscriptions = []*subscriptions.Subscription{one}
	case errors.Is(err, subscriptions.ErrNotFound): // a customer's ids need not begin with cus_
		d.Subscriptions, err = c.reader.ListByCustomer(r.ctx, d.Query)
	}
	return &page{Title: "Subscriptions", Template: "subscriptions", Data: d}, err
}

// newest lists subscriptions by creation, newest first.
func (c *Console) newest(r *request, d *subscriptionsData) error {
	var ever time.Time
	list := db.SubscriptionKeyListParams{CreatedAfter: &ever, MaxRows: pageRows + 1}
	if at, id, found := strings.Cut(r.param("before"), " "); found {
		before, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			return errNotFound
		}
		list.Before, list.BeforeID = &before, id
	}
	keys, err := c.queries.SubscriptionKeyList(r.ctx, c.pool, list)
	if err != nil {
		return err
	}
	if len(keys) > pageRows {
		keys = keys[:pageRows]
		last := keys[pageRows-1]
		d.Next = following(r, "/subscriptions", last.StripeCreatedAt.UTC().Format(time.RFC3339Nano)+" "+last.ID)
	}
	ids := make([]string, len(keys))
	for i, key := range keys {
		ids[i] = key.ID
	}
	d.Subscriptions, err = c.reader.List(r.ctx, ids)
	return err
}

type subscriptionData struct {
	*subscriptions.Subscription
	Customer  template.URL
	Dashboard string
	Actions   actions
	JSON      string
	Hidden    bool
	Events    []operations.Event
	More      bool
	Failing   []db.StripeWebhookFailureListByObjectRow
}

func (c *Console) subscription(r *request) (*page, error) {
	sub, err := c.reader.Get(r.ctx, r.PathValue("id"))
	if errors.Is(err, subscriptions.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	events, err := c.operator.Events(r.ctx, operations.EventFilter{ObjectID: sub.ID, Limit: pageRows + 1})
	if err != nil {
		return nil, err
	}
	failing, err := c.queries.StripeWebhookFailureListByObject(r.ctx, c.pool, sub.ID)
	if err != nil {
		return nil, err
	}
	d := &subscriptionData{
		Subscription: sub, Hidden: c.config.HidePayloads, Events: events[:min(len(events), pageRows)], More: len(events) > pageRows, Failing: failing,
	}
	at := place{sub.AccountID, sub.Livemode}
	d.Customer, d.Dashboard = at.object("customer", sub.CustomerID), at.dashboard("subscription", sub.ID)
	d.Actions = c.comparisons(task{place: at, Type: compare.Subscription, ID: sub.ID})
	if !d.Hidden {
		d.JSON = pretty(sub.Object)
	}
	return &page{Title: sub.ID, Template: "subscription", Data: d}, nil
}

// atStripe returns links to the event in Stripe's dashboard: one for each mode, if the mode is not known.
func (d *eventData) atStripe() []more {
	at, known := place{}, true
	switch e, f := d.Detail.Event, d.Detail.Failure; {
	case e != nil:
		at = place{orEmpty(e.AccountID), e.Livemode}
	case d.Delivered != nil:
		at = place{cmp.Or(d.Delivered.Account, orEmpty(f.AccountID)), d.Delivered.Livemode}
	default:
		at.Account, known = orEmpty(f.AccountID), false
	}
	link := func(text string, at place) more {
		return more{text, template.URL(at.dashboard("event", d.ID))} //nolint:gosec // encoded there
	}
	if known {
		return []more{link("Stripe's dashboard", at)}
	}
	return []more{link("in live mode", place{at.Account, true}), link("in test mode", place{at.Account, false})}
}

func trimmed(r *request, name string) string { return strings.TrimSpace(r.param(name)) }

// following returns the URL of the next page. It is fully encoded, so the template must not encode it again.
func following(r *request, section, before string) template.URL {
	query := r.URL.Query()
	query.Set("before", before)
	return template.URL(r.base + section + "?" + query.Encode()) //nolint:gosec // encoded here
}

// maxShown bounds the length of a JSON text on a page.
const maxShown = 64 << 10

func pretty(text json.RawMessage) string {
	if len(text) == 0 {
		return ""
	}
	var buffer bytes.Buffer
	indented := []byte(text)
	if len(text) <= maxShown && json.Indent(&buffer, text, "", "  ") == nil { // indentation of deep nesting grows the text
		indented = buffer.Bytes()
	}
	if len(indented) > maxShown {
		return strings.ToValidUTF8(string(indented[:maxShown]), "") + "\n… (cut)"
	}
	return string(indented)
}
