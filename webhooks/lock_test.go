package webhooks_test

import (
	"context"
	"log/slog"
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

// lockObject takes the lock of an object as another process would.
func lockObject(t *testing.T, host *hooktest.Host, id string) pgx.Tx {
	t.Helper()
	tx, err := pgtest.Connect(t, host.DatabaseURL).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	if err := webhooks.LockObject(t.Context(), tx, id); err != nil {
		t.Fatal(err)
	}
	return tx
}

// lockTimeout has the setting as the transaction of an event has it.
func lockTimeout(ctx context.Context, tx pgx.Tx) (limit time.Duration, err error) {
	err = tx.QueryRow(ctx, `SELECT setting::bigint * 1000000 FROM pg_settings WHERE name = 'lock_timeout'`).Scan(&limit)
	return limit, err
}

// Whatever an event runs, each wait for a lock in its transaction has the limit LockTimeout. If the deadline of the
// event comes first, the limit is shorter, and leaves time for an answer: otherwise the wait would end with the
// event's time, and with the connection.
func TestLockTimeoutOfTransactions(t *testing.T) {
	t.Parallel()
	const timeout, leastMargin = 10 * time.Second, 100 * time.Millisecond
	var seen chan time.Duration
	look := func(ctx context.Context, tx pgx.Tx) error {
		limit, err := lockTimeout(ctx, tx)
		seen <- limit
		return err
	}
	h := func() *webhooks.Handlers {
		h := webhooks.NewHandlers()
		webhooks.On(h, "a.handler", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error { return look(ctx, tx) })
		webhooks.Project(h, "a.projection", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event) (bool, error) { return true, look(ctx, tx) })
		project(h, "a.lock", false, func(ev *webhooks.Event) projection.Plan {
			return projection.Plan{Lock: ev.ObjectID(), Apply: func(ctx context.Context, tx pgx.Tx, _ *pgpipe.Writes) (bool, error) { return true, look(ctx, tx) }}
		})
		return h
	}
	seen = make(chan time.Duration, 10)
	short := hooktest.New(t, h(), func(c *webhooks.Config) { c.Timeout, c.LockTimeout = timeout, 1234*time.Millisecond })
	long := hooktest.On(t, short.Pool, h(), func(c *webhooks.Config) { c.Timeout, c.LockTimeout = timeout, time.Hour })
	check := func(what string, want func(time.Duration) bool) {
		t.Helper()
		if limit := pgtest.Receive(t, what+" runs", seen); !want(limit) {
			t.Errorf("the lock timeout of %s is %v", what, limit)
		}
	}
	isLockTimeout := func(limit time.Duration) bool { return limit == 1234*time.Millisecond }
	isBeforeDeadline := func(limit time.Duration) bool { return limit > 0 && limit <= timeout-leastMargin }
	for _, eventType := range []string{"a.handler", "a.projection", "a.lock"} {
		short.Expect(t, hooktest.Event("evt_short_"+eventType, eventType, 1, `{"id":"obj_1"}`), 200, webhooks.OutcomeProcessed)
		check(eventType, isLockTimeout)
		long.Expect(t, hooktest.Event("evt_long_"+eventType, eventType, 1, `{"id":"obj_1"}`), 200, webhooks.OutcomeProcessed)
		check(eventType+", whose deadline comes first,", isBeforeDeadline)
	}
	for host, want := range map[*hooktest.Host]func(time.Duration) bool{short: isLockTimeout, long: isBeforeDeadline} {
		if err := host.Receiver.InTx(t.Context(), "import", look); err != nil {
			t.Fatal(err)
		}
		check("a transaction without an event", want)
	}
}

// The lock of an event's object, held by another process, is waited for within LockTimeout, or less if the event has
// less time. Then the reply is 503, the log names the lock, and the event has no failure.
func TestObjectLockedElsewhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit, timeout time.Duration
		reason         string
	}{
		"until LockTimeout":   {50 * time.Millisecond, time.Hour, "lock timeout"},
		"until its time ends": {time.Hour, 2 * time.Second, ""}, // or, on a slow machine, that no time is left
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &lockedBuffer{}
			h := webhooks.NewHandlers()
			project(h, "test.event", false, func(ev *webhooks.Event) projection.Plan {
				return projection.Plan{Lock: ev.ObjectID(), Apply: func(ctx context.Context, tx pgx.Tx, _ *pgpipe.Writes) (bool, error) {
					return true, exec(addOne)(ctx, tx)
				}}
			})
			host := newCounter(t, h, func(config *webhooks.Config) {
				config.LockTimeout, config.Timeout = c.limit, c.timeout
				config.Logger = slog.New(slog.NewTextHandler(log, nil))
			})
			isReady(t, host)
			other := lockObject(t, host, "obj_1")
			host.Expect(t, testEvent, 503, "")
			if text := log.String(); !strings.Contains(text, "lock obj_1") || !strings.Contains(text, c.reason) {
				t.Errorf("the log does not name the lock:\n%s", text)
			}
			if n := host.Count(t, "stripe_webhook_failures"); n != 0 {
				t.Errorf("there are %d failures", n)
			}
			if err := other.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
			expectCounter(t, host, 1)
		})
	}
}

// Where several projections of an event have locks, all locks are taken before any projection runs, and what a
// projection has read without its lock is read again.
func TestLocksOfSeveralProjections(t *testing.T) {
	t.Parallel()
	locks := []string{"lock_a", "lock_b", "lock_c"}
	for name, held := range map[string][]string{"the second": {"lock_b"}, "the third": {"lock_c"}, "the first two": {"lock_a", "lock_b"}, "all": locks} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, ran := webhooks.NewHandlers(), make(chan string, 10)
			for _, id := range locks {
				project(h, "test.event", false, func(*webhooks.Event) projection.Plan { return addOneUnder(id, ran) })
			}
			host := hooktest.New(t, h, func(c *webhooks.Config) { c.Timeout, c.LockTimeout = pgtest.WaitLimit, pgtest.WaitLimit })
			pgtest.Exec(t, host.Pool, `CREATE TABLE kept AS SELECT unnest($1::text[]) AS id, 0 AS n`, locks)
			others, want := map[string]pgx.Tx{}, map[string]int{"lock_a": 1, "lock_b": 1, "lock_c": 1}
			for _, id := range held {
				others[id] = lockObject(t, host, id)
			}
			replies := send(t, host, testEvent)
			for _, id := range held {
				pgtest.Await(t, "the event waits for "+id, func() bool { return waitsForObject(t, host) || len(ran) > 0 })
				if len(ran) > 0 {
					t.Fatalf("the projection of %s runs while another process holds %s", <-ran, id)
				}
				pgtest.Exec(t, host.Pool, `UPDATE kept SET n = 10 WHERE id = $1`, id)
				want[id] = 11
				if err := others[id].Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			wantReplies(t, replies(), webhooks.OutcomeProcessed)
			for _, id := range locks {
				if n := pgtest.Scan[int](t, host.Pool, `SELECT n FROM kept WHERE id = $1`, id); n != want[id] {
					t.Errorf("%s has %d, want %d", id, n, want[id])
				}
			}
		})
	}
}

// addOneUnder is a projection that adds one to what it has read under a lock.
func addOneUnder(lock string, ran chan<- string) projection.Plan {
	var n int
	read := func(ctx context.Context, db pgpipe.DBTX) error {
		return db.QueryRow(ctx, `SELECT n FROM kept WHERE id = $1`, lock).Scan(&n)
	}
	return projection.Plan{Lock: lock, Read: []pgpipe.Query{read}, Apply: func(_ context.Context, _ pgx.Tx, writes *pgpipe.Writes) (bool, error) {
		ran <- lock
		writes.Add(func(ctx context.Context, db pgpipe.DBTX) error {
			_, err := db.Exec(ctx, `UPDATE kept SET n = $2 WHERE id = $1`, lock, n+1)
			return err
		})
		return true, nil
	}}
}

// waitsForObject is true while a transaction waits for the lock of an object.
func waitsForObject(t *testing.T, host *hooktest.Host) bool {
	t.Helper()
	return pgtest.Scan[bool](t, host.Pool, `SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
		WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)`)
}
