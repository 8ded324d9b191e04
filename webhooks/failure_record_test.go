package webhooks_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/projection"
	"github.com/pook/stripeonce/webhooks"
)

// The failure of a thin event is recorded under the id and the type of its snapshot event: the id under which it is in
// the ledger once it is applied. Otherwise it would count as failing for good.
func TestFailureOfThinEvent(t *testing.T) {
	t.Parallel()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"id":"sub_1","object":"subscription","status":"active"}`))
	}))
	t.Cleanup(api.Close)
	failure := errOfATest
	h := webhooks.NewHandlers()
	webhooks.On(h, "customer.subscription.updated", func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error { return failure })
	host := hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", api.URL })
	body := []byte(`{"id":"evt_thin","object":"v2.core.event","type":"v1.customer.subscription.updated","created":"2024-10-01T10:00:00Z",
		"related_object":{"id":"sub_1","type":"subscription","url":"/v1/subscriptions/sub_1"},"snapshot_event":"evt_snapshot"}`)
	host.Expect(t, body, 500, "")
	const records = `SELECT string_agg(event_id || ' ' || event_type, ', ') FROM stripe_webhook_failures`
	if got, want := pgtest.Scan[string](t, host.Pool, records), "evt_snapshot customer.subscription.updated"; got != want {
		t.Errorf("the failure is recorded as %s, want %s", got, want)
	}
	failure = nil
	host.Expect(t, body, 200, webhooks.OutcomeProcessed)
	const failing = `SELECT count(*)::int FROM stripe_webhook_failures AS f WHERE NOT EXISTS (SELECT FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id)`
	if n := pgtest.Scan[int](t, host.Pool, failing); n != 0 {
		t.Errorf("%d events count as failing", n)
	}
}

// A failure whose record cannot be written is in the log, at level ERROR: the failure, and why there is no record.
func TestFailureWithoutRecordIsLogged(t *testing.T) {
	t.Parallel()
	log := &lockedBuffer{}
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return errOfATest }), func(c *webhooks.Config) {
		c.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError}))
	})
	pgtest.Exec(t, host.Pool, `DROP TABLE stripe_webhook_failures`)
	host.Expect(t, testEvent, 500, "")
	if err := host.Shutdown(); err != nil { // so that nothing is left to be recorded
		t.Fatal(err)
	}
	for _, want := range []string{"event_id=evt_1", errOfATest.Error(), `relation \"stripe_webhook_failures\" does not exist`} {
		if text := log.String(); !strings.Contains(text, want) {
			t.Errorf("the log lacks %q:\n%s", want, text)
		}
	}
}

// The record of a failure names its cause: what a projection's deferred write was refused for, even if a handler runs after
// it in the same transaction.
func TestFailureOfDeferredWriteNamesItsCause(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	project(h, "test.event", false, func(*webhooks.Event) projection.Plan { return writing(`SELECT 1 / 0`, false) })
	webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		return exec(addOne)(ctx, tx)
	})
	host := newCounter(t, h, nil)
	host.Expect(t, testEvent, 500, "")
	if got := pgtest.Scan[string](t, host.Pool, `SELECT last_error FROM stripe_webhook_failures`); !strings.Contains(got, "division by zero") {
		t.Errorf("the record says %q", got)
	}
	expectCounter(t, host, 0)
}

// writing is a projection that gives one statement to be written later. If it swallows, the statement does not return its
// error.
func writing(statement string, swallows bool) projection.Plan {
	return projection.Plan{Apply: func(_ context.Context, _ pgx.Tx, writes *pgpipe.Writes) (bool, error) {
		writes.Add(func(ctx context.Context, db pgpipe.DBTX) error {
			_, err := db.Exec(ctx, statement)
			if swallows {
				return nil
			}
			return err
		})
		return true, nil
	}}
}

// A deferred write whose error the projection swallows is no success all the same: nothing is committed, and the event
// fails. With COMMIT or before it, with prepared statements or without.
func TestSwallowedErrorOfDeferredWrite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mode    string
		handler bool // runs after the projection
	}{"with COMMIT": {"", false}, "before a handler": {"", true}, "without prepared statements": {"&default_query_exec_mode=exec", false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := webhooks.NewHandlers()
			project(h, "test.event", false, func(*webhooks.Event) projection.Plan { return writing(addOne, false) })
			project(h, "test.event", false, func(*webhooks.Event) projection.Plan { return writing(`SELECT 1 / 0`, true) })
			if c.handler {
				webhooks.On(h, "test.event", func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error { return nil })
			}
			log := &lockedBuffer{}
			host := hooktest.On(t, pgtest.Connect(t, pgtest.NewURL(t)+c.mode), h, func(c *webhooks.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
			pgtest.Exec(t, host.Pool, `CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)`)
			for range 2 { // the first prepares the statements
				host.Expect(t, testEvent, 500, "")
			}
			expectCounter(t, host, 0)
			if n := host.Count(t, "stripe_webhook_events"); n != 0 {
				t.Errorf("the ledger has %d rows", n)
			}
			if text := log.String(); strings.Count(text, "status=500") != 2 || strings.Count(text, "division by zero") != 2 {
				t.Errorf("the log does not name the cause of both failures:\n%s", text)
			}
		})
	}
}

// A 500 counts as failed and a 503 as unavailable: alerts tell them apart.
func TestStatsOfFailures(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return errOfATest }), func(c *webhooks.Config) { c.LockTimeout = 50 * time.Millisecond })
	host.Expect(t, testEvent, 500, "")
	host.Expect(t, testEvent, 500, "")
	if err := host.Shutdown(); err != nil {
		t.Fatal(err)
	}
	host.Expect(t, testEvent, 503, "")
	got := host.Receiver.Stats().Deliveries
	if failed, unavailable := got["failed"].Count, got["unavailable"].Count; failed != 2 || unavailable != 1 {
		t.Errorf("%d count as failed and %d as unavailable, want 2 and 1", failed, unavailable)
	}
}
