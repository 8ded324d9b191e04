package webhookstest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stripe/stripe-go/v79/webhook"
)

// Secret is a signing secret for tests.
const Secret = "whsec_webhookstest_of_stripeonce"

// DefaultAPIVersion is the version of events that name none.
const DefaultAPIVersion = "2024-06-20"

// Event is an event to be delivered. See https://docs.stripe.com/api/events/object.
type Event struct {
	ID         string    // empty: a new one
	Type       string    // such as "invoice.paid"
	Created    time.Time // zero: now
	APIVersion string    // empty: DefaultAPIVersion
	Account    string    // the connected account; empty: the platform's own
	Livemode   bool
	Object     any // data.object: a Subscription, Invoice or CheckoutSession; a map, a struct of stripe-go, or JSON as json.RawMessage
	Previous   any // data.previous_attributes; nil: none
}

// Body returns the event as Stripe would send it. It panics if Object or Previous cannot be marshaled to JSON. Two calls on
// an Event without an ID give two events.
func (ev Event) Body() []byte {
	if ev.ID == "" {
		ev.ID = NewID("evt")
	}
	if ev.Created.IsZero() {
		ev.Created = time.Now()
	}
	if ev.APIVersion == "" {
		ev.APIVersion = DefaultAPIVersion
	}
	if ev.Object == nil {
		ev.Object = map[string]any{}
	}
	data := map[string]any{"object": inEvent(ev.Object, &ev)}
	if ev.Previous != nil {
		data["previous_attributes"] = inEvent(ev.Previous, &ev)
	}
	event := map[string]any{
		"id": ev.ID, "object": "event", "api_version": ev.APIVersion, "created": ev.Created.Unix(), "livemode": ev.Livemode,
		"pending_webhooks": 1, "request": map[string]any{"id": nil, "idempotency_key": nil}, "type": ev.Type, "data": data,
	}
	if ev.Account != "" {
		event["account"] = ev.Account
	}
	body, err := json.MarshalIndent(event, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("webhookstest: event %s: %v", ev.ID, err))
	}
	return body
}

// NewID returns a random id in Stripe's form, such as evt_….
func NewID(prefix string) string { return prefix + "_" + rand.Text() }

// Sign returns the Stripe-Signature header of a body with the current time.
func Sign(body []byte, secret string) string { return SignAt(body, secret, time.Now()) }

// SignAt is Sign with another time. Receivers refuse a signature that is older than five minutes.
func SignAt(body []byte, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: secret, Timestamp: at}).Header
}
