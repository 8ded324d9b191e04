// Package hooktest runs a receiver on a test's own database and delivers to it over real HTTP.
package hooktest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// Secret is the signing secret of a Host.
const Secret = "whsec_of_a_test"

// NoLog returns a logger that discards everything.
func NoLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Host is a receiver behind an HTTP server.
type Host struct {
	Pool *pgxpool.Pool
	// DatabaseURL is the URL of Pool's database.
	DatabaseURL string
	Receiver    *webhooks.Receiver
	Sender      *delivery.Sender
	URL         string
}

// New starts a receiver on a new database. configure may change the defaults; it may be nil.
func New(tb testing.TB, h *webhooks.Handlers, configure func(*webhooks.Config)) *Host {
	tb.Helper()
	return On(tb, pgtest.NewPool(tb), h, configure)
}

// On is New with a given pool.
func On(tb testing.TB, pool *pgxpool.Pool, h *webhooks.Handlers, configure func(*webhooks.Config)) *Host {
	tb.Helper()
	config := &webhooks.Config{Secrets: []string{Secret}, Logger: NoLog(), AcquireTimeout: pgtest.WaitLimit}
	if configure != nil {
		configure(config)
	}
	receiver, err := webhooks.New(pool, h, config)
	if err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewServer(receiver)
	tb.Cleanup(server.Close)
	sender := delivery.NewSender(server.URL, Secret, 64)
	tb.Cleanup(sender.Close)
	return &Host{Pool: pool, DatabaseURL: pool.Config().ConnString(), Receiver: receiver, Sender: sender, URL: server.URL}
}

// Send delivers a body, signed, and returns the reply.
func (h *Host) Send(tb testing.TB, body []byte) delivery.Reply {
	tb.Helper()
	reply, err := h.Sender.Send(context.Background(), body)
	if err != nil {
		tb.Fatal(err)
	}
	return reply
}

// Expect delivers a body and checks the status and, for a 200, the outcome.
func (h *Host) Expect(tb testing.TB, body []byte, status int, outcome webhooks.Outcome) {
	tb.Helper()
	if reply := h.Send(tb, body); reply.Status != status || reply.Outcome() != outcome {
		tb.Errorf("the reply is %s, want %d %s", reply, status, outcome)
	}
}

// Shutdown shuts the receiver down. It waits at most pgtest.WaitLimit.
func (h *Host) Shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.WaitLimit)
	defer cancel()
	return h.Receiver.Shutdown(ctx)
}

// Event returns the body of an event with an object.
func Event(id, eventType string, created int64, object string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"object":"event","api_version":"2024-06-20","created":%d,"livemode":false,`+
		`"data":{"object":%s},"type":%q}`, id, created, object, eventType)
}

// Count returns the number of rows of a table.
func (h *Host) Count(tb testing.TB, table string) int {
	tb.Helper()
	return pgtest.Scan[int](tb, h.Pool, "SELECT count(*)::int FROM "+table)
}
