package webhooks_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// Every column of the ledger says what the event says, and is null where it says nothing.
func TestLedgerRow(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(succeed), func(c *webhooks.Config) { c.Name = "billing" })
	host.Expect(t, []byte(`{"id":"evt_1","object":"event","api_version":"2024-06-20","created":1700000000,"livemode":true,
		"account":"acct_1","data":{"object":{"id":"obj_1"}},"type":"test.event"}`), 200, webhooks.OutcomeProcessed)
	host.Expect(t, []byte(`{"id":"evt_2","type":"other.event"}`), 200, webhooks.OutcomeIgnored)
	for id, want := range map[string]string{
		"evt_1": `(evt_1,test.event,t,processed,"2023-11-14 22:13:20",t,acct_1,2024-06-20,obj_1,billing,,0,)`,
		"evt_2": `(evt_2,other.event,t,ignored,,f,,,,billing,,0,)`,
	} {
		got := pgtest.Scan[string](t, host.Pool, `SELECT (event_id, event_type, now() - processed_at BETWEEN '0' AND '1 hour', outcome,
			event_created_at AT TIME ZONE 'UTC', livemode, account_id, api_version, object_id,
			receiver, reprocessed_at, reprocess_count, reprocess_reason)::text FROM stripe_webhook_events WHERE event_id = $1`, id)
		if got != want {
			t.Errorf("the row is %s, want %s", got, want)
		}
	}
}

// What the tables must be like, said apart from the migrations.
func TestSchema(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	got := pgtest.Scan[string](t, pool, `SELECT string_agg(concat_ws(' ', column_name, data_type, character_maximum_length, collation_name), ', ' ORDER BY ordinal_position)
		FROM information_schema.columns WHERE table_name = 'stripe_webhook_events'`)
	want := "event_id character varying 255 C, event_type character varying 255, processed_at timestamp with time zone, outcome character varying 16, " +
		"event_created_at timestamp with time zone, livemode boolean, account_id character varying 255, api_version character varying, object_id character varying 255, " +
		"receiver character varying 255, reprocessed_at timestamp with time zone, reprocess_count integer, reprocess_reason character varying"
	if got != want {
		t.Errorf("the ledger has the columns\n%s, want\n%s", got, want)
	}
	indexes := pgtest.Scan[string](t, pool, `SELECT replace(string_agg(indexdef, E'\n' ORDER BY indexname), ' ON ONLY ', ' ON ') FROM pg_indexes WHERE tablename = 'stripe_webhook_events'`)
	wantIndexes := `CREATE UNIQUE INDEX stripe_webhook_events_event_id_key ON public.stripe_webhook_events USING btree (event_id)
CREATE INDEX stripe_webhook_events_object_id_idx ON public.stripe_webhook_events USING btree (object_id) WHERE (object_id IS NOT NULL)
CREATE INDEX stripe_webhook_events_processed_at_idx ON public.stripe_webhook_events USING btree (processed_at)`
	if indexes != wantIndexes {
		t.Errorf("the ledger's indexes are\n%s, want\n%s", indexes, wantIndexes)
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('x', 'x', 'duplicate', false)`); err == nil {
		t.Error("the ledger takes an outcome that is none")
	}
}

// A unique violation that a trigger on the ledger brings about is not the ledger's own.
func TestOtherViolationByOurInsert(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(succeed), nil)
	pgtest.Exec(t, host.Pool, `CREATE FUNCTION mirror() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO other VALUES ('taken'); RETURN NEW; END $$`)
	pgtest.Exec(t, host.Pool, `CREATE TRIGGER mirror AFTER INSERT ON stripe_webhook_events FOR EACH ROW EXECUTE FUNCTION mirror()`)
	host.Expect(t, testEvent, 500, "")
	expectCounter(t, host, 0)
}

// Duplicates and failures give their connections back as good as they were.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(func(ctx context.Context, tx pgx.Tx) error { return exec(`SELECT 1/0`)(ctx, tx) }), nil)
	ignored := hooktest.Event("evt_2", "other.event", 1, `{}`)
	deliver := func() {
		host.Expect(t, testEvent, 500, "")
		host.Send(t, ignored)
		pgtest.AwaitEqual(t, "the number of deliveries in flight", 0, func() int { return host.Receiver.Stats().InFlight }) // a duplicate is answered before its rollback
		pgtest.AwaitEqual(t, "the number of connections in use", 0, func() int32 { return host.Pool.Stat().AcquiredConns() })
	}
	deliver()
	before := host.Pool.Stat().NewConnsCount()
	for range 10 {
		deliver()
	}
	if after := host.Pool.Stat().NewConnsCount(); after > before {
		t.Errorf("20 deliveries opened %d connections", after-before)
	}
}

// The mistake of returning a nil pointer as an error, which panics when it is looked into, is a failure
// of its event and of nothing else.
func TestErrorThatPanics(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error {
		var err *stripe.Error
		return err
	}), nil)
	host.Expect(t, testEvent, 500, "")
	host.Expect(t, testEvent, 500, "")
	expectCounter(t, host, 0)
	if n := host.Receiver.Stats().InFlight; n != 0 {
		t.Errorf("%d are in flight", n)
	}
}

// A COMMIT that takes longer than the work may is awaited, and its success is one.
func TestSlowCommit(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(exec(`INSERT INTO slow VALUES (1)`)), func(c *webhooks.Config) { c.Timeout = 2 * time.Second })
	pgtest.Exec(t, host.Pool, `CREATE TABLE slow (n int);
		CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(4); RETURN NEW; END $$`)
	pgtest.Exec(t, host.Pool, `CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()`)
	host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
	expectCounter(t, host, 1)
}

// The projection's tables may be the ones that are missing.
func TestMigrationTakenBackWhileServing(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	host := hooktest.New(t, h, nil)
	host.Expect(t, about("evt_1", "sub_1", "active"), 200, webhooks.OutcomeProcessed)
	for pgtest.Scan[bool](t, host.Pool, `SELECT to_regclass('subscriptions') IS NOT NULL`) {
		if err := migrate.Rollback(t.Context(), host.DatabaseURL, true, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	reply := host.Send(t, about("evt_2", "sub_1", "active"))
	if reply.Status != http.StatusServiceUnavailable || !strings.Contains(reply.String(), "not migrated") {
		t.Errorf("the reply is %s", reply)
	}
}

// cutter is a way to PostgreSQL that can be cut: after a client's message that holds a text.
type cutter struct {
	on   atomic.Pointer[string]
	cuts atomic.Int64
}

func (c *cutter) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &cuttable{conn, c}, err
}

type cuttable struct {
	net.Conn
	cutter *cutter
}

func (c *cuttable) Write(message []byte) (int, error) {
	n, err := c.Conn.Write(message)
	if text := c.cutter.on.Load(); text != nil && strings.Contains(string(message), *text) {
		c.cutter.on.Store(nil)
		c.cutter.cuts.Add(1)
		_ = c.Close()
	}
	return n, err
}

// A connection that is lost before a handler runs costs one more attempt on another; in a handler's statement it is the
// event's failure; in the receiver's own it is nobody's: 503. Lost in COMMIT it may have taken effect or not, and
// the next delivery finds out; in the end it has, once.
func TestConnectionIsCut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text           string
		status, record int
	}{
		"at BEGIN": {"BEGIN", 200, 0}, "in the check": {"StripeWebhookEventOutcome", 200, 0}, "in the handler": {"UPDATE counter", 500, 1},
		"in the record": {"StripeWebhookEventInsert", 503, 0}, "in COMMIT": {"COMMIT\x00", 503, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			way := &cutter{}
			pool := pgtest.ConnectBy(t, pgtest.NewURL(t)+"&default_query_exec_mode=simple_protocol", way.dial)
			host := hooktest.On(t, pool, counting(succeed), nil)
			pgtest.Exec(t, pool, `CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)`)
			if err := host.Receiver.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			way.on.Store(&c.text)
			if reply := host.Send(t, testEvent); reply.Status != c.status {
				t.Errorf("the reply is %s, want %d", reply, c.status)
			}
			if way.cuts.Load() != 1 {
				t.Fatal("nothing was cut")
			}
			reply := host.Send(t, testEvent)
			if out := reply.Outcome(); out != webhooks.OutcomeProcessed && (out != webhooks.OutcomeDuplicate || c.status == 500 || name == "in the record") {
				t.Errorf("then the reply is %s", reply)
			}
			expectCounter(t, host, 1)
			if n := host.Count(t, "stripe_webhook_failures"); n != c.record {
				t.Errorf("there are %d records of a failure, want %d", n, c.record)
			}
		})
	}
}

// A function that is still at it when time is up, but not in a statement, costs no connection: the
// rollback has a deadline of its own.
func TestRollbackAfterTheDeadline(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(func(ctx context.Context, _ pgx.Tx) error {
		<-ctx.Done()
		return nil
	}), func(c *webhooks.Config) { c.Timeout = time.Second })
	isReady(t, host)
	host.Expect(t, testEvent, 500, "")
	before := host.Pool.Stat().NewConnsCount()
	for range 3 {
		host.Expect(t, testEvent, 500, "")
	}
	if after := host.Pool.Stat().NewConnsCount(); after != before {
		t.Errorf("3 deliveries opened %d connections", after-before)
	}
	expectCounter(t, host, 0)
}

// A function that keeps its transaction has a dead one when it has returned: the connection is another's.
func TestTransactionIsDeadAfterwards(t *testing.T) {
	t.Parallel()
	var kept pgx.Tx
	host := newCounter(t, counting(func(_ context.Context, tx pgx.Tx) error {
		kept = tx
		return nil
	}), nil)
	host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
	if _, err := kept.Exec(t.Context(), `UPDATE counter SET n = 100`); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("the error is %v", err)
	}
	expectCounter(t, host, 1)
}
