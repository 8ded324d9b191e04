package webhooks_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// isReady has the look into the migrations behind it, so that a short time-out is the function's alone.
func isReady(t *testing.T, host *hooktest.Host) {
	t.Helper()
	if err := host.Receiver.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

const addOne = `UPDATE counter SET n = n + 1`

// counting runs what after an effect that is not idempotent.
func counting(what func(ctx context.Context, tx pgx.Tx) error) *webhooks.Handlers {
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		if _, err := tx.Exec(ctx, addOne); err != nil {
			return err
		}
		return what(ctx, tx)
	})
	return h
}

func newCounter(t *testing.T, h *webhooks.Handlers, configure func(*webhooks.Config)) *hooktest.Host {
	t.Helper()
	host := hooktest.New(t, h, configure)
	pgtest.Exec(t, host.Pool, `CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)`)
	pgtest.Exec(t, host.Pool, `CREATE TABLE other (id text UNIQUE); INSERT INTO other VALUES ('taken')`)
	return host
}

func expectCounter(t *testing.T, host *hooktest.Host, want int) {
	t.Helper()
	if n := pgtest.Scan[int](t, host.Pool, `SELECT n FROM counter`); n != want {
		t.Errorf("the effect happened %d times, want %d", n, want)
	}
}

var testEvent = hooktest.Event("evt_1", "test.event", 1700000000, `{"id":"obj_1"}`)

func exec(statement string) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, statement)
		return err
	}
}

// A function that fails in whatever way leaves nothing behind, and what it did not do is done when the
// event comes again to a function that works.
func TestFailureLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		what   func(ctx context.Context, tx pgx.Tx) error
		status int
	}{
		"returns an error": {func(context.Context, pgx.Tx) error { return errors.New("no") }, 500},
		"panics":           {func(context.Context, pgx.Tx) error { panic("no") }, 500},
		"panics with nil":  {func(context.Context, pgx.Tx) error { var p *int; _ = *p; return nil }, 500},
		"ends its goroutine": {func(context.Context, pgx.Tx) error {
			runtime.Goexit()
			return nil
		}, 500},
		"commits":                               {func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) }, 500},
		"rolls back":                            {func(ctx context.Context, tx pgx.Tx) error { return tx.Rollback(ctx) }, 500},
		"commits, swallows the error":           {func(ctx context.Context, tx pgx.Tx) error { _ = tx.Commit(ctx); return nil }, 500},
		"rolls back by statement":               {exec(`ROLLBACK`), 500},
		"violates another table's unique index": {exec(`INSERT INTO other VALUES ('taken')`), 500},
		"violates the ledger's by its own INSERT": {exec(`INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode)
			VALUES ('x', 'x', 'stale', false), ('x', 'x', 'stale', false)`), 500},
		"swallows an SQL error": {func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, `SELECT 1/0`)
			return nil
		}, 500},
		"reads a table that is not there": {exec(`SELECT * FROM nowhere`), 500},
		"runs out of time":                {exec(`SELECT pg_sleep(60)`), 500},
		"leaves its rows open": {func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `SELECT generate_series(1, 3)`)
			rows.Next()
			return err
		}, 500},
		"fails at COMMIT": {exec(`CREATE TABLE deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
			INSERT INTO deferred VALUES (1), (1)`), 500},
		"loses its connection": {exec(`SELECT pg_terminate_backend(pg_backend_pid())`), 500},
		"refuses the event": {func(context.Context, pgx.Tx) error {
			return fmt.Errorf("%w: not for us", webhooks.ErrInvalidEvent)
		}, 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := true
			host := newCounter(t, counting(func(ctx context.Context, tx pgx.Tx) error {
				if broken {
					return c.what(ctx, tx)
				}
				return nil
			}), func(c *webhooks.Config) {
				if name == "runs out of time" {
					c.Timeout = time.Second
				}
			})
			isReady(t, host)
			reply := host.Send(t, testEvent)
			if reply.Status != c.status || !strings.HasPrefix(string(reply.Body), `{"error":"`) {
				t.Errorf("the reply is %s, want %d", reply, c.status)
			}
			expectCounter(t, host, 0)
			if n := host.Count(t, "stripe_webhook_events"); n != 0 {
				t.Errorf("the ledger has %d rows", n)
			}
			broken = false
			host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
			host.Expect(t, testEvent, 200, webhooks.OutcomeDuplicate)
			expectCounter(t, host, 1)
		})
	}
}

// A failure leaves its record and nothing else: how often, the error, and the payload, unless that is
// turned off. What is not the event's failure leaves none, and success none either.
func TestFailureRecord(t *testing.T) {
	t.Parallel()
	var failure error
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return failure }), nil)
	record := func() string {
		return pgtest.Scan[string](t, host.Pool, `SELECT coalesce(string_agg(concat_ws(' ', event_id, event_type, attempts, last_error,
			last_failed_at > first_failed_at, payload #>> '{data,object,id}'), '; '), 'none') FROM stripe_webhook_failures`)
	}
	if got := record(); got != "none" {
		t.Errorf("the record is %s", got)
	}
	failure = errors.New("the first\x00 error \xff")
	host.Expect(t, testEvent, 500, "")
	if got, want := record(), "evt_1 test.event 1 handler of test.event: the first error \ufffd f obj_1"; got != want {
		t.Errorf("the record is %s, want %s", got, want)
	}
	failure = errors.New(strings.Repeat("é", webhooks.MaxErrorLength))
	host.Expect(t, testEvent, 500, "")
	if got := pgtest.Scan[string](t, host.Pool, `SELECT attempts || ' ' || (octet_length(last_error) <= 2004) FROM stripe_webhook_failures`); got != "2 true" {
		t.Errorf("the record says %s", got)
	}
	failure = nil
	host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
	expectCounter(t, host, 1)

	secretive := newCounter(t, counting(func(context.Context, pgx.Tx) error { return errors.New("no") }), func(c *webhooks.Config) { c.DropPayloads = true })
	secretive.Expect(t, testEvent, 500, "")
	if got := pgtest.Scan[string](t, secretive.Pool, `SELECT event_id || ' ' || (payload IS NULL) FROM stripe_webhook_failures`); got != "evt_1 true" {
		t.Errorf("the record is %s", got)
	}
}

// Where the record cannot be written the reply is the failure's all the same.
func TestFailureThatCannotBeRecorded(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return errors.New("no") }), nil)
	pgtest.Exec(t, host.Pool, `DROP TABLE stripe_webhook_failures`)
	host.Expect(t, testEvent, 500, "")
}

// A savepoint is the way to go on after a statement that failed.
func TestSavepoint(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(func(ctx context.Context, tx pgx.Tx) error {
		savepoint, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := savepoint.Exec(ctx, `INSERT INTO other VALUES ('taken')`); err == nil {
			return errors.New("it was not taken")
		}
		return savepoint.Rollback(ctx)
	}), nil)
	host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
	expectCounter(t, host, 1)
}

// A COMMIT as a statement cannot be undone. It is at least no success.
func TestRawCommitIsNoSuccess(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(exec(`COMMIT`)), nil)
	host.Expect(t, testEvent, 500, "")
	if n := host.Count(t, "stripe_webhook_events"); n != 0 {
		t.Errorf("the ledger has %d rows", n)
	}
}

// A function that does not heed its context holds back neither the reply nor the next delivery, and
// what it does in the end is undone.
func TestFunctionThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	blocked := make(chan struct{})
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error {
		<-blocked
		return nil
	}), func(c *webhooks.Config) { c.Timeout = time.Second })
	isReady(t, host)
	host.Expect(t, testEvent, 500, "")
	if host.Receiver.Stats().InFlight != 1 {
		t.Errorf("%d are in flight, want the one that was left behind", host.Receiver.Stats().InFlight)
	}
	close(blocked)
	if err := host.Shutdown(); err != nil {
		t.Fatal(err)
	}
	expectCounter(t, host, 0)
}

// A serialization failure or a deadlock is tried again within the delivery.
func TestRetriesWhatPostgreSQLWantsRetried(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"40001", "40P01"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			tries := 0
			host := newCounter(t, counting(func(ctx context.Context, tx pgx.Tx) error {
				tries++
				if tries == webhooks.DefaultMaxAttempts {
					return nil
				}
				err := exec(`DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '`+code+`'; END $$`)(ctx, tx)
				return fmt.Errorf("wrapped: %w", err)
			}), nil)
			host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
			expectCounter(t, host, 1)
			if tries != webhooks.DefaultMaxAttempts {
				t.Errorf("it took %d tries", tries)
			}
		})
	}
	t.Run("not without end", func(t *testing.T) {
		t.Parallel()
		host := newCounter(t, counting(exec(`DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$`)), nil)
		host.Expect(t, testEvent, 500, "")
		expectCounter(t, host, 0)
	})
}

// The detail of a failure is for the log, not for the sender.
func TestFailureReplyShowsNoInternals(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return errors.New("password of the database") }), nil)
	reply := host.Send(t, testEvent)
	if want := `{"error":"processing the event failed"}`; string(reply.Body) != want {
		t.Errorf("the reply is %s, want %s", reply.Body, want)
	}
}
