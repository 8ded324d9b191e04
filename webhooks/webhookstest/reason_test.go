package webhookstest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// newReceiver is a receiver whose handler of invoice.paid is paid.
func newReceiver(t *testing.T, paid func(ctx context.Context, tx pgx.Tx) error) *webhooks.Receiver {
	t.Helper()
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *stripe.Invoice) error { return paid(ctx, tx) })
	r, err := webhooks.New(pgtest.NewPool(t), h, &webhooks.Config{Secrets: []string{webhookstest.Secret}, Logger: hooktest.NoLog()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Middleware finds the server's own ResponseWriter: gin asserts http.Flusher and http.Hijacker, and panics without them.
func TestResponseWriter(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(context.Context, pgx.Tx) error { return errors.New("no such organization") })
	sender := webhookstest.New(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, flushes := w.(http.Flusher)
		_, hijacks := w.(http.Hijacker)
		if !flushes || !hijacks {
			t.Errorf("the handler gets a %T: Flusher %v, Hijacker %v", w, flushes, hijacks)
		}
		r.ServeHTTP(w, req)
	}), "/", webhookstest.Secret)
	reply := sender.Deliver(webhookstest.Event{Type: "invoice.paid"}.Body())
	if reply.Status != http.StatusInternalServerError || !strings.Contains(reply.Reason, "no such organization") {
		t.Errorf("the reply is %s", reply)
	}
}

// http.TimeoutHandler responds while the receiver is still busy, whose reason is then in no response.
func TestTimeoutHandler(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(context.Context, pgx.Tx) error { return nil })
	responded, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	slow := http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		<-responded
		r.ServeHTTP(w, req)
		ended <- struct{}{}
	}), time.Millisecond, "slow")
	sender := webhookstest.New(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		slow.ServeHTTP(w, req)
		responded <- struct{}{}
	}), "/", webhookstest.Secret)
	for range 20 {
		reply := sender.Post(webhookstest.Event{Type: "invoice.paid"}.Body(), "no signature")
		pgtest.Receive(t, "the receiver's own response", ended)
		if reply.Status != http.StatusServiceUnavailable || reply.Reason != "" || reply.Body != "slow" {
			t.Errorf("the reply is %s", reply)
		}
	}
}

// The reason of a parked event is what the handler gave to Park.
func TestReasonOfParked(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(context.Context, pgx.Tx) error { return webhooks.Park(errors.New("nobody knows the customer")) })
	sender := webhookstest.New(t, r, "/", webhookstest.Secret)
	reply := sender.Deliver(webhookstest.Event{Type: "invoice.paid"}.Body())
	if reply.Outcome != webhooks.OutcomeParked || !strings.Contains(reply.Reason, "nobody knows the customer") {
		t.Errorf("the reply is %s", reply)
	}
}
