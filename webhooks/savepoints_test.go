package webhooks_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
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
	return newSavepointHostIn(t, "cache_statement", do)
}

// newSavepointHostIn is newSavepointHost in a query exec mode of pgx's.
func newSavepointHostIn(t *testing.T, mode string, do inBatch) *savepointHost {
	t.Helper()
	s := &savepointHost{roundTrips: &pglocal.RoundTrips{}, do: do}
	pool := pgtest.ConnectBy(t, inMode(pgtest.NewURL(t), mode)+"&pool_max_conns=1", s.roundTrips.Dial)
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
	for _, mode := range []string{"cache_statement", "exec"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			batchesOfHandlers(t, mode)
		})
	}
}

func batchesOfHandlers(t *testing.T, mode string) {
	t.Helper()
	idle := func(context.Context, pgx.Tx) error { return nil }
	do := inBatch{}
	s := newSavepointHostIn(t, mode, do)
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
		for _, place := range []struct {
			at   int // first, in the middle, last
			mode string
		}{{0, "cache_statement"}, {2, "cache_statement"}, {4, "cache_statement"}, {2, "exec"}} {
			at, mode := place.at, place.mode
			// A statement that is prepared fails before the savepoint is set; one that is parsed when it runs, after it.
			shares := c.shares || mode == "exec" && name == "its new statement is wrong"
			t.Run(fmt.Sprintf("%s, at %d, %s", name, at, mode), func(t *testing.T) {
				t.Parallel()
				s := newSavepointHostIn(t, mode, inBatch{"evt_bad": c.do})
				if name == "waits for a lock" {
					holder := pgtest.Connect(t, s.DatabaseURL)
					tx, err := holder.Begin(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(7)`); err != nil {
						t.Fatal(err)
					}
					s.do["evt_bad"] = func(ctx context.Context, handlers pgx.Tx) error {
						if s.ran("evt_bad") > 1 { // it has left the batch
							if err := tx.Rollback(ctx); err != nil {
								return err
							}
						}
						return c.do(ctx, handlers)
					}
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
					case reply.Outcome() != webhooks.OutcomeProcessed && (shares || reply.Outcome() != webhooks.OutcomeDuplicate):
						t.Errorf("the reply of %s is %s", ids[i], reply)
					}
				}
				notes := s.notes(t)
				if len(notes) != 6 { // with those of the first events
					t.Errorf("the notes are %v", notes)
				}
				together := notes["evt_1"] == notes["evt_2"] && notes["evt_2"] == notes["evt_3"] && notes["evt_3"] == notes["evt_4"]
				committed := strings.HasPrefix(name, "COMMIT") && at == 4 // by the handler, together with their rows in the ledger
				if shares != together && !committed {
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
