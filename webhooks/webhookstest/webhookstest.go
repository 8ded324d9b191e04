package webhookstest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/reason"
	"github.com/pook/stripeonce/webhooks"
)

// Stripe delivers to one route of a handler, signed with one secret. Create it with New.
type Stripe struct {
	// Seed is that of the order of a Storm. Defaults to a random one, which a failed storm reports.
	Seed uint64
	// Concurrency is the number of deliveries in flight of Storm and Simulate. Duplicates at the same instant count as one. Defaults
	// to DefaultConcurrency.
	Concurrency int
	// Pauses are those after each attempt of Storm and Simulate without a 2xx. After the last one, a delivery is given up. Nil:
	// ten pauses that double from 5ms on, 5s in all. Empty: no retries.
	Pauses []time.Duration

	tb      testing.TB
	server  string
	path    string
	secret  string
	account string
	sender  *delivery.Sender
}

// New serves a handler, such as your *echo.Echo, until the test ends. The result delivers to the route at path, signed with one
// of the route's secrets.
func New(tb testing.TB, handler http.Handler, path, secret string) *Stripe {
	tb.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		handler.ServeHTTP(w, req.WithContext(reason.With(req.Context())))
	}))
	tb.Cleanup(server.Close)
	return (&Stripe{tb: tb, server: server.URL}).At(path, secret)
}

// At returns a Stripe for another route of the same handler: of a tenant (webhooks.Config.AccountFor), or of a second endpoint.
func (s *Stripe) At(path, secret string) *Stripe {
	at := *s
	at.path, at.secret, at.sender = path, secret, delivery.NewSender(s.server+path, secret, DefaultConcurrency)
	s.tb.Cleanup(at.sender.Close)
	return &at
}

// Connected returns a Stripe for the events of a connected account (acct_…): Expect and Storm give it to each Event without an
// Account. Empty: the platform's own events.
func (s *Stripe) Connected(account string) *Stripe {
	connected := *s
	connected.account = account
	return &connected
}

// of returns an event of this account.
func (s *Stripe) of(ev Event) Event {
	ev.Account = cmp.Or(ev.Account, s.account)
	return ev
}

// Reply is the response to a delivery.
type Reply struct {
	Status int
	Body   string // cut to 4 KiB
	// Reason is why the event took no effect: the error of the handler that failed or parked it, which no other response shows.
	// Empty: it took effect, or the receiver is not stripeonce's.
	Reason string
	webhooks.Result
}

func newReply(status int, header http.Header, body []byte) Reply {
	reply := Reply{Status: status, Body: string(body), Reason: reason.In(header)}
	if reply.OK() {
		_ = json.Unmarshal(body, &reply.Result)
	}
	return reply
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

// Deliver signs a body, posts it once, and returns the reply. Without a reply within 30s, the test fails at once.
func (s *Stripe) Deliver(body []byte) Reply {
	s.tb.Helper()
	return s.reply(s.sender.Send(s.tb.Context(), body))
}

// Replay is Deliver on behalf of a person, as the command stripeonce replay: the event takes effect even if it is parked
// (webhooks.Park). The body has the same event id as the parked one.
func (s *Stripe) Replay(body []byte) Reply {
	s.tb.Helper()
	return s.reply(s.sender.Replay(s.tb.Context(), body))
}

// Post is Deliver with a given signature, such as a wrong one. Empty: the request has none.
func (s *Stripe) Post(body []byte, signature string) Reply {
	s.tb.Helper()
	return s.reply(s.sender.Post(s.tb.Context(), body, signature))
}

func (s *Stripe) reply(reply delivery.Reply, err error) Reply {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatalf("webhookstest: no response from %s: %v", s.path, err)
	}
	return newReply(reply.Status, reply.Header, reply.Body)
}

// Expect delivers an event once and checks the outcome. It returns the event's id. If the outcome is another one, the test fails
// with the response and its Reason.
func (s *Stripe) Expect(ev Event, outcome webhooks.Outcome) (id string) {
	s.tb.Helper()
	reply := s.Deliver(s.of(ev).Body())
	if reply.Outcome != outcome {
		s.tb.Errorf("%s is answered %s, want the outcome %s", ev.Type, reply, outcome)
	}
	return reply.EventID
}
