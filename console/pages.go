package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/compare"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// span is a time span that a page covers.
type span struct {
	Name, Label string
	length      time.Duration
	width       time.Duration // of a bar in the chart
}

var spans = []span{
	{"1h", "hour", time.Hour, time.Minute},
	{"24h", "day", 24 * time.Hour, 30 * time.Minute},
	{"7d", "week", 7 * 24 * time.Hour, 3 * time.Hour},
	{"30d", "month", 30 * 24 * time.Hour, 12 * time.Hour},
}

func spanNamed(name, byDefault string) span {
	for _, s := range spans {
		if s.Name == name {
			return s
		}
	}
	return spanNamed(byDefault, spans[0].Name)
}

// maxCounted is how many of the newest events the overview counts. They are read by an index.
const maxCounted = 20_000

// tally counts the deliveries with one outcome.
type tally struct {
	Outcome string
	Count   int64
}

type overviewData struct {
	Span       span
	Spans      []span
	Chart      *chart
	Counted    int64
	CutAt      *time.Time // if the span has more than maxCounted events
	Lag        db.LedgerLagRow
	Failing    int64
	MaxFailing int64
	Newest     *db.LedgerNewestRow
	Deliveries []tally
	InFlight   int
	Endpoints  endpoints
}

func (c *Console) overview(r *request) (*page, error) {
	d := &overviewData{Span: spanNamed(r.param("span"), "24h"), Spans: spans, MaxFailing: operations.MaxCounted}
	now := time.Now()
	since := now.Add(-d.Span.length)
	activity, err := c.queries.LedgerActivity(r.ctx, c.pool, db.LedgerActivityParams{Width: int32(d.Span.width / time.Second), Since: since, MaxRows: maxCounted})
	if err != nil {
		return nil, err
	}
	if d.Lag, err = c.queries.LedgerLag(r.ctx, c.pool, since, maxCounted); err != nil {
		return nil, err
	}
	if d.Failing, err = c.operator.CountFailing(r.ctx); err != nil {
		return nil, err
	}
	newest, err := c.queries.LedgerNewest(r.ctx, c.pool)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	if err == nil {
		d.Newest = &newest
	}
	if d.Counted = d.Lag.Events; d.Counted == maxCounted {
		d.CutAt = &d.Lag.Oldest
	}
	d.Chart = newChart(withDuplicates(activity, c.receiver.Duplicates(since, d.Span.width)), since, now, d.Span.width)
	stats := c.receiver.Stats()
	d.Deliveries, d.InFlight = deliveries(stats), stats.InFlight
	d.Endpoints = c.endpoints.look(r.ctx, c)
	return &page{Title: "Overview", Template: "overview", Data: d}, nil
}

// deliveries returns the receiver's counts since the start.
func deliveries(stats webhooks.Stats) (list []tally) {
	for _, label := range []string{"processed", "stale", "ignored", "duplicate", "invalid", "failed", "unavailable"} {
		list = append(list, tally{label, int64(stats.Deliveries[label].Count)})
	}
	return list
}

type eventsData struct {
	Filter   struct{ ID, Type, Outcome, Object, Account, Span, Until string }
	Spans    []span
	Outcomes []string
	Events   []operations.Event
	Next     template.URL // of the next page, empty if there is none
}

// untilLayout is the format of an input of type datetime-local. The time is in UTC.
const untilLayout = "2006-01-02T15:04"

var errTime = errors.New("not a time")

func (c *Console) events(r *request) (*page, error) {
	d := &eventsData{Spans: spans, Outcomes: outcomes}
	f := &d.Filter
	f.ID, f.Type, f.Outcome, f.Object, f.Span = trimmed(r, "id"), trimmed(r, "type"), trimmed(r, "outcome"), trimmed(r, "object"), trimmed(r, "span")
	f.Account = trimmed(r, "account")
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
	if f.ID != "" {
		d.Events, err = c.one(r.ctx, f.ID)
	} else {
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
	Done      string // what else was done
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
	d.Reprocessable = reprocessable(detail)
	switch done := r.param("done"); {
	case done == doneReprocessed && d.Reprocessable && detail.Event.ReprocessedAt != nil, done == doneSkipped && d.Reprocessable, done == doneDismissed && detail.Dismissed():
		d.Done = done
	}
	if detail.Event == nil && detail.Failure != nil && len(detail.Failure.Payload) > 0 {
		d.Delivered, _ = webhooks.ParseEvent(detail.Failure.Payload)
	}
	if detail.Failure != nil && !d.Hidden {
		d.Payload = pretty(detail.Failure.Payload)
	}
	return &page{Title: id, Template: "event", Data: d}, nil
}

type failuresData struct {
	Account  string // the filter
	Failures []operations.Failure
	Next     template.URL // of the next page, empty if there is none
}

func (c *Console) failures(r *request) (*page, error) {
	list, err := c.operator.Failures(r.ctx, operations.FailureFilter{
		Before: r.param("before"), Account: trimmed(r, "account"), Limit: pageRows + 1, MaxLookedAt: operations.MaxLookedAt,
	})
	if err != nil {
		return nil, err
	}
	d := &failuresData{Account: trimmed(r, "account"), Failures: list}
	if len(list) > pageRows {
		d.Failures = list[:pageRows]
		d.Next = following(r, "/failures", list[pageRows-1].EventID)
	}
	return &page{Title: "Failures", Template: "failures", Data: d}, nil
}

const replayFailed = "failed"

// replay replays an event, records that if it did anything, and redirects to the event's page, which shows the outcome.
func (c *Console) replay(w http.ResponseWriter, r *request) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), backgroundTimeout)
	defer cancel()
	id, started := r.PathValue("id"), time.Now()
	operator := c.operatorOf(r.Request, "", c.config.Timeout)
	var applied operations.Applied
	err := c.inSlot(ctx, func() error {
		applied = operator.Replay(ctx, id, "")
		return applied.Err
	})
	result, failed := string(applied.Outcome), 0
	if err != nil {
		result, failed = replayFailed, 1
		c.config.Logger.WarnContext(ctx, "console: replay", "event_id", id, "error", err)
	} else {
		c.config.Logger.InfoContext(ctx, "console: replay", "event_id", id, "outcome", result)
	}
	if applied.Outcome != webhooks.OutcomeDuplicate {
		operator.RecordRun(ctx, &operations.RunRecord{
			Kind: operations.RunReplay, Arguments: map[string]any{"events": []string{id}}, Counts: map[string]int{"replayed": 1, "failed": failed},
			Started: started, Err: err,
		})
	}
	http.Redirect(w, r.Request, r.base+"/events/"+url.PathEscape(id)+"?replayed="+result, http.StatusSeeOther) //nolint:gosec // a path on this host
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
