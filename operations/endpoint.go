package operations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pook/stripeonce/internal/eventtypes"
	"github.com/pook/stripeonce/internal/stripeapi"
)

// ErrExists is wrapped by the error of CreateEndpoint if there is already an endpoint for the URL.
var ErrExists = errors.New("there is an endpoint for this URL already")

// Endpoint is one of Stripe's webhook endpoints, compared with the event types that have handlers.
// See https://docs.stripe.com/api/webhook_endpoints/object.
type Endpoint struct {
	ID            string   `json:"id"` // empty: not created (a dry run)
	URL           string   `json:"url"`
	Status        string   `json:"status"` // enabled or disabled
	APIVersion    string   `json:"api_version"`
	Livemode      bool     `json:"livemode"`
	EnabledEvents []string `json:"enabled_events"`
	// Secret is the signing secret, which Stripe returns only when the endpoint is created.
	Secret string `json:"secret,omitempty"`
	// Missing are event types that have handlers but are not delivered. Unhandled are types that are delivered but have no
	// handler.
	Missing   []string `json:"missing"`
	Unhandled []string `json:"superfluous"`
}

// Complete reports whether the endpoint is enabled and delivers every event type that has a handler.
func (e *Endpoint) Complete() bool { return e.Status != "disabled" && len(e.Missing) == 0 }

// Endpoints lists Stripe's webhook endpoints, compared with types, which may be patterns. A non-empty endpointURL, or an
// endpoint's id (we_…), selects the endpoints with that URL or id.
func (o *Operator) Endpoints(ctx context.Context, types []string, endpointURL string) ([]Endpoint, error) {
	if o.config.APIKey == "" {
		return nil, ErrNoAPIKey
	}
	var endpoints []Endpoint
	next := &stripeapi.Request{Path: "/v1/webhook_endpoints", Values: url.Values{"limit": {strconv.Itoa(stripeapi.PageSize)}}}
	for next != nil {
		page, err := o.api.Page(ctx, *next)
		if err != nil {
			return nil, fmt.Errorf("list the webhook endpoints: %w", stripeapi.Explain(err))
		}
		for _, raw := range page.Data {
			endpoint, err := readEndpoint(raw, types)
			if err != nil {
				return nil, err
			}
			if endpointURL == "" || endpoint.URL == endpointURL || endpoint.ID == endpointURL {
				endpoints = append(endpoints, *endpoint)
			}
		}
		next = page.Next
	}
	return endpoints, nil
}

func readEndpoint(raw json.RawMessage, types []string) (*Endpoint, error) {
	e := &Endpoint{}
	if err := json.Unmarshal(raw, e); err != nil {
		return nil, fmt.Errorf("a webhook endpoint: %w", err)
	}
	e.Missing, e.Unhandled = compareTypes(types, e.EnabledEvents)
	return e, nil
}

// compareTypes compares the types that have handlers with those that an endpoint delivers.
func compareTypes(handled, enabled []string) (missing, unhandled []string) {
	missing, unhandled = []string{}, []string{} // for JSON: never null
	for _, one := range Expand(handled) {
		if !slices.Contains(enabled, one) && !slices.Contains(enabled, "*") {
			missing = append(missing, one)
		}
	}
	for _, one := range enabled {
		if !slices.ContainsFunc(handled, func(pattern string) bool { return eventtypes.PatternMatches(pattern, one) }) {
			unhandled = append(unhandled, one)
		}
	}
	return missing, unhandled
}

// Expand returns types with each pattern replaced by the known types that match it, since an endpoint takes no patterns but
// "*". Exact types are kept whether they are known or not, and so is "*".
func Expand(types []string) []string {
	if slices.Contains(types, "*") {
		return []string{"*"}
	}
	var list []string
	for _, one := range types {
		if !strings.HasSuffix(one, "*") {
			list = append(list, one)
		}
	}
	for _, known := range eventtypes.List() {
		if slices.ContainsFunc(types, func(pattern string) bool { return eventtypes.PatternMatches(pattern, known) }) {
			list = append(list, known)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// CreateEndpoint creates an endpoint for a URL that delivers types. The result has the new signing secret, which Stripe
// does not return again. The error wraps ErrExists if there is already an endpoint for the URL.
func (o *Operator) CreateEndpoint(ctx context.Context, types []string, endpointURL string, dryRun bool) (*Endpoint, error) {
	u, err := url.Parse(endpointURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%w: %q is not a URL such as https://example.com/webhooks/stripe", ErrRefused, endpointURL)
	}
	existing, err := o.Endpoints(ctx, types, endpointURL)
	if err != nil {
		return nil, err
	}
	if len(existing) > 0 {
		return nil, fmt.Errorf("%w: %w (%s)", ErrRefused, ErrExists, existing[0].ID)
	}
	if dryRun {
		e := &Endpoint{URL: endpointURL, Status: "enabled", EnabledEvents: Expand(types)}
		e.Missing, e.Unhandled = compareTypes(types, e.EnabledEvents)
		return e, nil
	}
	return o.writeEndpoint(ctx, "/v1/webhook_endpoints", types, url.Values{
		"url": {endpointURL}, "enabled_events[]": Expand(types), "description": {"stripeonce"},
	})
}

// UpdateEndpoint enables an endpoint and adds the missing types. With exact it also removes the unhandled types: use it
// only if types are those of every handler behind the URL.
func (o *Operator) UpdateEndpoint(ctx context.Context, types []string, e *Endpoint, exact, dryRun bool) (*Endpoint, error) {
	enabled := Expand(types)
	if !exact {
		enabled = Expand(slices.Concat(types, e.EnabledEvents))
	}
	if dryRun {
		updated := *e
		updated.Status, updated.EnabledEvents = "enabled", enabled
		updated.Missing, updated.Unhandled = compareTypes(types, enabled)
		return &updated, nil
	}
	return o.writeEndpoint(ctx, "/v1/webhook_endpoints/"+url.PathEscape(e.ID), types, url.Values{
		"enabled_events[]": enabled, "disabled": {"false"},
	})
}

func (o *Operator) writeEndpoint(ctx context.Context, path string, types []string, values url.Values) (*Endpoint, error) {
	answer, err := o.api.Do(ctx, stripeapi.Request{Method: http.MethodPost, Path: path, Values: values})
	if err != nil {
		return nil, fmt.Errorf("write the webhook endpoint: %w", stripeapi.Explain(err))
	}
	return readEndpoint(answer.Body, types)
}
