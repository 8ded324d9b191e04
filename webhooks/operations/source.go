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

	"github.com/pook/stripeonce/internal/stripeapi"
	"github.com/pook/stripeonce/webhooks"
)

// maxTypes is how many types one list can be asked for: https://docs.stripe.com/api/events/list.
const maxTypes = 20

// listed is an event of one of Stripe's lists.
type listed struct {
	*webhooks.Event
	err error // why it is no event
}

// source is one of Stripe's lists of events, newest first.
type source struct {
	api     *stripeapi.Client
	next    *stripeapi.Request
	waiting []listed
}

// head is the next event; nil at the end.
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
			ev, err := webhooks.ParseEvent(raw)
			s.waiting = append(s.waiting, listed{ev, err})
		}
		s.next = page.Next
	}
	return &s.waiting[0], nil
}

// sources are several lists, read as one.
type sources []*source

// next takes the newest of what the lists have next; nil at the end.
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

// window is a span of time, both ends within it. A zero to is no end.
type window struct {
	from, to time.Time
	again    bool // it was listed before
}

// open makes the lists of a window that have the events of the types, which may be patterns; none: all.
func (o *Operator) open(types []string, thin bool, account string, w window) sources {
	var all sources
	add := func(request stripeapi.Request) {
		request.Account = account
		request.Values.Set("limit", strconv.Itoa(stripeapi.PageSize))
		all = append(all, &source{api: o.api, next: &request})
	}
	if thin { // which knows no patterns
		values := url.Values{"created[gte]": {w.from.UTC().Format(time.RFC3339)}}
		if !w.to.IsZero() {
			values.Set("created[lte]", w.to.UTC().Add(time.Second-time.Millisecond).Format("2006-01-02T15:04:05.000Z07:00"))
		}
		add(stripeapi.Request{Path: "/v2/core/events", Values: values, Version: thinVersion})
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

// widest splits types into exact ones and patterns, without those that a pattern has anyway. Where "*" is
// among them it returns none: everything is listed.
func widest(types []string) (exact, wild []string) {
	covered := func(one string) bool {
		return slices.ContainsFunc(types, func(other string) bool { return other != one && fits(other, one) })
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

// fits is true if a pattern has a type, or all that another pattern has.
func fits(pattern, eventType string) bool {
	if prefix, wild := strings.CutSuffix(pattern, "*"); wild {
		return strings.HasPrefix(eventType, prefix)
	}
	return pattern == eventType
}

// sendsThinOnly is true if the account delivers thin events and no snapshot events. An endpoint or a
// destination that the key may not see counts as none.
func (o *Operator) sendsThinOnly(ctx context.Context) (bool, error) {
	snapshots, err := o.any(ctx, stripeapi.Request{Path: "/v1/webhook_endpoints"}, func(object json.RawMessage) bool {
		var endpoint struct {
			Status string `json:"status"`
		}
		return json.Unmarshal(object, &endpoint) == nil && endpoint.Status != "disabled"
	})
	if err != nil || snapshots {
		return false, err
	}
	return o.any(ctx, stripeapi.Request{Path: "/v2/core/event_destinations", Version: thinVersion}, func(object json.RawMessage) bool {
		var destination struct {
			Status  string `json:"status"`
			Payload string `json:"event_payload"`
		}
		return json.Unmarshal(object, &destination) == nil && destination.Status != "disabled" && destination.Payload == "thin"
	})
}

// any is true if a list has an object that fits. What the key may not see, or the API does not know, has none.
func (o *Operator) any(ctx context.Context, request stripeapi.Request, fits func(json.RawMessage) bool) (bool, error) {
	for next := &request; next != nil; {
		page, err := o.api.Page(ctx, *next)
		switch status := stripeapi.Status(err); {
		case status >= http.StatusBadRequest && status < http.StatusInternalServerError && status != http.StatusTooManyRequests && status != http.StatusUnauthorized:
			return false, nil
		case err != nil:
			return false, fmt.Errorf("list what Stripe delivers to: %w", stripeapi.Explain(err))
		}
		if slices.ContainsFunc(page.Data, fits) {
			return true, nil
		}
		next = page.Next
	}
	return false, nil
}
