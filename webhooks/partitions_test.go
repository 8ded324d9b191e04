package webhooks_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// partitionByHand replaces the ledger by a partitioned one whose partitions, and their indexes, have names that nobody expects, in
// another schema, and of which one is partitioned again.
const partitionByHand = `
ALTER TABLE stripe_webhook_events RENAME TO plain;
CREATE TABLE stripe_webhook_events (LIKE plain INCLUDING DEFAULTS INCLUDING CONSTRAINTS, CONSTRAINT "the key" PRIMARY KEY (event_id)) PARTITION BY HASH (event_id);
CREATE SCHEMA "else where";
CREATE TABLE "else where"."Events, even" PARTITION OF stripe_webhook_events FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE "else where".odd (LIKE plain INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY HASH (event_id);
CREATE TABLE "else where".odd_0 (LIKE plain INCLUDING DEFAULTS INCLUDING CONSTRAINTS, CONSTRAINT "unique id" PRIMARY KEY (event_id));
ALTER TABLE "else where".odd ATTACH PARTITION "else where".odd_0 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
ALTER TABLE stripe_webhook_events ATTACH PARTITION "else where".odd FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO stripe_webhook_events SELECT * FROM plain`

// lookups counts how often the catalog is asked for an index.
type lookups struct{ n atomic.Int32 }

func (l *lookups) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(data.SQL, "-- name: StripeWebhookEventIndex ") {
		l.n.Add(1)
	}
	return ctx
}

func (l *lookups) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// Losers of a race are told by the index that they violate, whatever a partition and its index are called, also where the ledger was
// partitioned while receivers work. Each receiver asks for each index once.
func TestLostRaceOnPartitions(t *testing.T) {
	t.Parallel()
	pgtest.OnPlainTables(t, "it partitions the ledger itself")
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			const deliveries = 5
			meet, asked := func() {}, &lookups{}
			h := webhooks.NewHandlers()
			webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
				meet()
				_, err := tx.Exec(ctx, addOne)
				return err
			})
			config, err := pgxpool.ParseConfig(pgtest.NewURL(t) + "&pool_max_conns=8&default_query_exec_mode=" + mode)
			if err != nil {
				t.Fatal(err)
			}
			config.ConnConfig.Tracer = asked
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { pgtest.Close(t, pool) })
			pgtest.Exec(t, pool, `CREATE TABLE counter (n int)`)
			pgtest.Exec(t, pool, `INSERT INTO counter VALUES (0)`)
			hosts := replicas(t, pool, h, deliveries)
			const events = 16
			race := func(id int) {
				t.Helper()
				meet = barrier(deliveries)
				body := hooktest.Event(fmt.Sprint("evt_", id), "test.event", 1, `{}`)
				if got := outcomes(t, hosts, body, deliveries); got[webhooks.OutcomeProcessed] != 1 || got[webhooks.OutcomeDuplicate] != deliveries-1 {
					t.Errorf("event %d: the outcomes are %v", id, got)
				}
			}
			race(0)
			if n := asked.n.Load(); n != 0 {
				t.Errorf("of the plain table's index the catalog is asked %d times", n)
			}
			for _, statement := range strings.Split(partitionByHand, ";\n") {
				pgtest.Exec(t, pool, statement)
			}
			for id := 1; id < events; id++ {
				race(id)
			}
			expectCounter(t, hosts[0], events)
			if n := asked.n.Load(); n < 2 || n > 2*deliveries {
				t.Errorf("of two partitions' indexes the catalog is asked %d times, by %d receivers", n, deliveries)
			}
			got := pgtest.Scan[string](t, pool, `SELECT count(*) || ' ' || count(DISTINCT tableoid) || ' ' || (SELECT count(*) FROM stripe_webhook_failures) FROM stripe_webhook_events`)
			if want := fmt.Sprintf("%d 2 0", events); got != want {
				t.Errorf("the ledger's rows, their partitions and the failures are %s, want %s", got, want)
			}
		})
	}
}

// A unique index that is not the ledger's on event_id refuses the event: that is its failure, with a record, and no lost race. The
// handler ran once.
func TestOtherIndexIsNoLostRace(t *testing.T) {
	t.Parallel()
	pgtest.OnPlainTables(t, "it partitions the ledger itself")
	const trigger = `CREATE FUNCTION copy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO archive.stripe_webhook_events VALUES ('evt_1'); RETURN NULL; END $$;
		CREATE TRIGGER copy AFTER INSERT ON stripe_webhook_events FOR EACH ROW EXECUTE FUNCTION copy()`
	const archive = `CREATE SCHEMA archive; CREATE TABLE archive.stripe_webhook_events (event_id text CONSTRAINT stripe_webhook_events_event_id_key PRIMARY KEY)`
	for name, c := range map[string]struct{ setup, says string }{
		"a unique index on another column of the ledger": {`CREATE UNIQUE INDEX one_of_a_type ON stripe_webhook_events (event_type)`, "one_of_a_type"},
		"a unique index on more than the id": {`CREATE UNIQUE INDEX one_of_a_type ON stripe_webhook_events (event_type, livemode);` + partitionByHand +
			`; CREATE UNIQUE INDEX one_of_a_type_even ON "else where"."Events, even" (event_type); CREATE UNIQUE INDEX one_of_a_type_odd ON "else where".odd_0 (event_type)`, "one_of_a_type_"},
		"a unique index on a part of the ids":           {`CREATE UNIQUE INDEX partial ON stripe_webhook_events ((event_type)) WHERE event_id <> ''`, "partial"},
		"a table with the ledger's names, by a trigger": {archive + `;` + trigger, "stripe_webhook_events_event_id_key"},
		"a partitioned table with the ledger's names, by a trigger": {partitionByHand + `;` + archive + ` PARTITION BY HASH (event_id);
			CREATE TABLE archive.p PARTITION OF archive.stripe_webhook_events FOR VALUES WITH (MODULUS 1, REMAINDER 0);` + trigger, "p_pkey"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ran atomic.Int32
			host := newCounter(t, counting(func(context.Context, pgx.Tx) error {
				ran.Add(1)
				return nil
			}), nil)
			pgtest.Exec(t, host.Pool, c.setup)
			ids := []string{"evt_0", "evt_1"}
			host.Expect(t, hooktest.Event(ids[0], "test.event", 1, `{}`), 200, webhooks.OutcomeProcessed)
			if strings.Contains(name, "more than") { // an id of the same partition
				ids[1] = pgtest.Scan[string](t, host.Pool, `SELECT 'evt_' || n FROM generate_series(1, 100) AS n
					WHERE satisfies_hash_partition('stripe_webhook_events'::regclass, 2, (SELECT (tableoid = '"else where".odd_0'::regclass)::int FROM stripe_webhook_events), ('evt_' || n)::varchar) LIMIT 1`)
			}
			ran.Store(0)
			reply := host.Send(t, hooktest.Event(ids[1], "test.event", 1, `{}`))
			got := pgtest.Scan[string](t, host.Pool, `SELECT coalesce(string_agg(attempts || ' ' || last_error, '; '), 'none') FROM stripe_webhook_failures`)
			if reply.Status != 500 || !strings.HasPrefix(got, "1 record the event: ") || !strings.Contains(got, c.says) {
				t.Errorf("the reply is %s, and the record %q, want the index %s in it", reply, got, c.says)
			}
			if n := ran.Load(); n != 1 {
				t.Errorf("the handler ran %d times", n)
			}
			expectCounter(t, host, 1)
		})
	}
}
