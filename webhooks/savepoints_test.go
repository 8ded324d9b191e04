package webhooks_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// inBatch is what a test has the handler of an event do, in place of adding a note.
type inBatch map[string]func(ctx context.Context, tx pgx.Tx) error

// savepointHost is a receiver whose handlers are Batchable, with one batch at a time and one connection. The handler of a
// noted event adds a note of it, with the transaction's id.
type savepointHost struct {
	*hooktest.Host
	roundTrips *pglocal.RoundTrips
	gates      atomic.Pointer[gate]
	rounds     int
	do         inBatch
	runs       sync.Map // event: *atomic.Int64
}

// gate holds up an event, behind which others wait.
type gate struct{ reached, open chan struct{} }

const addNoteOf = `INSERT INTO notes (event, xid) VALUES ($1, txid_current())`

func newSavepointHost(t *testing.T, do inBatch) *savepointHost {
	t.Helper()
	s := &savepointHost{roundTrips: &pglocal.RoundTrips{}, do: do}
	pool := pgtest.ConnectBy(t, pgtest.NewURL(t)+"&pool_max_conns=1", s.roundTrips.Dial)
	pgtest.Exec(t, pool, `CREATE TABLE notes (event text NOT NULL, xid bigint NOT NULL)`)
	s.Host = &hooktest.Host{Pool: pool}
	s.restart(t, func(c *webhooks.Config) {
		c.ConcurrentBatches, c.Timeout, c.LockTimeout, c.AcquireTimeout = 1, pgtest.WaitLimit, pgtest.WaitLimit, pgtest.WaitLimit
	})
	return s
}

// restart gives the host another receiver.
func (s *savepointHost) restart(t *testing.T, configure func(c *webhooks.Config)) {
	t.Helper()
	h := webhooks.NewHandlers()
	webhooks.On(h, "gate.event", func(ctx context.Context, _ pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		g := s.gates.Load()
		close(g.reached)
		select {
		case <-g.open:
		case <-ctx.Done():
		}
		return ctx.Err()
	}, webhooks.Batchable())
	webhooks.On(h, "noted.event", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
		count, _ := s.runs.LoadOrStore(ev.ID, &atomic.Int64{})
		count.(*atomic.Int64).Add(1)
		if do := s.do[ev.ID]; do != nil {
			return do(ctx, tx)
		}
		_, err := tx.Exec(ctx, addNoteOf, ev.ID)
		return err
	}, webhooks.Batchable())
	s.Host = hooktest.On(t, s.Pool, h, configure)
	s.Receiver.WaitForBatch(time.Minute)
	isReady(t, s.Host)
}

func noted(id string) []byte { return hooktest.Event(id, "noted.event", 1, `{"id":"obj_`+id+`"}`) }

// batch delivers events so that they form one batch in this order, and returns their replies and the round trips.
func (s *savepointHost) batch(t *testing.T, bodies ...[]byte) (replies []delivery.Reply, roundTrips int64) {
	t.Helper()
	g := &gate{make(chan struct{}), make(chan struct{})}
	s.gates.Store(g)
	s.rounds++
	first := hooktest.Event(fmt.Sprintf("evt_gate_%d", s.rounds), "gate.event", 1, `{"id":"obj_gate"}`)
	var wg sync.WaitGroup
	wg.Go(func() { s.Expect(t, first, 200, webhooks.OutcomeProcessed) })
	pgtest.Receive(t, "the first event is in progress", g.reached)
	replies = make([]delivery.Reply, len(bodies))
	for i, body := range bodies {
		wg.Go(func() { replies[i] = s.Send(t, body) })
		pgtest.AwaitEqual(t, "the number of events that wait for a batch", i+1, s.Receiver.WaitingForSavepoint)
	}
	before := s.roundTrips.Count()
	close(g.open)
	wg.Wait()
	return replies, s.roundTrips.Count() - before - 1 // the first event's COMMIT
}

// notes returns the transaction of each event's note. It fails the test where an event has more than one.
func (s *savepointHost) notes(t *testing.T) map[string]int64 {
	t.Helper()
	type note struct {
		Event string
		XID   int64
	}
	rows, _ := s.Pool.Query(t.Context(), `SELECT event, xid FROM notes`)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[note])
	if err != nil {
		t.Fatal(err)
	}
	notes := map[string]int64{}
	for _, n := range list {
		if _, twice := notes[n.Event]; twice {
			t.Errorf("%s is noted twice", n.Event)
		}
		notes[n.Event] = n.XID
	}
	return notes
}

func (s *savepointHost) ran(id string) int64 {
	count, found := s.runs.Load(id)
	if !found {
		return 0
	}
	return count.(*atomic.Int64).Load()
}

// The events of a batch take effect in one transaction. Each costs one round trip for its handler's statement, whatever else
// belongs to it, and none if its handler has no statement. The batch costs two.
func TestBatchOfHandlers(t *testing.T) {
	t.Parallel()
	idle := func(context.Context, pgx.Tx) error { return nil }
	do := inBatch{}
	s := newSavepointHost(t, do)
	for round := range 3 { // the first ones prepare the statements
		id := func(name string) string { return fmt.Sprintf("evt_%s_%d", name, round) }
		do[id("idle_1")], do[id("idle_2")], do[id("idle_3")] = idle, idle, idle
		names := []string{"idle_1", "a", "b", "idle_2", "c", "idle_3"}
		var bodies [][]byte
		for _, name := range names {
			bodies = append(bodies, noted(id(name)))
		}
		replies, roundTrips := s.batch(t, bodies...)
		for _, reply := range replies {
			if reply.Outcome() != webhooks.OutcomeProcessed {
				t.Error(reply)
			}
		}
		notes := s.notes(t)
		if a := notes[id("a")]; a == 0 || a != notes[id("b")] || a != notes[id("c")] {
			t.Errorf("the transactions are %v", notes)
		}
		for _, name := range names {
			if n := s.ran(id(name)); n != 1 {
				t.Errorf("the handler of %s ran %d times", name, n)
			}
		}
		if n := s.Count(t, "stripe_webhook_events"); n != (round+1)*(len(names)+1) {
			t.Errorf("%d events are in the ledger", n)
		}
		if want := int64(5); round == 2 && roundTrips != want {
			t.Errorf("the batch takes %d round trips, want %d", roundTrips, want)
		}
	}
}

// Whatever the handler of one event does, the others of its batch take effect, once, and it gets what it would get alone.
// Shares is false where it takes the transaction with it, so that the others are retried alone.
func TestHandlerFailsInABatch(t *testing.T) {
	t.Parallel()
	thenFails := func(statements ...string) func(ctx context.Context, tx pgx.Tx) error {
		return func(ctx context.Context, tx pgx.Tx) error {
			for _, statement := range statements {
				if _, err := tx.Exec(ctx, statement); err != nil {
					return err
				}
			}
			return errOfATest
		}
	}
	for name, c := range map[string]struct {
		do      func(ctx context.Context, tx pgx.Tx) error
		status  int
		outcome webhooks.Outcome
		shares  bool
		record  bool
	}{
		"returns an error":            {thenFails(), 500, "", true, true},
		"writes and returns an error": {thenFails(`INSERT INTO notes VALUES ('bad', 1)`), 500, "", true, true},
		"panics":                      {func(context.Context, pgx.Tx) error { panic("on purpose") }, 500, "", true, true},
		"its statement fails":         {thenFails(`SELECT 1 / 0`), 500, "", true, true},
		"its statement is wrong":      {thenFails(`SELECT nonsense`), 500, "", true, true},
		"its prepared statement fails": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT 1 / $1::int`, 0)
			return err
		}, 500, "", true, true},
		"its new statement is wrong": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT nonsense + $1::int`, 0)
			return err
		}, 500, "", false, true},
		"swallows a statement's error": {func(ctx context.Context, tx pgx.Tx) error { _, _ = tx.Exec(ctx, `SELECT 1 / 0`); return nil }, 500, "", true, true},
		"tx.Commit":                    {func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) }, 500, "", true, true},
		"parks":                        {func(context.Context, pgx.Tx) error { return webhooks.Park(errOfATest) }, 200, webhooks.OutcomeParked, true, true},
		"writes and parks": {func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, `INSERT INTO notes VALUES ('bad', 1)`)
			return webhooks.Park(errOfATest)
		}, 200, webhooks.OutcomeParked, true, true},
		"asks for a fetch in vain": {func(context.Context, pgx.Tx) error { return webhooks.Fetch(webhooks.FetchOptions{}) }, 500, "", true, true},
		"ROLLBACK":                 {thenFails(`INSERT INTO notes VALUES ('bad', 1)`, `ROLLBACK`), 500, "", false, true},
		"COMMIT":                   {thenFails(`COMMIT`), 500, "", false, true},
		"COMMIT, no error":         {exec(`COMMIT`), 500, "", false, true},
		"COMMIT AND CHAIN":         {exec(`COMMIT AND CHAIN`), 500, "", false, true},
		"ROLLBACK AND CHAIN":       {exec(`ROLLBACK AND CHAIN`), 500, "", false, true},
		"closes the connection":    {func(ctx context.Context, tx pgx.Tx) error { return tx.Conn().Close(ctx) }, 500, "", false, true},
		"leaves rows open":         {func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Query(ctx, `SELECT 1`); return err }, 500, "", false, true}, //nolint:sqlclosecheck // on purpose
		"is terminated":            {thenFails(`SELECT pg_terminate_backend(pg_backend_pid())`), 500, "", false, true},
		"SET LOCAL search_path":    {exec(`SET LOCAL search_path TO pg_catalog`), 200, webhooks.OutcomeProcessed, true, false},
		"SET search_path":          {exec(`SET search_path TO pg_catalog`), 200, webhooks.OutcomeProcessed, true, false},
		"leaves a savepoint":       {exec(`SAVEPOINT mine`), 200, webhooks.OutcomeProcessed, true, false},
		"sets a path and fails":    {thenFails(`SET LOCAL search_path TO pg_catalog`), 500, "", true, true},
		"waits for a lock":         {exec(`SELECT pg_advisory_xact_lock(7)`), 200, webhooks.OutcomeProcessed, true, false},
		"a shorter context of its own": {func(ctx context.Context, tx pgx.Tx) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return exec(`SELECT 1`)(ctx, tx)
		}, 500, "", true, true},
		"is the last and sets its role":   {exec(`SET LOCAL ROLE pg_monitor`), 200, webhooks.OutcomeProcessed, true, false},
		"changes the role and then fails": {thenFails(`SET ROLE pg_monitor`), 500, "", true, true},
	} {
		for _, at := range []int{0, 2, 4} { // first, in the middle, last
			t.Run(fmt.Sprintf("%s, at %d", name, at), func(t *testing.T) {
				t.Parallel()
				s := newSavepointHost(t, inBatch{"evt_bad": c.do})
				if name == "waits for a lock" {
					holder := pgtest.Connect(t, s.DatabaseURL)
					tx, err := holder.Begin(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(7)`); err != nil {
						t.Fatal(err)
					}
					go func() { // it ends when the event waits alone, without the limit of a batch
						defer tx.Rollback(context.Background())
						pgtest.Await(t, "the event waits alone", func() bool { return s.ran("evt_bad") == 2 })
					}()
				}
				for _, id := range []string{"evt_warm_1", "evt_warm_2"} {
					s.Expect(t, noted(id), 200, webhooks.OutcomeProcessed)
				}
				ids := slices.Insert([]string{"evt_1", "evt_2", "evt_3", "evt_4"}, at, "evt_bad")
				var bodies [][]byte
				for _, id := range ids {
					bodies = append(bodies, noted(id))
				}
				replies, _ := s.batch(t, bodies...)
				for i, reply := range replies {
					switch {
					case i == at:
						if reply.Status != c.status || reply.Outcome() != c.outcome {
							t.Errorf("the reply is %s, want %d %s", reply, c.status, c.outcome)
						}
					case reply.Outcome() != webhooks.OutcomeProcessed && (c.shares || reply.Outcome() != webhooks.OutcomeDuplicate):
						t.Errorf("the reply of %s is %s", ids[i], reply)
					}
				}
				notes := s.notes(t)
				if len(notes) != 6 { // with those of the first events
					t.Errorf("the notes are %v", notes)
				}
				together := notes["evt_1"] == notes["evt_2"] && notes["evt_2"] == notes["evt_3"] && notes["evt_3"] == notes["evt_4"]
				committed := strings.HasPrefix(name, "COMMIT") && at == 4 // by the handler, together with their rows in the ledger
				if c.shares != together && !committed {
					t.Errorf("the others share a transaction: %t: %v", together, notes)
				}
				if n := s.Count(t, "stripe_webhook_failures"); (n == 1) != c.record {
					t.Errorf("%d failures are recorded", n)
				}
				s.Expect(t, noted("evt_after"), 200, webhooks.OutcomeProcessed) // the connection is fit
			})
		}
	}
}

// A constraint that is deferred to COMMIT fails for the event that violates it, and the others are retried alone.
func TestCommitFailsInABatch(t *testing.T) {
	t.Parallel()
	s := newSavepointHost(t, inBatch{"evt_2": exec(`INSERT INTO once VALUES (1)`)})
	pgtest.Exec(t, s.Pool, `CREATE TABLE once (n int, CONSTRAINT once_n UNIQUE (n) DEFERRABLE INITIALLY DEFERRED); INSERT INTO once VALUES (1)`)
	replies, _ := s.batch(t, noted("evt_1"), noted("evt_2"), noted("evt_3"))
	for i, want := range []int{200, 500, 200} {
		if replies[i].Status != want {
			t.Errorf("the reply is %s, want %d", replies[i], want)
		}
	}
	if notes := s.notes(t); len(notes) != 2 {
		t.Errorf("the notes are %v", notes)
	}
}

// A caller that gives up while its event is in a batch does not disturb the others.
func TestCallerGivesUpInABatch(t *testing.T) {
	t.Parallel()
	ctx, giveUp := context.WithCancel(t.Context())
	s := newSavepointHost(t, inBatch{"evt_2": func(ctx context.Context, tx pgx.Tx) error {
		giveUp()
		_, err := tx.Exec(ctx, addNoteOf, "evt_2")
		return err
	}})
	ev, err := webhooks.ParseEvent(noted("evt_2"))
	if err != nil {
		t.Fatal(err)
	}
	s.Expect(t, noted("evt_warm"), 200, webhooks.OutcomeProcessed)
	g := &gate{make(chan struct{}), make(chan struct{})}
	s.gates.Store(g)
	var wg sync.WaitGroup
	wg.Go(func() {
		s.Expect(t, hooktest.Event("evt_gate", "gate.event", 1, `{"id":"obj_gate"}`), 200, webhooks.OutcomeProcessed)
	})
	pgtest.Receive(t, "the first event is in progress", g.reached)
	wg.Go(func() { s.Expect(t, noted("evt_1"), 200, webhooks.OutcomeProcessed) })
	pgtest.AwaitEqual(t, "the number of events that wait for a batch", 1, s.Receiver.WaitingForSavepoint)
	wg.Go(func() {
		if result, err := s.Receiver.Apply(ctx, ev); err == nil && result.Outcome != webhooks.OutcomeProcessed {
			t.Errorf("the result is %v", result)
		}
	})
	pgtest.AwaitEqual(t, "the number of events that wait for a batch", 2, s.Receiver.WaitingForSavepoint)
	wg.Go(func() { s.Expect(t, noted("evt_3"), 200, webhooks.OutcomeProcessed) })
	pgtest.AwaitEqual(t, "the number of events that wait for a batch", 3, s.Receiver.WaitingForSavepoint)
	close(g.open)
	wg.Wait()
	if n := s.ran("evt_3"); n != 1 {
		t.Errorf("the handler of another event ran %d times", n)
	}
	s.Expect(t, noted("evt_2"), 200, webhooks.OutcomeDuplicate) // it could no longer be left out
	if notes := s.notes(t); len(notes) != 4 {
		t.Errorf("the notes are %v", notes)
	}
}

// A handler of a batch that does not return loses the connection. The other events of the batch are not to blame.
func TestStuckHandlerInABatch(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newSavepointHost(t, inBatch{"evt_stuck": func(ctx context.Context, tx pgx.Tx) error {
		_, _ = tx.Exec(ctx, addNoteOf, "evt_stuck")
		<-release
		return nil
	}})
	config := func(c *webhooks.Config) {
		c.ConcurrentBatches, c.Timeout, c.LockTimeout = 1, 3*time.Second, pgtest.WaitLimit
	}
	h := webhooks.NewHandlers()
	for _, eventType := range []string{"gate.event", "noted.event"} {
		webhooks.On(h, eventType, func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
			if eventType == "gate.event" {
				g := s.gates.Load()
				close(g.reached)
				<-g.open
				return nil
			}
			if do := s.do[ev.ID]; do != nil {
				return do(ctx, tx)
			}
			_, err := tx.Exec(ctx, addNoteOf, ev.ID)
			return err
		}, webhooks.Batchable())
	}
	s.Host = hooktest.On(t, s.Pool, h, config)
	s.Receiver.WaitForBatch(time.Minute)
	replies, _ := s.batch(t, noted("evt_1"), noted("evt_stuck"), noted("evt_2"))
	for i, want := range []int{503, 500, 503} {
		if replies[i].Status != want {
			t.Errorf("the reply is %s, want %d", replies[i], want)
		}
	}
	if n := pgtest.Scan[int](t, s.Pool, `SELECT count(*) FROM stripe_webhook_failures WHERE event_id = 'evt_stuck'`); n != 1 || s.Count(t, "stripe_webhook_failures") != 1 {
		t.Errorf("%d failures of it are recorded, of %d", n, s.Count(t, "stripe_webhook_failures"))
	}
	for _, id := range []string{"evt_1", "evt_2"} { // as Stripe retries them, while the handler still does not return
		s.Expect(t, noted(id), 200, webhooks.OutcomeProcessed)
	}
	close(release)
	pgtest.AwaitEqual(t, "the number of deliveries in flight", 0, func() int { return s.Receiver.Stats().InFlight })
	delete(s.do, "evt_stuck")
	s.Expect(t, noted("evt_stuck"), 200, webhooks.OutcomeProcessed)
	if notes := s.notes(t); len(notes) != 3 {
		t.Errorf("the notes are %v", notes)
	}
}

// A handler that ends its goroutine fails its own event, and not the one that leads the batch.
func TestGoexitInABatch(t *testing.T) {
	t.Parallel()
	s := newSavepointHost(t, inBatch{"evt_2": func(context.Context, pgx.Tx) error { runtime.Goexit(); return nil }})
	replies, _ := s.batch(t, noted("evt_1"), noted("evt_2"), noted("evt_3"))
	for i, want := range []int{503, 500, 200} {
		if replies[i].Status != want {
			t.Errorf("the reply is %s, want %d", replies[i], want)
		}
	}
	if n := pgtest.Scan[string](t, s.Pool, `SELECT string_agg(event_id, ' ') FROM stripe_webhook_failures`); n != "evt_2" {
		t.Errorf("failures of %s are recorded", n)
	}
	s.Expect(t, noted("evt_1"), 200, webhooks.OutcomeProcessed)
}

// A handler that takes all the time of its batch is to blame, and the others are not, whose time it was.
func TestHandlerTakesTheTimeOfItsBatch(t *testing.T) {
	t.Parallel()
	s := newSavepointHost(t, inBatch{"evt_2": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_sleep($1)`, 3600)
		return err
	}})
	s.restart(t, func(c *webhooks.Config) {
		c.ConcurrentBatches, c.Timeout, c.LockTimeout = 1, 3*time.Second, pgtest.WaitLimit
	})
	replies, _ := s.batch(t, noted("evt_1"), noted("evt_2"), noted("evt_3"))
	for i, reply := range replies {
		if i != 1 && reply.Status == 500 {
			t.Errorf("the reply of event %d is %s", i+1, reply)
		}
	}
	delete(s.do, "evt_2")
	for _, id := range []string{"evt_1", "evt_2", "evt_3"} {
		if reply := s.Send(t, noted(id)); !reply.OK() {
			t.Error(reply)
		}
	}
	if n := pgtest.Scan[int](t, s.Pool, `SELECT count(*)::int FROM stripe_webhook_failures WHERE event_id <> 'evt_2'`); n != 0 {
		t.Errorf("%d failures of other events are recorded", n)
	}
	if notes := s.notes(t); len(notes) != 3 {
		t.Errorf("the notes are %v", notes)
	}
}

// Batches count against the share of a type, too.
func TestBulkheadOfBatches(t *testing.T) {
	t.Parallel()
	const connections = 4
	runs, release := make(chan string, 40), make(chan struct{})
	h := webhooks.NewHandlers()
	webhooks.On(h, "slow.event", func(ctx context.Context, _ pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
		runs <- ev.ID
		select {
		case <-release:
		case <-ctx.Done():
		}
		return ctx.Err()
	}, webhooks.Batchable())
	webhooks.On(h, "fast.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		return exec(`SELECT 1`)(ctx, tx)
	}, webhooks.Batchable())
	pool := pgtest.Connect(t, fmt.Sprintf("%s&pool_max_conns=%d", pgtest.NewURL(t), connections))
	host := hooktest.On(t, pool, h, func(c *webhooks.Config) { c.Timeout, c.AcquireTimeout = pgtest.WaitLimit, pgtest.WaitLimit })
	isReady(t, host)
	fast := func(i int) {
		t.Helper()
		host.Expect(t, hooktest.Event(fmt.Sprintf("evt_fast_%d", i), "fast.event", 1, `{"id":"obj_fast"}`), 200, webhooks.OutcomeProcessed)
	}
	fast(0)
	replies := sendAll(t, host, slowEvents(20)...)
	pgtest.AwaitEqual(t, "the number of connections in use", connections-1, func() int { return int(pool.Stat().AcquiredConns()) })
	for i := range 10 {
		fast(i + 1)
	}
	if n := pool.Stat().AcquiredConns(); n != connections-1 {
		t.Errorf("%d connections are in use", n)
	}
	close(release)
	for _, reply := range replies() {
		if !reply.OK() {
			t.Error(reply)
		}
	}
}

// A hook of the pool that panics, or ends the goroutine, takes no place of the type's with it.
func TestHooksLeakNoPlace(t *testing.T) {
	t.Parallel()
	for _, options := range [][]webhooks.HandlerOption{nil, {webhooks.Batchable()}} {
		config, err := pgxpool.ParseConfig(pgtest.NewURL(t) + "&pool_max_conns=2")
		if err != nil {
			t.Fatal(err)
		}
		var broken atomic.Int32
		config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
			switch broken.Load() {
			case 1:
				panic("on purpose")
			case 2:
				runtime.Goexit()
			}
			return true, nil
		}
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Reset) // connections in the hooks' hands are lost, so that it cannot be closed
		h := webhooks.NewHandlers()
		webhooks.On(h, "noted.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
			return exec(`SELECT 1`)(ctx, tx)
		}, options...)
		host := hooktest.On(t, pool, h, func(c *webhooks.Config) { c.AcquireTimeout, c.Timeout = time.Second, 3*time.Second })
		isReady(t, host)
		host.Expect(t, hooktest.Event("evt_other", "other.event", 1, `{"id":"obj"}`), 200, webhooks.OutcomeIgnored)
		for kind := range 2 {
			broken.Store(int32(kind + 1))
			if reply := host.Send(t, noted(fmt.Sprintf("evt_%d", kind))); reply.OK() {
				t.Error(reply)
			}
			broken.Store(0)
			if places := host.Receiver.Places("noted.event"); places != 0 {
				t.Errorf("%d places are held", places)
			}
		}
		if waiting := host.Receiver.WaitingForConnection(); waiting != 0 {
			t.Errorf("%d deliveries are taken to wait", waiting)
		}
	}
}

// A storm of duplicates on two receivers, whose handlers fail, end their sessions and change them at random: every event
// takes effect once.
func TestStormOfBatchedHandlers(t *testing.T) {
	t.Parallel()
	const events, duplicates = 150, 3
	url := pgtest.NewURL(t)
	var hosts []*hooktest.Host
	for range 2 {
		h := webhooks.NewHandlers()
		webhooks.On(h, "noted.event", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
			chance := rand.IntN(100)
			if chance < 5 {
				return errOfATest
			}
			_, err := tx.Exec(ctx, addNoteOf, ev.ID)
			switch {
			case err != nil:
				return err
			case chance < 10:
				return errOfATest
			case chance < 12:
				_, err = tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			case chance < 15:
				_, err = tx.Exec(ctx, `SELECT 1 / 0`)
			case chance < 20:
				_, err = tx.Exec(ctx, `SET LOCAL search_path TO pg_catalog`)
			case chance < 23:
				_, err = tx.Exec(ctx, `ROLLBACK`)
			}
			return err
		}, webhooks.Batchable())
		hosts = append(hosts, hooktest.On(t, pgtest.Connect(t, url+"&pool_max_conns=4"), h, func(c *webhooks.Config) {
			c.Timeout, c.AcquireTimeout, c.LockTimeout = pgtest.WaitLimit, pgtest.WaitLimit, pgtest.WaitLimit
		}))
		isReady(t, hosts[len(hosts)-1])
	}
	pgtest.Exec(t, hosts[0].Pool, `CREATE TABLE notes (event text NOT NULL, xid bigint NOT NULL)`)
	limit := make(chan struct{}, 24)
	var wg sync.WaitGroup
	for i := range events * duplicates {
		body := hooktest.Event(fmt.Sprintf("evt_%d", i%events), "noted.event", 1, fmt.Sprintf(`{"id":"obj_%d"}`, i%40))
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			for try := 0; ; try++ {
				switch reply := hosts[rand.IntN(2)].Send(t, body); {
				case reply.OK():
					return
				case reply.Status != 500 && reply.Status != 503 || try == 30:
					t.Error(reply)
					return
				}
			}
		})
	}
	wg.Wait()
	for query, want := range map[string]int{
		`SELECT count(*)::int FROM notes`: events, `SELECT count(DISTINCT event)::int FROM notes`: events, `SELECT count(*)::int FROM stripe_webhook_events`: events,
	} {
		if n := pgtest.Scan[int](t, hosts[0].Pool, query); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	shared := pgtest.Scan[int](t, hosts[0].Pool, `SELECT count(*)::int - count(DISTINCT xid)::int FROM notes`)
	t.Logf("%d of %d events shared a transaction with one before", shared, events)
	if shared == 0 {
		t.Error("no events were batched, so the test shows nothing")
	}
}

// OnChange in batches is called as it is alone: once for each change, with the state before it.
func TestBatchOnChange(t *testing.T) {
	t.Parallel()
	const subs, changes = 12, 8
	h := webhooks.NewHandlers()
	subscriptions.Register(h, &subscriptions.Config{BatchOnChange: true, Logger: hooktest.NoLog(), OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
		before := ""
		if c.Before != nil {
			before = c.Before.Metadata["n"]
		}
		var stored string
		if err := tx.QueryRow(ctx, `SELECT metadata ->> 'n' FROM subscriptions WHERE id = $1`, c.After.ID).Scan(&stored); err != nil {
			return err
		}
		if stored != c.After.Metadata["n"] {
			return errors.New("the row is not the one after the change")
		}
		_, err := tx.Exec(ctx, `INSERT INTO changes (subscription, before, after, updated_at, xid) VALUES ($1, $2, $3, $4, txid_current())`, c.After.ID, before, stored, c.After.UpdatedAt)
		return err
	}})
	host := hooktest.New(t, h, func(c *webhooks.Config) { c.Timeout, c.LockTimeout = pgtest.WaitLimit, pgtest.WaitLimit })
	isReady(t, host)
	pgtest.Exec(t, host.Pool, `CREATE TABLE changes (subscription text, before text, after text, updated_at timestamptz, xid bigint)`)
	var wg sync.WaitGroup
	for sub := range subs {
		wg.Go(func() {
			for n := range changes {
				body := hooktest.Event(fmt.Sprintf("evt_%d_%d", sub, n), "customer.subscription.updated", int64(1000+n), fmt.Sprintf(
					`{"id":"sub_%d","object":"subscription","customer":"cus_1","status":"active","metadata":{"n":"%d"},"items":{"data":[{"id":"si_%[1]d","price":{"id":"price_1"}}]}}`, sub, n))
				host.Expect(t, body, 200, webhooks.OutcomeProcessed)
				host.Expect(t, body, 200, webhooks.OutcomeDuplicate)
			}
		})
	}
	wg.Wait()
	if n := pgtest.Scan[int](t, host.Pool, `SELECT count(*)::int FROM changes WHERE after = '0' AND before = '' OR before::int + 1 = after::int`); n != subs*changes {
		t.Errorf("%d changes are in order, want %d", n, subs*changes)
	}
	if n := pgtest.Scan[int](t, host.Pool, `SELECT count(*)::int FROM subscriptions AS s JOIN changes AS c ON c.subscription = s.id AND c.after = s.metadata ->> 'n' AND c.updated_at = s.updated_at`); n != subs {
		t.Errorf("%d of %d rows have the time that OnChange received", n, subs)
	}
	if n := pgtest.Scan[int](t, host.Pool, `SELECT count(*)::int - count(DISTINCT xid)::int FROM changes`); n == 0 {
		t.Error("no events were batched, so the test shows nothing")
	}
}
