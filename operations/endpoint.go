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
	"github.com/pook/stripeonce/webhooks"
)

// ErrExists is wrapped by the error of CreateEndpoint if there is already an endpoint for the URL that delivers in this form.
var ErrExists = errors.New("an endpoint for this URL already exists")

// EndpointKind is one of the two kinds of objects by which Stripe delivers events.
type EndpointKind string

// The kinds of endpoints. Stripe recommends event destinations for new integrations: https://docs.stripe.com/event-destinations.
const (
	KindWebhookEndpoint  EndpointKind = "webhook_endpoint"  // https://docs.stripe.com/api/webhook_endpoints
	KindEventDestination EndpointKind = "event_destination" // https://docs.stripe.com/api/v2/core/event-destinations
)

// Endpoint is one of Stripe's webhook endpoints or event destinations, compared with the event types that have handlers.
type Endpoint struct {
	ID   string       `json:"id"` // we_… or ed_…; empty: not created (a dry run)
	Kind EndpointKind `json:"kind"`
	// Type is where a destination delivers: webhook_endpoint, amazon_eventbridge, azure_event_grid.
	Type string `json:"type"`
	URL  string `json:"url"` // empty for a destination that is no webhook endpoint
	// Payload is PayloadSnapshot or PayloadThin.
	Payload    EventPayload `json:"event_payload"`
	Status     string       `json:"status"` // enabled or disabled
	APIVersion string       `json:"api_version"`
	Livemode   bool         `json:"livemode"`
	// EventsFrom is whose events a destination delivers, in Stripe's words, such as @self. Nil for a webhook endpoint.
	EventsFrom    []string `json:"events_from,omitempty"`
	EnabledEvents []string `json:"enabled_events"`
	// Secret is the signing secret, which Stripe returns only when the endpoint is created.
	Secret string `json:"secret,omitempty"`
	// Missing are event types that have handlers but are not delivered. Unhandled are types that are delivered but have no
	// handler.
	Missing   []string `json:"missing"`
	Unhandled []string `json:"unhandled"`
}

// Complete reports whether the endpoint is enabled and delivers every event type that has a handler. An event destination
// that does not deliver to a URL is not compared, and counts as complete.
func (e *Endpoint) Complete() bool {
	return e.Type != string(KindWebhookEndpoint) || e.Status != "disabled" && len(e.Missing) == 0
}

// Endpoints lists Stripe's webhook endpoints and event destinations, compared with types, which may be patterns. A non-empty
// endpointURL, or an endpoint's id (we_…, ed_…), selects those with that URL or id. If the key may not list event
// destinations, they are left out, with a warning.
func (o *Operator) Endpoints(ctx context.Context, types []string, endpointURL string) ([]Endpoint, error) {
	if o.config.APIKey == "" {
		return nil, ErrNoAPIKey
	}
	raws, err := o.all(ctx, stripeapi.Request{Path: "/v1/webhook_endpoints", Values: url.Values{"limit": {strconv.Itoa(stripeapi.PageSize)}}})
	if err != nil {
		return nil, fmt.Errorf("list the webhook endpoints: %w", stripeapi.Explain(err))
	}
	destinations, err := o.all(ctx, stripeapi.Request{Path: destinationsPath, Values: url.Values{
		"limit": {strconv.Itoa(stripeapi.PageSize)}, "include[0]": {includeURL},
	}})
	switch {
	case err != nil && unlessRefused(err) == nil:
		o.config.Logger.WarnContext(ctx, "could not list event destinations: the API key lacks the permission", "error", stripeapi.Explain(err))
	case err != nil:
		return nil, fmt.Errorf("list the event destinations: %w", stripeapi.Explain(err))
	}
	var endpoints []Endpoint
	for _, raw := range append(raws, destinations...) {
		e, err := readEndpoint(raw, types)
		if err != nil {
			return nil, err
		}
		known := slices.ContainsFunc(endpoints, func(other Endpoint) bool { return other.ID == e.ID }) // listed as both
		if !known && (endpointURL == "" || e.URL == endpointURL || e.ID == endpointURL) {
			endpoints = append(endpoints, *e)
		}
	}
	return endpoints, nil
}

const (
	destinationsPath = "/v2/core/event_destinations"
	includeURL       = "webhook_endpoint.url"
	includeSecret    = "webhook_endpoint.signing_secret"
)

// readEndpoint reads a webhook endpoint or an event destination.
func readEndpoint(raw json.RawMessage, types []string) (*Endpoint, error) {
	var fields struct {
		Endpoint
		Object             string `json:"object"`
		SnapshotAPIVersion string `json:"snapshot_api_version"`
		WebhookEndpoint    struct {
			URL    string `json:"url"`
			Secret string `json:"signing_secret"`
		} `json:"webhook_endpoint"`
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("decode a webhook endpoint: %w", err)
	}
	e := &fields.Endpoint
	if fields.Object == "v2.core.event_destination" {
		e.Kind, e.URL, e.Secret, e.APIVersion = KindEventDestination, fields.WebhookEndpoint.URL, fields.WebhookEndpoint.Secret, fields.SnapshotAPIVersion
	} else {
		e.Kind, e.Type, e.Payload = KindWebhookEndpoint, string(KindWebhookEndpoint), PayloadSnapshot
	}
	e.compare(types)
	return e, nil
}

// compare compares the types that have handlers with those that the endpoint delivers.
func (e *Endpoint) compare(handled []string) {
	e.Missing, e.Unhandled = []string{}, []string{} // for JSON: never null
	if e.Type != string(KindWebhookEndpoint) {
		return
	}
	for _, one := range expand(e.Payload, handled) {
		if !slices.Contains(e.EnabledEvents, one) && !slices.Contains(e.EnabledEvents, "*") {
			e.Missing = append(e.Missing, one)
		}
	}
	for _, one := range e.EnabledEvents {
		if !handles(e.Payload, handled, one) {
			e.Unhandled = append(e.Unhandled, one)
		}
	}
}

// handles reports whether there is a handler for a type as an endpoint has it.
func handles(payload EventPayload, handled []string, delivered string) bool {
	if payload == PayloadThin {
		v1, aboutV1 := strings.CutPrefix(delivered, "v1.")
		if delivered == webhooks.HealthEvent { // projections need no handler of their own for it
			return true
		}
		if delivered != "*" && !aboutV1 {
			return slices.Contains(handled, delivered) // handlers of v2 events are for exactly their type
		}
		if aboutV1 {
			delivered = v1
		}
	}
	return slices.ContainsFunc(handled, func(pattern string) bool { return eventtypes.PatternMatches(pattern, delivered) })
}

// expand returns types with each pattern replaced by the known types that match it, since an endpoint takes no patterns but
// "*". Exact types are kept whether they are known or not, and so is "*". With "*", which leaves out types that need explicit
// selection, exact types that are not known are kept. Types of v2 resources are left out of snapshot events: only thin events are
// about these.
func expand(payload EventPayload, types []string) []string {
	prefix, known := "", eventtypes.List()
	if payload == PayloadThin {
		prefix, known = "v1.", eventtypes.ThinList()
	}
	all := slices.Contains(types, "*")
	var list []string
	for _, one := range types {
		switch v2 := strings.HasPrefix(one, "v2."); {
		case one == "*":
			list = append(list, one)
		case strings.HasSuffix(one, "*"):
		case v2 && payload == PayloadThin:
			list = append(list, one)
		case v2, all && slices.Contains(known, one), payload == PayloadSnapshot && eventtypes.ThinOnly(one):
		default:
			list = append(list, prefix+one)
		}
	}
	for _, one := range known {
		if !all && slices.ContainsFunc(types, func(pattern string) bool { return eventtypes.PatternMatches(pattern, one) }) {
			list = append(list, prefix+one)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// EndpointOptions configures CreateEndpoint. The zero value creates a webhook endpoint for the account's own events, of the
// account's API version.
type EndpointOptions struct {
	// Thin creates an event destination for thin events.
	Thin bool
	// Connect is for the events of connected accounts. For thin events they are delivered in addition to the account's own.
	Connect bool
	// APIVersion is the version of the events. Thin events have none. Defaults to the account's.
	APIVersion string
	DryRun     bool
}

func (options *EndpointOptions) payload() EventPayload {
	if options.Thin {
		return PayloadThin
	}
	return PayloadSnapshot
}

// CreateEndpoint creates an endpoint for a URL that delivers types. The result has the new signing secret, which Stripe
// does not return again. The error wraps ErrExists if there is already an endpoint for the URL with the same payload.
func (o *Operator) CreateEndpoint(ctx context.Context, types []string, endpointURL string, options EndpointOptions) (*Endpoint, error) {
	u, err := url.Parse(endpointURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%w: %q is not a URL such as https://example.com/webhooks/stripe", ErrRefused, endpointURL)
	case options.Thin && options.APIVersion != "":
		return nil, fmt.Errorf("%w: thin events have no API version", ErrRefused)
	}
	existing, err := o.Endpoints(ctx, types, endpointURL)
	if err != nil {
		return nil, err
	}
	if err := options.distinct(existing); err != nil {
		return nil, err
	}
	enabled := expand(options.payload(), types)
	if len(enabled) == 0 {
		return nil, fmt.Errorf("%w: there is no event type to deliver: no handler is registered for %s events", ErrRefused, options.payload())
	}
	e := &Endpoint{
		URL: endpointURL, Kind: KindWebhookEndpoint, Type: string(KindWebhookEndpoint), Payload: options.payload(), Status: "enabled",
		APIVersion: options.APIVersion, EnabledEvents: enabled,
	}
	if options.Thin {
		e.Kind, e.EventsFrom = KindEventDestination, []string{fromSelf}
		if options.Connect {
			e.EventsFrom = append(e.EventsFrom, fromAccounts)
		}
	}
	if options.DryRun {
		e.compare(types)
		return e, nil
	}
	return o.writeEndpoint(ctx, types, options.request(e))
}

// distinct returns an error where an endpoint of these options would deliver the same events as one of existing, all of its URL.
func (options *EndpointOptions) distinct(existing []Endpoint) error {
	if options.Connect && !options.Thin { // for connected accounts, an endpoint beside that for the account's own events
		return nil
	}
	at := slices.IndexFunc(existing, func(e Endpoint) bool { return e.Payload == options.payload() })
	if at < 0 {
		return nil
	}
	e, from := &existing[at], ""
	if options.Thin && options.Connect && !slices.Contains(e.EventsFrom, fromAccounts) {
		from = ", which delivers events of " + strings.Join(e.EventsFrom, ", ") + " alone: change that in the dashboard, or delete it"
	}
	return fmt.Errorf("%w: %w (%s%s)", ErrRefused, ErrExists, e.ID, from)
}

// request is the request that creates e.
func (options *EndpointOptions) request(e *Endpoint) stripeapi.Request {
	if options.Thin {
		return stripeapi.Request{Path: destinationsPath, JSON: map[string]any{
			"name": "stripeonce", "type": KindWebhookEndpoint, "event_payload": PayloadThin, "enabled_events": e.EnabledEvents,
			"events_from": e.EventsFrom, "webhook_endpoint": map[string]any{"url": e.URL}, "include": []string{includeURL, includeSecret},
		}}
	}
	values := url.Values{"url": {e.URL}, "enabled_events[]": e.EnabledEvents, "description": {"stripeonce"}}
	if options.Connect {
		values.Set("connect", "true")
	}
	if options.APIVersion != "" {
		values.Set("api_version", options.APIVersion)
	}
	return stripeapi.Request{Path: "/v1/webhook_endpoints", Values: values}
}

// Whose events a destination delivers: https://docs.stripe.com/api/v2/core/event-destinations/create.
const (
	fromSelf     = "@self"
	fromAccounts = "@accounts"
)

// UpdateEndpoint enables an endpoint and adds the missing types. With exact it also removes types that have no handler: use it only if
// types has those of every handler behind the URL. A type that a handler's pattern matches is never removed, whether it is known or
// not, and neither is "*" where there is a pattern. With dryRun nothing is changed. The result is the endpoint as it is afterward, or
// would be. The error wraps ErrRefused if the endpoint does not deliver to a URL.
func (o *Operator) UpdateEndpoint(ctx context.Context, types []string, e *Endpoint, exact, dryRun bool) (*Endpoint, error) {
	if e.Type != string(KindWebhookEndpoint) {
		return nil, fmt.Errorf("%w: %s delivers to %s, not to a URL", ErrRefused, e.ID, e.Type)
	}
	patterns := slices.ContainsFunc(types, func(one string) bool { return strings.HasSuffix(one, "*") })
	enabled := expand(e.Payload, types)
	for _, one := range e.EnabledEvents {
		if !exact || handles(e.Payload, types, one) || one == "*" && patterns {
			enabled = append(enabled, one)
		}
	}
	slices.Sort(enabled)
	enabled = slices.Compact(enabled)
	if slices.Contains(enabled, "*") { // with which known types are not named
		known := expand(e.Payload, types)
		enabled = slices.DeleteFunc(enabled, func(one string) bool {
			return one != "*" && slices.Contains(known, one) && !slices.Contains(e.EnabledEvents, one)
		})
	}
	if dryRun {
		updated := *e
		updated.Status, updated.EnabledEvents = "enabled", enabled
		updated.compare(types)
		return &updated, nil
	}
	if e.Kind == KindWebhookEndpoint {
		return o.writeEndpoint(ctx, types, stripeapi.Request{Path: "/v1/webhook_endpoints/" + url.PathEscape(e.ID), Values: url.Values{
			"enabled_events[]": enabled, "disabled": {"false"},
		}})
	}
	path := destinationsPath + "/" + url.PathEscape(e.ID)
	updated, err := o.writeEndpoint(ctx, types, stripeapi.Request{Path: path, JSON: map[string]any{
		"enabled_events": enabled, "include": []string{includeURL},
	}})
	if err != nil || updated.Status != "disabled" {
		return updated, err
	}
	if _, err := o.writeEndpoint(ctx, types, stripeapi.Request{Path: path + "/enable", JSON: map[string]any{"include": []string{includeURL}}}); err != nil {
		return nil, err
	}
	updated.Status = "enabled"
	return updated, nil
}

func (o *Operator) writeEndpoint(ctx context.Context, types []string, request stripeapi.Request) (*Endpoint, error) {
	request.Method = http.MethodPost
	answer, err := o.api.Do(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("write the endpoint: %w", stripeapi.Explain(err))
	}
	return readEndpoint(answer.Body, types)
}
