package operations

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/eventtypes"
	"github.com/pook/stripeonce/internal/stripeapi"
	"github.com/pook/stripeonce/webhooks"
)

// maxTypes is how many types one list can be filtered by: https://docs.stripe.com/api/events/list.
const maxTypes = 20

// listed is an event of one of Stripe's lists.
type listed struct {
	*webhooks.Event
	err error  // of parsing it
	id  string // if err is set
}

// source is one of Stripe's lists of events, newest first.
type source struct {
	api     *stripeapi.Client
	next    *stripeapi.Request
	waiting []listed
}

// head returns the next event without removing it, or nil at the end.
func (s *source) head(ctx context.Context) (*listed, error) {
	for len(s.waiting) == 0 {
		if s.next == nil {
			return nil, nil
		}
		page, err := s.api.Page(ctx, *s.next)
		if err != nil {
			return nil, stripeapi.Explain(err)
		}
		for _, raw := range page.Data {
			ev, err := parseOf(raw, s.next.Account)
			one := listed{Event: ev, err: err}
			if err != nil {
				one.id = idOf(raw)
			}
			s.waiting = append(s.waiting, one)
		}
		s.next = page.Next
	}
	return &s.waiting[0], nil
}

// parseOf parses an event from Stripe's API. It adds the connected account, which a delivery has, but which the API leaves
// out if the request was made as that account.
func parseOf(raw json.RawMessage, account string) (*webhooks.Event, error) {
	ev, err := webhooks.ParseEvent(raw)
	if err != nil || account == "" || ev.Account != "" {
		return ev, err
	}
	return parseAs(raw, account)
}

// parseRecorded parses the payload of a failure's record. The event is of the account that was recorded, whatever the payload
// says: a tenant may have signed an event that names another (webhooks.Config.AccountFor).
func parseRecorded(payload json.RawMessage, account string) (*webhooks.Event, error) {
	ev, err := webhooks.ParseEvent(payload)
	if err != nil || account == "" || ev.Account == account {
		return ev, err
	}
	return parseAs(payload, account)
}

// parseAs parses an event as one of an account.
func parseAs(raw json.RawMessage, account string) (*webhooks.Event, error) {
	var fields map[string]json.RawMessage
	err := json.Unmarshal(raw, &fields)
	if err != nil {
		return nil, err
	}
	delete(fields, "context")
	if fields["account"], err = json.Marshal(account); err != nil {
		return nil, err
	}
	if raw, err = json.Marshal(fields); err != nil {
		return nil, err
	}
	return webhooks.ParseEvent(raw)
}

func idOf(raw json.RawMessage) string {
	var object struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(raw, &object)
	return object.ID
}

// sources is a merge of several lists.
type sources []*source

// next removes and returns the newest event of all lists, or nil at the end.
func (all sources) next(ctx context.Context) (*listed, error) {
	var newest *listed
	var from *source
	for _, s := range all {
		one, err := s.head(ctx)
		if err != nil {
			return nil, err
		}
		if one != nil && (newest == nil || one.err != nil || newest.err == nil && one.Created.After(newest.Created)) {
			newest, from = one, s
		}
	}
	if from != nil {
		from.waiting = from.waiting[1:]
	}
	return newest, nil
}

// window is a span of time, with both ends included. A zero to means no end.
type window struct {
	from, to time.Time
	again    bool // it has been listed before
}

// open returns the lists of a window with the events of the types, which may be patterns. Without types, they have all.
func (o *Operator) open(types []string, thin bool, account string, w window) sources {
	var all sources
	add := func(request stripeapi.Request) {
		request.Account = account
		request.Values.Set("limit", strconv.Itoa(stripeapi.PageSize))
		all = append(all, &source{api: o.api, next: &request})
	}
	if thin { // this list is filtered by up to 20 exact types
		values := url.Values{"created[gte]": {w.from.UTC().Format(time.RFC3339)}}
		if exact, wild := widest(types); len(wild) == 0 && len(exact) > 0 && len(exact) <= maxTypes {
			for i, one := range exact {
				if !strings.HasPrefix(one, "v2.") {
					one = "v1." + one
				}
				values.Set(fmt.Sprintf("types[%d]", i), one)
			}
		}
		if !w.to.IsZero() {
			values.Set("created[lte]", w.to.UTC().Add(time.Second-time.Millisecond).Format("2006-01-02T15:04:05.000Z07:00"))
		}
		add(stripeapi.Request{Path: "/v2/core/events", Values: values})
		return all
	}
	span := func() url.Values {
		values := url.Values{"created[gte]": {strconv.FormatInt(w.from.Unix(), 10)}}
		if !w.to.IsZero() {
			values.Set("created[lte]", strconv.FormatInt(w.to.Unix(), 10))
		}
		return values
	}
	exact, wild := widest(types)
	for _, pattern := range wild {
		values := span()
		values.Set("type", pattern)
		add(stripeapi.Request{Path: "/v1/events", Values: values})
	}
	for some := range slices.Chunk(exact, maxTypes) {
		values := span()
		values["types[]"] = some
		add(stripeapi.Request{Path: "/v1/events", Values: values})
	}
	if len(all) == 0 {
		add(stripeapi.Request{Path: "/v1/events", Values: span()})
	}
	return all
}

// widest splits types into exact types and patterns, without those that another pattern covers. It returns none if "*" is
// among them: then everything is listed.
func widest(types []string) (exact, wild []string) {
	covered := func(one string) bool {
		return slices.ContainsFunc(types, func(other string) bool { return other != one && eventtypes.PatternMatches(other, one) })
	}
	for _, one := range types {
		switch {
		case one == "*":
			return nil, nil
		case covered(one):
		case strings.HasSuffix(one, "*"):
			wild = append(wild, one)
		default:
			exact = append(exact, one)
		}
	}
	return exact, wild
}

// sendsThinOnly reports whether the account delivers thin events and no snapshot events. A disabled endpoint counts, since
// it may be enabled again. The result is false if the key may not list endpoints.
func (o *Operator) sendsThinOnly(ctx context.Context) (bool, error) {
	endpoints, err := o.all(ctx, stripeapi.Request{Path: "/v1/webhook_endpoints", Values: url.Values{"limit": {"1"}}})
	if len(endpoints) > 0 || err != nil && !stripeapi.IsMissing(err) {
		return false, unlessRefused(err)
	}
	destinations, err := o.all(ctx, stripeapi.Request{Path: "/v2/core/event_destinations"})
	thin := false
	for _, raw := range destinations {
		var destination struct {
			Payload string   `json:"event_payload"`
			Types   []string `json:"enabled_events"`
		}
		_ = json.Unmarshal(raw, &destination)
		if destination.Payload == "snapshot" {
			return false, nil
		}
		aboutV1 := func(eventType string) bool { return eventType == "*" || strings.HasPrefix(eventType, "v1.") }
		thin = thin || destination.Payload == "thin" && slices.ContainsFunc(destination.Types, aboutV1)
	}
	return thin && err == nil, unlessRefused(err)
}

// unlessRefused drops an error if the key has no access, or the API version does not have the list.
func unlessRefused(err error) error {
	switch stripeapi.Status(err) {
	case http.StatusForbidden, http.StatusNotFound, http.StatusBadRequest:
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the endpoints and event destinations: %w", stripeapi.Explain(err))
	}
	return nil
}

// all reads all pages of a list, or one page if the request's limit is 1.
func (o *Operator) all(ctx context.Context, request stripeapi.Request) (list []json.RawMessage, err error) {
	for next := &request; next != nil; {
		page, err := o.api.Page(ctx, *next)
		if err != nil {
			return nil, err
		}
		list = append(list, page.Data...)
		if next = page.Next; request.Values.Get("limit") == "1" {
			break
		}
	}
	return list, nil
}
