package stripesim

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Destination is one of the account's event destinations: https://docs.stripe.com/api/v2/core/event_destinations.
type Destination struct {
	ID         string
	Kind       string // webhook_endpoint (also if empty), amazon_eventbridge or azure_event_grid
	URL        string
	Payload    string // thin or snapshot
	Status     string // enabled or disabled
	Types      []string
	EventsFrom []string
}

// AddDestination adds an event destination.
func (api *API) AddDestination(d Destination) {
	api.Do(func(*Account) { api.destinations = append(api.destinations, &d) })
}

// ThinID returns the id of the thin event that corresponds to a snapshot event.
func (ev *Event) ThinID() string { return "evt_thin_" + strings.TrimPrefix(ev.ID, "evt_") }

// Thin returns the corresponding thin event. That of an object without an id names no object. named sets its snapshot_event;
// otherwise it is as older notifications are, without snapshot_event and changes.
func (ev *Event) Thin(named bool) []byte {
	o := ev.thin(named)
	if !named {
		delete(o, "snapshot_event")
		delete(o, "changes")
	}
	return marshal(o)
}

func (ev *Event) thinType() string { return "v1." + ev.Type }

// thin returns the thin event as the API has it.
func (ev *Event) thin(named bool) object {
	about, previous := ev.render(VersionBasil)
	kind, _ := about["object"].(string)
	o := object{
		"id": ev.ThinID(), "object": "v2.core.event", "type": ev.thinType(), "livemode": false, "context": ev.account.context(ev.AccountID), "changes": nil, "data": nil, "snapshot_event": nil,
		"created":        time.Unix(ev.Created, 0).UTC().Format("2006-01-02T15:04:05.000Z"),
		"reason":         object{"type": "request", "request": object{"id": ev.request, "idempotency_key": nil}},
		"related_object": object{"id": ev.ObjectID, "type": kind, "url": pathOf(kind) + "/" + ev.ObjectID},
	}
	if ev.ObjectID == "" {
		o["related_object"] = nil
	}
	if named {
		o["snapshot_event"] = ev.ID
	}
	if previous != nil {
		after := object{}
		for key := range previous {
			after[key] = about[key]
		}
		o["changes"] = object{"before": previous, "after": after}
	}
	return o
}

// unheard returns the thin event that says that this event could not be generated.
func (ev *Event) unheard(bare bool) []byte {
	impact := object{"event_type": ev.Type, "related_object": object{"id": ev.ObjectID, "type": "subscription", "url": "/v1/subscriptions/" + ev.ObjectID}}
	if ev.AccountID != "" { // only then, in Stripe's words
		impact["context"] = ev.account.context(ev.AccountID)
	}
	o := ev.thin(false)
	o["id"], o["type"], o["related_object"], o["changes"], o["context"] = ev.ThinID(), "v2.core.health.event_generation_failure.resolved", nil, nil, nil
	o["data"] = object{"alert_id": "alert_1", "grouping_key": "key_1", "impact": impact, "resolved_at": o["created"]}
	ev.account.unheard = append(ev.account.unheard, o)
	if bare {
		o = maps.Clone(o)
		delete(o, "data")
	}
	return marshal(o)
}

const v2DefaultLimit, v2MaxLimit = 20, 100

func (api *API) routeThin() {
	api.mux.HandleFunc("GET /v2/core/events", api.listThin)
	api.mux.HandleFunc("GET /v2/core/events/{id}", func(w http.ResponseWriter, req *http.Request) {
		for _, ev := range api.of(req).Events {
			if ev.ThinID() == req.PathValue("id") && api.sees(req, ev.AccountID) && ev.Created <= api.now(api.of(req)) {
				answer(w, http.StatusOK, ev.thin(!api.Unnamed))
				return
			}
		}
		for _, o := range api.of(req).unheard {
			if o["id"] == req.PathValue("id") {
				answer(w, http.StatusOK, o)
				return
			}
		}
		missing(w, "event", req.PathValue("id"))
	})
	api.routeDestinations()
}

// listThin lists thin events in the form of /v2: the next page has a URL, and times are texts.
func (api *API) listThin(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query()
	limit, offset := v2DefaultLimit, 0
	if query.Has("limit") {
		limit, _ = strconv.Atoi(query.Get("limit"))
	}
	if query.Has("page") {
		offset, _ = strconv.Atoi(query.Get("page"))
	}
	if limit < 1 || limit > v2MaxLimit || req.Header.Get("Stripe-Version") < "2025-09-30" {
		fail(w, http.StatusBadRequest, apiError{Type: invalidRequest, Message: "The limit or the Stripe-Version is not one of this list's."})
		return
	}
	var fit []*Event
	now := api.now(api.of(req))
	for _, ev := range slices.Backward(api.of(req).Events) {
		if types := indexed(query, "types"); len(types) > 0 && !slices.Contains(types, ev.thinType()) {
			continue
		}
		if api.sees(req, ev.AccountID) && thinCreatedFits(query, ev.Created) && ev.kept(now) {
			fit = append(fit, ev)
		}
	}
	data := []object{}
	for _, ev := range fit[min(offset, len(fit)):min(offset+limit, len(fit))] {
		data = append(data, ev.thin(!api.Unnamed))
	}
	var next any
	if offset+limit < len(fit) {
		query.Set("page", strconv.Itoa(offset+limit))
		next = "/v2/core/events?" + query.Encode()
	}
	answer(w, http.StatusOK, object{"data": data, "next_page_url": next, "previous_page_url": nil})
}

func thinCreatedFits(query url.Values, created int64) bool {
	at := time.Unix(created, 0)
	for name, holds := range map[string]func(bound time.Time) bool{
		"created[gte]": func(bound time.Time) bool { return !at.Before(bound) },
		"created[lte]": func(bound time.Time) bool { return !at.After(bound) },
	} {
		if bound, err := time.Parse(time.RFC3339, query.Get(name)); err == nil && !holds(bound) {
			return false
		}
	}
	return true
}
