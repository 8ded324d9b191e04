package webhooks_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/webhooks"
)

// stripeAPI answers requests with what is set for a path, and keeps them. Anything else is a 404.
type stripeAPI struct {
	mu       sync.Mutex
	answers  map[string]string // path: body, or a status of three digits
	requests []*http.Request
	server   *httptest.Server
	reached  chan string // receives each path, if it is not nil
	release  chan struct{}
}

func newStripeAPI(t *testing.T, answers map[string]string) *stripeAPI {
	t.Helper()
	api := &stripeAPI{answers: answers}
	api.server = httptest.NewServer(api)
	t.Cleanup(api.server.Close)
	return api
}

func (api *stripeAPI) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	api.mu.Lock()
	api.requests = append(api.requests, req.Clone(context.Background()))
	answer := api.answers[req.URL.Path]
	reached, release := api.reached, api.release
	api.mu.Unlock()
	if reached != nil {
		reached <- req.URL.Path
		<-release
	}
	status := http.StatusNotFound
	switch {
	case len(answer) == 3:
		_, _ = fmt.Sscan(answer, &status)
	case answer != "":
		w.Header().Set("Stripe-Version", "2026-09-30.endive")
		_, _ = io.WriteString(w, answer)
		return
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"error":{"type":"invalid_request_error","message":"no"}}`)
}

func (api *stripeAPI) set(path, answer string) {
	api.mu.Lock()
	defer api.mu.Unlock()
	api.answers[path] = answer
}

// asked returns the requests so far as "path account-or-context version event".
func (api *stripeAPI) asked() (list []string) {
	api.mu.Lock()
	defer api.mu.Unlock()
	for _, req := range api.requests {
		h := req.Header
		list = append(list, strings.Join([]string{
			req.URL.Path, h.Get("Stripe-Account"), h.Get("Stripe-Context"), h.Get("Stripe-Version"), h.Get("Stripe-Request-Trigger"),
		}, "|"))
	}
	api.requests = nil
	return list
}

func (api *stripeAPI) config(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", api.server.URL }

func expectAsked(t *testing.T, api *stripeAPI, want ...string) {
	t.Helper()
	if got := strings.Join(api.asked(), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the requests to Stripe are\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// thinEvent is a thin event about a customer, with more members.
func thinEvent(id, eventType string, created time.Time, more string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"object":"v2.core.event","type":%q,"created":%q,"livemode":false,
		"related_object":{"id":"cus_1","type":"customer","url":"/v1/customers/cus_1"}%s}`, id, eventType, created.UTC().Format("2006-01-02T15:04:05.000Z"), more)
}

const (
	customerPath = "/v1/customers/cus_1"
	aCustomer    = `{"id":"cus_1","object":"customer","name":"now"}`
	noTwin       = `,"snapshot_event":null`
)

// seenBy records what a handler sees: the event's type, account, object and previous attributes.
type seenBy struct {
	mu   sync.Mutex
	list []string
	fail bool
}

func (s *seenBy) handle(_ context.Context, _ pgx.Tx, ev *webhooks.Event, object *json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, fmt.Sprintf("%s %s %s %s %s", ev.ID, ev.Type, ev.Account, *object, ev.Previous))
	if s.fail {
		return errOfATest
	}
	return nil
}

func (s *seenBy) expect(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := strings.Join(s.list, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the handler saw\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	s.list = nil
}

func (s *seenBy) handlers(types ...string) *webhooks.Handlers {
	h := webhooks.NewHandlers()
	for _, eventType := range types {
		webhooks.On(h, eventType, s.handle)
	}
	return h
}
