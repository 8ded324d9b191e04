package webhooks_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// newMirrorHost returns a batchHost with the mirror of invoices and customers, and one connection.
func newMirrorHost(t *testing.T, configure ...func(*webhooks.Config)) *batchHost {
	t.Helper()
	roundTrips := &pglocal.RoundTrips{}
	config, err := pgxpool.ParseConfig(pgtest.NewURL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns, config.ConnConfig.DialFunc = 1, roundTrips.Dial
	c := newBatchHostOn(t, config)
	c.roundTrips = roundTrips
	h := webhooks.NewHandlers()
	subscriptions.Register(h, &subscriptions.Config{Logger: hooktest.NoLog()})
	mirror.Register(h, &mirror.Config{Types: []string{"invoice", "customer"}, Logger: hooktest.NoLog()})
	c.registerProbe(h)
	c.Host = hooktest.On(t, c.Pool, h, func(c *webhooks.Config) {
		c.ConcurrentBatches, c.LockTimeout = 1, time.Hour
		for _, one := range configure {
			one(c)
		}
	})
	c.Receiver.WaitForBatch(time.Minute)
	isReady(t, c.Host)
	return c
}

// ofInvoice returns an event of an invoice.
func ofInvoice(event, invoice, status string, second int64) []byte {
	return hooktest.Event(event, "invoice.updated", 1_700_000_000+second,
		fmt.Sprintf(`{"id":%q,"object":"invoice","customer":"cus_1","status":%q,"created":1700000000}`, invoice, status))
}

// deliverRiders lets events form a batch: those of one object ride with the first of it, in their order.
func (c *batchHost) deliverRiders(t *testing.T, bodies ...[]byte) func() []string {
	t.Helper()
	resume := c.hold(t, func() {})
	results := make([]string, len(bodies))
	var wg sync.WaitGroup
	for i, body := range bodies {
		wg.Go(func() {
			reply, err := c.Sender.Send(context.Background(), body)
			if results[i] = string(reply.Outcome()); err != nil || results[i] == "" {
				results[i] = fmt.Sprintf("%s %v", reply, err)
			}
		})
		pgtest.AwaitEqual(t, "events waiting for a batch, or for their object", i+1, func() int { return c.Receiver.Waiting() + c.Receiver.Queued() })
	}
	resume()
	return func() []string {
		wg.Wait()
		return results
	}
}

func repeated(outcome webhooks.Outcome, n int) []string {
	return slices.Repeat([]string{string(outcome)}, n)
}

// Events of one object that wait share the transaction of the first one. Its row is written once, and read once.
func TestRiders(t *testing.T) {
	t.Parallel()
	c := newMirrorHost(t)
	c.deliverRiders(t, ofInvoice("evt_warm_1", "in_warm_1", "open", 0), ofInvoice("evt_warm_2", "in_warm_2", "open", 0))()
	before := c.roundTrips.Count()
	results := c.deliverRiders(t,
		ofInvoice("evt_00", "in_1", "draft", 0), ofInvoice("evt_01", "in_2", "draft", 0), ofInvoice("evt_02", "in_1", "open", 1),
		ofInvoice("evt_03", "in_1", "paid", 2), ofInvoice("evt_04", "in_1", "open", 1),
	)()
	roundTrips := c.roundTrips.Count() - before
	want := append(repeated(webhooks.OutcomeProcessed, 4), string(webhooks.OutcomeStale))
	if diff := cmp.Diff(want, results); diff != "" {
		t.Error(diff)
	}
	if n := c.transactions(t, "evt_0_"); n != 1 {
		t.Errorf("5 events of 2 objects took %d transactions, want 1", n)
	}
	if roundTrips != 4 {
		t.Errorf("one event and a batch took %d round trips, want 4", roundTrips)
	}
	const rows = `SELECT string_agg(concat_ws(' ', id, status, last_event_id, revision), ', ' ORDER BY id) FROM stripe_objects WHERE id IN ('in_1', 'in_2')`
	if got, want := pgtest.Scan[string](t, c.Pool, rows), "in_1 paid evt_03 1, in_2 draft evt_01 1"; got != want {
		t.Errorf("the rows are %s, want %s", got, want)
	}
	c.Expect(t, ofInvoice("evt_05", "in_1", "void", 3), http.StatusOK, webhooks.OutcomeProcessed)
	c.Expect(t, ofInvoice("evt_06", "in_1", "void", 4), http.StatusOK, webhooks.OutcomeStale) // the digest is the row's
}

// However the events of some objects form batches, the rows are those of events that are delivered one by one.
func TestRidersAsAlone(t *testing.T) {
	t.Parallel()
	histories := 12
	if pgtest.Quick() {
		histories = 3
	}
	batched, alone := newMirrorHost(t), newMirrorHost(t)
	for seed := range uint64(histories) {
		account := stripesim.New(seed+1, stripesim.Epoch)
		account.Billing = true
		account.Live(stripesim.Life{Subscriptions: 2})
		var bodies [][]byte
		for _, event := range account.Events {
			ev, err := webhooks.ParseEvent(event.Body)
			if err != nil {
				t.Fatal(err)
			}
			if alone.Receiver.Handles(ev) && ev.ObjectType() != "tax_id" { // others wait for no batch
				bodies = append(bodies, event.Body)
			}
		}
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
		for _, body := range bodies {
			if reply := alone.Send(t, body); !reply.OK() {
				t.Fatal(reply)
			}
		}
		for list := range slices.Chunk(bodies, 12) {
			for _, result := range batched.deliverRiders(t, list...)() {
				if strings.Contains(result, " ") {
					t.Fatal(result)
				}
			}
		}
	}
	for name, query := range map[string]string{
		"objects": `SELECT string_agg((to_jsonb(o) - '{created_at,updated_at,revision,digest,newest_events}'::text[])::text, E'\n' ORDER BY object_type, id) FROM stripe_objects AS o`,
		"subscriptions": `SELECT string_agg((to_jsonb(s) - '{created_at,updated_at,revision,digest,newest_events}'::text[])::text, E'\n' ORDER BY id)
			FROM subscriptions AS s WHERE customer_id <> 'cus_1'`,
		"items": `SELECT string_agg((to_jsonb(i) - '{created_at,updated_at}'::text[])::text, E'\n' ORDER BY i.id)
			FROM subscription_items AS i JOIN subscriptions AS s ON s.id = i.subscription_id WHERE customer_id <> 'cus_1'`,
	} {
		if diff := cmp.Diff(pgtest.Scan[string](t, alone.Pool, query), pgtest.Scan[string](t, batched.Pool, query)); diff != "" {
			t.Errorf("%s differ: %s", name, diff)
		}
	}
	sum := pgtest.Scan[int](t, batched.Pool, `SELECT count(*)::int FROM stripe_webhook_events`)
	if n := batched.transactions(t, "evt_1%"); n > sum*2/3 {
		t.Errorf("%d events took %d transactions: they do not ride", sum, n)
	}
}

// The riders of an event that leaves its batch leave it, too: they have not read their row. All take effect.
func TestRidersOfOneThatLeaves(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(t *testing.T, c *batchHost){
		"the first was ignored before": func(t *testing.T, c *batchHost) {
			c.Expect(t, ofInvoice("evt_later", "in_1", "void", 9), http.StatusOK, webhooks.OutcomeProcessed) // the others are stale
			hooktest.On(t, c.Pool, webhooks.NewHandlers(), nil).Expect(t, ofInvoice("evt_00", "in_1", "draft", 0), http.StatusOK, webhooks.OutcomeIgnored)
		},
		"the first was applied elsewhere": func(t *testing.T, c *batchHost) {
			h := webhooks.NewHandlers()
			mirror.Register(h, &mirror.Config{Types: []string{"invoice"}})
			hooktest.On(t, c.Pool, h, nil).Expect(t, ofInvoice("evt_00", "in_1", "draft", 0), http.StatusOK, webhooks.OutcomeProcessed)
		},
		"the row is refused": func(t *testing.T, c *batchHost) {
			pgtest.Exec(t, c.Pool, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF (SELECT count(*) FROM stripe_webhook_events WHERE event_id LIKE 'evt_0_') = 0 AND NEW.status = 'paid' THEN RAISE EXCEPTION 'not in this order'; END IF; RETURN NEW; END $$`)
			pgtest.Exec(t, c.Pool, "CREATE TRIGGER refuse BEFORE INSERT ON stripe_objects FOR EACH ROW EXECUTE FUNCTION refuse()")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newMirrorHost(t)
			before(t, c)
			c.deliverRiders(t, ofInvoice("evt_00", "in_1", "draft", 0), ofInvoice("evt_01", "in_1", "open", 1), ofInvoice("evt_02", "in_1", "paid", 2))()
			const rows = `SELECT string_agg(concat_ws(' ', event_id, replace(outcome, 'stale', 'processed')), ', ' ORDER BY event_id) || ': ' || (SELECT status FROM stripe_objects WHERE id = 'in_1')
				FROM stripe_webhook_events WHERE event_id LIKE 'evt_0_'`
			status := "paid"
			if c.Count(t, "stripe_webhook_events WHERE event_id = 'evt_later'") > 0 {
				status = "void"
			}
			if got, want := pgtest.Scan[string](t, c.Pool, rows), "evt_00 processed, evt_01 processed, evt_02 processed: "+status; got != want {
				t.Errorf("the ledger and the mirror have %s, want %s", got, want)
			}
		})
	}
}

// An event that another replica has applied is answered although its object's lock is held elsewhere.
func TestKnownEventDoesNotWait(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	h := webhooks.NewHandlers()
	mirror.Register(h, &mirror.Config{Types: []string{"invoice"}})
	elsewhere := hooktest.On(t, pool, h, nil)
	elsewhere.Expect(t, ofInvoice("evt_known", "in_1", "draft", 0), http.StatusOK, webhooks.OutcomeProcessed)
	holder := pgtest.Connect(t, pool.Config().ConnString())
	tx, err := holder.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if err := webhooks.LockObject(t.Context(), tx, "in_1"); err != nil {
		t.Fatal(err)
	}
	host := hooktest.On(t, pool, h, func(c *webhooks.Config) { c.LockTimeout = time.Hour })
	var wg sync.WaitGroup
	wg.Go(func() {
		host.Expect(t, ofInvoice("evt_new", "in_1", "open", 1), http.StatusOK, webhooks.OutcomeProcessed)
	})
	pgtest.AwaitEqual(t, "events that wait for the lock", 1, func() int {
		return pgtest.Scan[int](t, holder, `SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`)
	})
	host.Expect(t, ofInvoice("evt_known", "in_1", "draft", 0), http.StatusOK, webhooks.OutcomeDuplicate) // while the lock is held
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

// A rider that needs its object from Stripe, since the order of its second is not known, fetches it after the batch.
func TestRiderFetches(t *testing.T) {
	t.Parallel()
	api := newStripeAPI(t, map[string]string{
		"/v1/invoices/in_1": `{"id":"in_1","object":"invoice","customer":"cus_1","status":"paid","created":1700000000,"lines":{"data":[],"has_more":false}}`,
	})
	c := newMirrorHost(t, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", api.server.URL })
	results := c.deliverRiders(t, ofInvoice("evt_00", "in_1", "draft", 0), ofInvoice("evt_01", "in_1", "open", 0), ofInvoice("evt_02", "in_2", "open", 0))()
	if diff := cmp.Diff(repeated(webhooks.OutcomeProcessed, 3), results); diff != "" {
		t.Error(diff)
	}
	if got := pgtest.Scan[string](t, c.Pool, `SELECT status FROM stripe_objects WHERE id = 'in_1'`); got != "paid" {
		t.Errorf("the invoice is %s, and not as Stripe answered", got)
	}
	if n := len(api.asked()); n != 1 {
		t.Errorf("Stripe was asked %d times, want once", n)
	}
	if n := c.Count(t, "stripe_webhook_failures"); n != 0 {
		t.Errorf("there are %d failures", n)
	}
}

// An event whose caller gives up while its batch runs is left out, unless a later one of its object was applied to the row that it
// left.
func TestRiderGivesUp(t *testing.T) {
	t.Parallel()
	for name, gives := range map[string]int{"the last": 2, "one before": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newMirrorHost(t)
			bodies := [][]byte{
				ofInvoice("evt_00", "in_1", "draft", 0), ofInvoice("evt_01", "in_1", "open", 1), ofInvoice("evt_02", "in_1", "paid", 2),
				hooktest.Event("evt_03", "probe.sent", 1_700_000_000, `{"id":"obj_1"}`),
			}
			ctx, giveUp := context.WithCancel(t.Context())
			c.probe = func(context.Context, pgx.Tx, *pgpipe.Writes, string) (bool, error) { // in the same batch, after the others
				giveUp()
				return false, nil
			}
			resume := c.hold(t, func() {})
			errs := make([]error, len(bodies))
			var wg sync.WaitGroup
			for i, body := range bodies {
				own := t.Context()
				if i == gives {
					own = ctx
				}
				wg.Go(func() { errs[i] = c.apply(own, body) })
				pgtest.AwaitEqual(t, "events waiting", i+1, func() int { return c.Receiver.Waiting() + c.Receiver.Queued() })
			}
			resume()
			wg.Wait()
			const rows = `SELECT string_agg(event_id, ' ' ORDER BY event_id) || ': ' || (SELECT concat_ws(' ', status, last_event_id) FROM stripe_objects WHERE id = 'in_1')
				FROM stripe_webhook_events WHERE event_id LIKE 'evt_0_'`
			want := map[string]string{"the last": "evt_00 evt_01 evt_03: open evt_01", "one before": "evt_00 evt_01 evt_02 evt_03: paid evt_02"}[name]
			if got := pgtest.Scan[string](t, c.Pool, rows); got != want {
				t.Errorf("the ledger and the mirror have %s, want %s", got, want)
			}
			if failed := errors.Is(errs[2], webhooks.ErrUnavailable); failed != (gives == 2) || errors.Join(errs[:2]...) != nil {
				t.Errorf("the events are answered %v", errs)
			}
			c.Expect(t, bodies[2], http.StatusOK, map[int]webhooks.Outcome{2: webhooks.OutcomeProcessed, 1: webhooks.OutcomeDuplicate}[gives])
		})
	}
}
