package webhooks_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// Events share a transaction and its two round trips, with prepared statements and without, as behind a pooler.
func TestShared(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "exec"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c := newBatchHostIn(t, mode)
			wantReplies(t, c.deliverBatch(t, warm...)(), webhooks.OutcomeProcessed)
			before := c.roundTrips.Count()
			wantReplies(t, c.deliverBatch(t, several(8)...)(), webhooks.OutcomeProcessed)
			roundTrips := c.roundTrips.Count() - before
			if n := c.transactions(t, "evt_0%"); n != 1 {
				t.Errorf("8 events in a batch took %d transactions, want 1", n)
			}
			if roundTrips != 4 {
				t.Errorf("one event and a batch of 8 took %d round trips, want 4", roundTrips)
			}
			if n := c.Count(t, "subscriptions WHERE id LIKE 'sub_0%'"); n != 8 {
				t.Errorf("there are %d subscriptions, want 8", n)
			}
		})
	}
}

// A duplicate in a batch is answered before the other events are written, and does not affect them, also on a connection
// without their prepared statements.
func TestSharedWithDuplicate(t *testing.T) {
	t.Parallel()
	c := newBatchHost(t)
	c.Expect(t, about("evt_dup", "sub_dup", "active"), http.StatusOK, webhooks.OutcomeProcessed)
	config := c.Pool.Config()
	config.MaxConns = 1
	for i := range 5 {
		elsewhere := newBatchHostOn(t, config.Copy())
		elsewhere.Expect(t, about("evt_warm", "sub_warm", "active"), http.StatusOK, webhooks.OutcomeDuplicate)
		bodies := append([][]byte{about("evt_dup", "sub_dup", "active")}, numbered(fmt.Sprintf("%d_", i), 4)...)
		wantReplies(t, elsewhere.deliverBatch(t, bodies...)(), webhooks.OutcomeDuplicate, webhooks.OutcomeProcessed)
		if n := c.transactions(t, fmt.Sprintf("evt_%d_%%", i)); n != 1 {
			t.Errorf("4 new events beside a duplicate took %d transactions, want 1", n)
		}
	}
}

// Events in a batch are recorded like events in transactions of their own.
func TestSharedRecord(t *testing.T) {
	t.Parallel()
	bodies := [][]byte{
		about("evt_00", "sub_00", "active"),
		[]byte(`{"id":"evt_01","type":"nobody.handles","data":{}}`),
		[]byte(`{"id":"evt_02","type":"customer.subscription.created","account":"acct_1","api_version":"2025-03-31.basil","livemode":true,"created":1700000002,"data":{"object":{"id":"sub_02","status":"trialing"}}}`),
		[]byte(`{"id":"evt_03","type":"customer.subscription.updated","data":{"object":{"id":"sub_03","status":"active"}}}`),
	}
	batched, alone := newBatchHost(t), newBatchHost(t)
	want := []webhooks.Outcome{webhooks.OutcomeProcessed, webhooks.OutcomeIgnored, webhooks.OutcomeProcessed, webhooks.OutcomeProcessed}
	wantReplies(t, batched.deliverBatch(t, bodies...)(), want...)
	for i, body := range bodies {
		alone.Expect(t, body, http.StatusOK, want[i])
	}
	if n := batched.transactions(t, "evt_0_"); n != 1 {
		t.Errorf("they took %d transactions, want 1", n)
	}
	const rows = `SELECT string_agg((to_jsonb(e) - 'processed_at')::text, E'\n' ORDER BY event_id) FROM stripe_webhook_events AS e WHERE event_id LIKE 'evt_0_'`
	if a, b := pgtest.Scan[string](t, batched.Pool, rows), pgtest.Scan[string](t, alone.Pool, rows); a != b {
		t.Errorf("batched\n%s\nalone\n%s", a, b)
	}
}

// Duplicates in a batch are found in one round trip.
func TestSharedDuplicates(t *testing.T) {
	t.Parallel()
	c := newBatchHost(t)
	wantReplies(t, c.deliverBatch(t, several(8)...)(), webhooks.OutcomeProcessed)
	config := c.Pool.Config()
	config.MaxConns = 1
	elsewhere := newBatchHostOn(t, config) // which has not seen them
	elsewhere.Expect(t, about("evt_warm", "sub_warm", "active"), http.StatusOK, webhooks.OutcomeDuplicate)
	elsewhere.deliverBatch(t, warm...)()
	before := c.roundTrips.Count()
	wantReplies(t, elsewhere.deliverBatch(t, several(8)...)(), webhooks.OutcomeDuplicate)
	// Duplicates are answered before the rollback.
	pgtest.AwaitEqual(t, "the number of connections in use", 0, func() int32 { return elsewhere.Pool.Stat().AcquiredConns() })
	if roundTrips := c.roundTrips.Count() - before; roundTrips != 4 {
		t.Errorf("one event and a batch of 8 duplicates took %d round trips, want 4", roundTrips)
	}
}

// A failure of one event in a batch does not affect the others, and no event takes effect twice.
func TestSharedFailure(t *testing.T) {
	t.Parallel()
	c := newBatchHost(t)
	pgtest.Exec(t, c.Pool, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.id = 'sub_02' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$`)
	pgtest.Exec(t, c.Pool, "CREATE TRIGGER refuse BEFORE INSERT ON subscriptions FOR EACH ROW EXECUTE FUNCTION refuse()")
	replies := c.deliverBatch(t, several(5)...)()
	if status := replies[2].Status; status != http.StatusInternalServerError {
		t.Errorf("the one that is refused is answered %d", status)
	}
	wantReplies(t, append(replies[:2], replies[3:]...), webhooks.OutcomeProcessed)
	if events, failures := c.Count(t, "stripe_webhook_events WHERE event_id LIKE 'evt_0%'"), c.Count(t, "stripe_webhook_failures WHERE event_id = 'evt_02' AND attempts = 1"); events != 4 || failures != 1 {
		t.Errorf("there are %d events in the ledger and %d failures, want 4 and 1", events, failures)
	}
}

// An event whose object is not a subscription fails before its writes are sent, and the others stay in the batch.
func TestSharedRefusal(t *testing.T) {
	t.Parallel()
	c := newBatchHost(t)
	bodies := several(5)
	bodies[2] = hooktest.Event("evt_02", "customer.subscription.updated", 1_700_000_000, `{"id":"sub_02","object":"subscription","status":7}`)
	replies := c.deliverBatch(t, bodies...)()
	if status := replies[2].Status; status < 400 {
		t.Errorf("the one that is broken is answered %d", status)
	}
	wantReplies(t, append(replies[:2], replies[3:]...), webhooks.OutcomeProcessed)
	if n := c.transactions(t, "evt_0%"); n != 1 {
		t.Errorf("the 4 others took %d transactions, want 1", n)
	}
}

// A projection that queries more than planned and ignores the refusal, or panics, does so in its event's own transaction.
func TestSharedProjection(t *testing.T) {
	t.Parallel()
	const keep = "INSERT INTO probes (object, transaction) VALUES ($1, pg_current_xact_id()::text)"
	for name, probe := range map[string]struct {
		odd    func(ctx context.Context, tx pgx.Tx, object string)
		status int
	}{
		"asks": {func(ctx context.Context, tx pgx.Tx, _ string) {
			_, _ = tx.Exec(ctx, "UPDATE probes_asked SET n = n + 1")
		}, http.StatusOK},
		"asks by a savepoint": {func(ctx context.Context, tx pgx.Tx, _ string) {
			if savepoint, err := tx.Begin(ctx); err == nil {
				_, _ = savepoint.Exec(ctx, "UPDATE probes_asked SET n = n + 1")
				_ = savepoint.Commit(ctx)
			}
		}, http.StatusOK},
		"panics": {func(context.Context, pgx.Tx, string) { panic("on purpose") }, http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newBatchHost(t)
			pgtest.Exec(t, c.Pool, "CREATE TABLE probes (object text, transaction text)")
			pgtest.Exec(t, c.Pool, "CREATE TABLE probes_asked AS SELECT 0 AS n")
			c.probe = func(ctx context.Context, tx pgx.Tx, writes *pgpipe.Writes, object string) (bool, error) {
				if object == "obj_2" {
					probe.odd(ctx, tx, object)
				}
				writes.Add(func(ctx context.Context, db pgpipe.DBTX) error {
					_, err := db.Exec(ctx, keep, object)
					return err
				})
				return true, nil
			}
			var bodies [][]byte
			for i := range 5 {
				bodies = append(bodies, hooktest.Event(fmt.Sprintf("evt_%02d", i), "probe.sent", 1_700_000_000, fmt.Sprintf(`{"id":"obj_%d"}`, i)))
			}
			replies := c.deliverBatch(t, bodies...)()
			if status := replies[2].Status; status != probe.status {
				t.Errorf("the odd one is answered %d, want %d", status, probe.status)
			}
			wantReplies(t, append(replies[:2], replies[3:]...), webhooks.OutcomeProcessed)
			if n := pgtest.Scan[int](t, c.Pool, "SELECT count(DISTINCT transaction)::int FROM probes WHERE object <> 'obj_2'"); n != 1 {
				t.Errorf("the 4 others took %d transactions, want 1", n)
			}
			applied := map[int]int{http.StatusOK: 1}[probe.status]
			if kept := c.Count(t, "probes WHERE object = 'obj_2'"); kept != applied {
				t.Errorf("the odd one has kept %d rows, want %d", kept, applied)
			}
			if n := pgtest.Scan[int](t, c.Pool, "SELECT n FROM probes_asked"); n != applied {
				t.Errorf("what it asked was done %d times, want %d", n, applied)
			}
		})
	}
}

// A dead connection fails no event that can be applied on another connection.
func TestSharedDeadConnection(t *testing.T) {
	t.Parallel()
	c := newBatchHost(t)
	control := pgtest.Connect(t, c.DatabaseURL)
	kill := func() {
		pgtest.EndOthers(t, control)
	}
	resume := c.hold(t, func() { c.first.Store(&kill) }) // when the group has taken its connection
	replies := send(t, c.Host, several(8)...)
	c.awaitWaiting(t, 8)
	resume()
	wantReplies(t, replies(), webhooks.OutcomeProcessed)
}

// A contended lock of one event's subscription, or of its row, delays that event only. A transaction of the host that locks
// several rows is never the victim of a deadlock.
func TestSharedLocks(t *testing.T) {
	t.Parallel()
	for name, lock := range map[string]string{
		"another process's lock of the object": "SELECT pg_advisory_xact_lock(hashtextextended('sub_02', 7306096))",
		"the host's lock of the row":           "SELECT FROM subscriptions WHERE id = 'sub_02' FOR UPDATE",
		"a duplicate in another process": `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode)
			VALUES ('evt_02', 'customer.subscription.updated', 'processed', false)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newBatchHost(t)
			for i := range 5 {
				c.Expect(t, about(fmt.Sprintf("evt_before_%d", i), fmt.Sprintf("sub_%02d", i), "past_due"), http.StatusOK, webhooks.OutcomeProcessed)
			}
			bodies := several(5)
			for i := range bodies { // later than those before
				bodies[i] = hooktest.Event(fmt.Sprintf("evt_%02d", i), "customer.subscription.updated", 1_700_000_001,
					fmt.Sprintf(`{"id":"sub_%02d","object":"subscription","status":"active"}`, i))
			}
			tx, err := c.Pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.Background()) }()
			if _, err := tx.Exec(t.Context(), lock); err != nil {
				t.Fatal(err)
			}
			replies := c.deliverBatch(t, bodies...)
			awaitInFlight(t, c.Host, 1)
			if n := c.Count(t, "stripe_webhook_events WHERE event_id LIKE 'evt_0%'"); n != 4 {
				t.Errorf("%d events have been applied, want 4", n)
			}
			if _, err := tx.Exec(t.Context(), "SELECT FROM subscriptions WHERE id = 'sub_03' FOR UPDATE"); err != nil {
				t.Error(err)
			}
			if err := tx.Commit(t.Context()); err != nil {
				t.Error(err)
			}
			want := []webhooks.Outcome{webhooks.OutcomeProcessed, webhooks.OutcomeProcessed, webhooks.OutcomeProcessed, webhooks.OutcomeProcessed, webhooks.OutcomeProcessed}
			if name == "a duplicate in another process" {
				want[2] = webhooks.OutcomeDuplicate
			}
			wantReplies(t, replies(), want...)
		})
	}
}

// An event whose caller gives up while it waits is not applied, and the others are.
func TestSharedGivenUp(t *testing.T) {
	t.Parallel()
	c := newBatchHost(t)
	resume := c.hold(t, func() {})
	ctx, giveUp := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = c.apply(ctx, about("evt_impatient", "sub_impatient", "active")) })
	c.awaitWaiting(t, 1)
	replies := send(t, c.Host, several(3)...)
	c.awaitWaiting(t, 4)
	giveUp()
	wg.Wait()
	if !errors.Is(err, webhooks.ErrUnavailable) {
		t.Errorf("the error is %v", err)
	}
	resume()
	wantReplies(t, replies(), webhooks.OutcomeProcessed)
	if n := c.Count(t, "stripe_webhook_events WHERE event_id = 'evt_impatient'"); n != 0 {
		t.Error("the event that was given up has been applied")
	}
}

// If a batch hangs, events that wait for it are applied nevertheless.
func TestSharedHangs(t *testing.T) {
	t.Parallel()
	c := newBatchHost(t)
	c.Receiver.WaitForBatch(time.Millisecond)
	resume := c.hold(t, func() {})
	wantReplies(t, send(t, c.Host, several(3)...)(), webhooks.OutcomeProcessed)
	resume()
	if n := c.transactions(t, "evt_0%"); n != 3 {
		t.Errorf("3 events that could not wait took %d transactions, want 3", n)
	}
}

// A hook of the pool that panics, or ends its goroutine, while it acquires the batch's connection, blocks no event.
func TestSharedHook(t *testing.T) {
	t.Parallel()
	for name, hook := range map[string]struct {
		do      func()
		applied int64
	}{
		"panics":             {func() { panic("a hook") }, 4}, // the leader is retried alone
		"ends the goroutine": {runtime.Goexit, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newBatchHost(t)
			c.leaks = true
			resume := c.hold(t, func() { c.first.Store(&hook.do) }) // for the leader of the batch
			var applied atomic.Int64
			var wg sync.WaitGroup
			for _, body := range several(4) {
				wg.Go(func() {
					if c.apply(t.Context(), body) == nil {
						applied.Add(1)
					}
				})
			}
			c.awaitWaiting(t, 4)
			resume()
			wg.Wait()
			if n := applied.Load(); n != hook.applied {
				t.Errorf("%d of 4 were applied, want %d", n, hook.applied)
			}
			awaitInFlight(t, c.Host, 0)
			if c.Receiver.Waiting() > 0 {
				t.Error("an event waits forever")
			}
			c.Expect(t, about("evt_later", "sub_later", "active"), http.StatusOK, webhooks.OutcomeProcessed)
		})
	}
}
