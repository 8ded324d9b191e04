package webhookstest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v79/webhook"

	"github.com/pook/stripeonce/webhooks"
)

// Secret is a signing secret for tests.
const Secret = "whsec_webhookstest_of_stripeonce"

// DefaultAPIVersion is the version of events that name none.
const DefaultAPIVersion = "2024-06-20"

const (
	// deliveriesPerEvent is how many times a storm delivers each event.
	deliveriesPerEvent = 3
	// deliveriesAtOnce is the number of a storm's deliveries in flight.
	deliveriesAtOnce = 8
	// attempts is how often a storm attempts a delivery that is not answered with a 2xx. Stripe retries for three days.
	attempts = 20
)

// Event is an event to be delivered. See https://docs.stripe.com/api/events/object.
type Event struct {
	ID         string    // empty: a new one
	Type       string    // such as "invoice.paid"
	Created    time.Time // zero: now
	APIVersion string    // empty: DefaultAPIVersion
	Account    string    // the connected account; empty: the platform's own
	Livemode   bool
	Object     any // data.object: a map, a struct of stripe-go, or JSON as json.RawMessage
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
	data := map[string]any{"object": ev.Object}
	if ev.Previous != nil {
		data["previous_attributes"] = ev.Previous
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

// Subscription is a subscription for an event's Object. Its JSON is that of Stripe's API since 2025-03-31.
type Subscription struct {
	ID         string // empty: a new one
	CustomerID string // empty: a new one
	Status     string // empty: active
	PriceID    string
	Quantity   int64 // 0: 1
	Metadata   map[string]string
}

// MarshalJSON renders the subscription.
func (s Subscription) MarshalJSON() ([]byte, error) {
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	now := time.Now()
	id := or(s.ID, NewID("sub"))
	metadata := s.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	return json.Marshal(map[string]any{
		"id": id, "object": "subscription", "customer": or(s.CustomerID, NewID("cus")), "status": or(s.Status, "active"), "currency": "usd",
		"created": now.Unix(), "cancel_at_period_end": false, "collection_method": "charge_automatically", "livemode": false, "metadata": metadata,
		"items": map[string]any{"object": "list", "has_more": false, "data": []any{map[string]any{
			"id": "si_of_" + id, "object": "subscription_item", "quantity": max(s.Quantity, 1), "metadata": map[string]any{},
			"current_period_start": now.Unix(), "current_period_end": now.AddDate(0, 1, 0).Unix(),
			"price": map[string]any{"id": or(s.PriceID, "price_test"), "object": "price", "product": "prod_test"},
		}}},
	})
}

// Sign returns the Stripe-Signature header of a body with the current time.
func Sign(body []byte, secret string) string { return SignAt(body, secret, time.Now()) }

// SignAt is Sign with another time. Receivers refuse a signature that is older than five minutes.
func SignAt(body []byte, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: secret, Timestamp: at}).Header
}

// Reply is the response to a delivery.
type Reply struct {
	Status int
	Body   string
	webhooks.Result
}

// OK reports whether the status is a 2xx, the only response that Stripe does not retry.
func (r Reply) OK() bool { return r.Status/100 == 2 }

func (r Reply) String() string { return fmt.Sprintf("%d %s", r.Status, r.Body) }

// Stripe delivers to one handler. Create it with New.
type Stripe struct {
	tb     testing.TB
	url    string
	secret string
	client *http.Client
}

// New serves a handler, such as your *echo.Echo, until the test ends. The result delivers to the route at path.
func New(tb testing.TB, handler http.Handler, path, secret string) *Stripe {
	tb.Helper()
	server := httptest.NewServer(handler)
	tb.Cleanup(server.Close)
	return &Stripe{tb, server.URL + path, secret, server.Client()}
}

// Deliver signs a body, posts it, and returns the reply.
func (s *Stripe) Deliver(body []byte) Reply {
	s.tb.Helper()
	reply, err := s.post(body, Sign(body, s.secret))
	if err != nil {
		s.tb.Fatal(err)
	}
	return reply
}

// Post posts a body with a given signature, such as a wrong one.
func (s *Stripe) Post(body []byte, signature string) Reply {
	s.tb.Helper()
	reply, err := s.post(body, signature)
	if err != nil {
		s.tb.Fatal(err)
	}
	return reply
}

func (s *Stripe) post(body []byte, signature string) (reply Reply, err error) {
	req, err := http.NewRequestWithContext(s.tb.Context(), http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return reply, err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set(webhooks.SignatureHeader, signature)
	resp, err := s.client.Do(req)
	if err != nil {
		return reply, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	reply = Reply{Status: resp.StatusCode, Body: string(bytes.TrimSpace(text))}
	if reply.OK() {
		_ = json.Unmarshal(text, &reply.Result)
	}
	return reply, err
}

// Expect delivers an event once and checks the outcome. It returns the event's id.
func (s *Stripe) Expect(ev Event, outcome webhooks.Outcome) (id string) {
	s.tb.Helper()
	reply := s.Deliver(ev.Body())
	if reply.Outcome != outcome {
		s.tb.Errorf("%s is answered %s, want the outcome %s", ev.Type, reply, outcome)
	}
	return reply.EventID
}

// Storm delivers events as Stripe does on its worst day: each three times, out of order, with duplicates at the same
// instant, and with retries until each delivery is answered with a 2xx. If a delivery is never answered with a 2xx, the
// test fails. Afterwards check that each event took effect once. The order differs from run to run.
func (s *Stripe) Storm(events ...Event) {
	s.tb.Helper()
	var deliveries [][]byte
	for _, ev := range events {
		body := ev.Body()
		for range deliveriesPerEvent {
			deliveries = append(deliveries, body)
		}
	}
	mathrand.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
	var wg sync.WaitGroup
	var mu sync.Mutex
	failures := map[string]int{} // most deliveries fail for the same reason
	slots := make(chan struct{}, deliveriesAtOnce)
	for _, body := range deliveries {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := s.insist(body); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failures[err.Error()]++
			}
		})
	}
	wg.Wait()
	for failure, times := range failures {
		s.tb.Errorf("%d of %d deliveries: %s", times, len(deliveries), failure)
	}
}

// insist delivers until the response is a 2xx.
func (s *Stripe) insist(body []byte) error {
	var reply Reply
	for range attempts {
		var err error
		if reply, err = s.post(body, Sign(body, s.secret)); err != nil {
			return err
		}
		if reply.OK() {
			return nil
		}
	}
	return fmt.Errorf("after %d attempts the response is still %s", attempts, reply)
}
