package webhookstest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// APIKey is an API key for a receiver whose Config.APIBase is an API's URL.
const APIKey = "sk_test_webhookstest"

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
		SnapshotEventID: ev.ID, Before: ev.Previous,
	}
}

// API is the part of Stripe's API that a receiver asks: objects by their paths, and events. Create it with NewAPI.
type API struct {
	// URL is for Config.APIBase.
	URL string

	mu       sync.Mutex
	objects  map[string]any
	requests []*http.Request
}

// NewAPI serves an API until the test ends.
func NewAPI(tb testing.TB) *API {
	tb.Helper()
	api := &API{objects: map[string]any{}}
	server := httptest.NewServer(api)
	tb.Cleanup(server.Close)
	api.URL = server.URL
	return api
}

// Set makes an object available at a path, such as "/v1/invoices/in_1". Nil: Stripe does not have it.
func (api *API) Set(path string, object any) {
	api.mu.Lock()
	defer api.mu.Unlock()
	api.objects[path] = object
}

// Add makes a thin event available, whole, to a receiver that got it Bare. The event gets an id if it has none.
func (api *API) Add(ev *ThinEvent) {
	if ev.ID == "" {
		ev.ID = NewID("evt")
	}
	api.Set("/v2/core/events/"+ev.ID, ev.object())
}

// Requests returns the requests so far, without their bodies.
func (api *API) Requests() []*http.Request {
	api.mu.Lock()
	defer api.mu.Unlock()
	return append([]*http.Request{}, api.requests...)
}

// ServeHTTP answers a request of the receiver's.
func (api *API) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	api.mu.Lock()
	api.requests = append(api.requests, req.Clone(req.Context()))
	object := api.objects[req.URL.Path]
	api.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if object == nil {
		w.WriteHeader(http.StatusNotFound)
		object = map[string]any{"error": map[string]any{
			"type": "invalid_request_error", "code": "resource_missing", "message": "No such object: " + req.URL.Path,
		}}
	}
	_ = json.NewEncoder(w).Encode(object)
}
