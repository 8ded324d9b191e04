package webhookstest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v79/webhook"

	"github.com/pook/stripeonce/internal/reason"
	"github.com/pook/stripeonce/webhooks"
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

// Reply is the response to a delivery.
type Reply struct {
	Status int
	Body   string
	// Reason is why the event took no effect: the error of the handler that failed or parked it, which no other response shows.
	// Empty: it took effect, or the receiver is not stripeonce's.
	Reason string
	webhooks.Result
}

// OK reports whether the status is a 2xx, the only response that Stripe does not retry.
func (r Reply) OK() bool { return r.Status/100 == 2 }

func (r Reply) String() string {
	text := fmt.Sprintf("%d %s", r.Status, r.Body)
	if r.Reason != "" {
		text += " (" + r.Reason + ")"
	}
	return text
}

// Stripe delivers to one handler. Create it with New.
type Stripe struct {
	// Seed is that of the order of a Storm. 0: a random one, which a failed storm logs.
	Seed uint64

	tb     testing.TB
	url    string
	secret string
	client *http.Client
}

// New serves a handler, such as your *echo.Echo, until the test ends. The result delivers to the route at path.
func New(tb testing.TB, handler http.Handler, path, secret string) *Stripe {
	tb.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		handler.ServeHTTP(w, req.WithContext(reason.With(req.Context())))
	}))
	tb.Cleanup(server.Close)
	return &Stripe{tb: tb, url: server.URL + path, secret: secret, client: server.Client()}
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
	reply = Reply{Status: resp.StatusCode, Body: string(bytes.TrimSpace(text)), Reason: reason.In(resp.Header)}
	if reply.OK() {
		_ = json.Unmarshal(text, &reply.Result)
	}
	return reply, err
}

// Expect delivers an event once and checks the outcome. It returns the event's id. A failure shows the handler's error.
func (s *Stripe) Expect(ev Event, outcome webhooks.Outcome) (id string) {
	s.tb.Helper()
	reply := s.Deliver(ev.Body())
	if reply.Outcome != outcome {
		s.tb.Errorf("%s is answered %s, want the outcome %s", ev.Type, reply, outcome)
	}
	return reply.EventID
}
