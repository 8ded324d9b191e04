package webhookstest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// ThinEvent is a thin event to be delivered (https://docs.stripe.com/event-destinations#thin-events): it names an object, which
// the receiver fetches. Serve the object with NewAPI.
type ThinEvent struct {
	ID       string    // empty: a new one
	Type     string    // such as "v1.invoice.paid" or "v2.core.account.updated"
	Created  time.Time // zero: now
	Context  string    // the account, acct_…, or its path, org_…/acct_…; empty: the platform's own
	Livemode bool
	Related  Related // zero: the event is about nothing that can be fetched
	Data     any     // data; nil: null
	Before   any     // changes.before, the previous attributes; nil: no changes
	After    any     // changes.after
	// SnapshotEventID is the id of its twin, the snapshot event about the same change. Empty: null, there is none.
	SnapshotEventID string
	// Bare leaves snapshot_event and changes out, as notifications may. The receiver then fetches the event: see API.Add.
	Bare bool
}

// Related is the related_object of a thin event.
type Related struct{ ID, Type, URL string }

// Body returns the event as Stripe would send it. It panics if Data, Before or After cannot be marshaled to JSON. Two calls on
// a ThinEvent without an ID give two events.
func (ev ThinEvent) Body() []byte {
	if ev.ID == "" {
		ev.ID = NewID("evt")
	}
	event := ev.object()
	if ev.Bare {
		delete(event, "snapshot_event")
		delete(event, "changes")
	}
	body, err := json.MarshalIndent(event, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("webhookstest: event %s: %v", ev.ID, err))
	}
	return body
}

func (ev *ThinEvent) object() map[string]any {
	if ev.Created.IsZero() {
		ev.Created = time.Now()
	}
	event := map[string]any{
		"id": ev.ID, "object": "v2.core.event", "type": ev.Type, "created": ev.Created.UTC().Format("2006-01-02T15:04:05.000Z"),
		"livemode": ev.Livemode, "context": nil, "reason": nil, "data": ev.Data, "related_object": nil, "changes": nil, "snapshot_event": nil,
	}
	if ev.Context != "" {
		event["context"] = ev.Context
	}
	if ev.Related != (Related{}) {
		event["related_object"] = map[string]any{"id": ev.Related.ID, "type": ev.Related.Type, "url": ev.Related.URL}
	}
	if ev.Before != nil {
		event["changes"] = map[string]any{"before": ev.Before, "after": ev.After}
	}
	if ev.SnapshotEventID != "" {
		event["snapshot_event"] = ev.SnapshotEventID
	}
	return event
}

// Thin returns the thin twin of a snapshot event about an object at url, such as "/v1/invoices/in_1". The event gets an id if it
// has none, which both then have in common: only one of the two takes effect.
func (ev *Event) Thin(url string) ThinEvent {
	if ev.ID == "" {
		ev.ID = NewID("evt")
	}
	if ev.Created.IsZero() {
		ev.Created = time.Now()
	}
	kind := strings.Split(strings.TrimPrefix(url, "/v1/"), "/")[0]
	return ThinEvent{
		ID: NewID("evt"), Type: "v1." + ev.Type, Created: ev.Created, Context: ev.Account, Livemode: ev.Livemode,
		Related:         Related{ID: url[strings.LastIndexByte(url, '/')+1:], Type: strings.TrimSuffix(kind, "s"), URL: url},
		SnapshotEventID: ev.ID, Before: inEvent(ev.Previous, ev),
	}
}
