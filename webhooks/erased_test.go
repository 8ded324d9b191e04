package webhooks_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// noteErased notes a customer of the receiver's own account as erased, in test mode.
func noteErased(t *testing.T, pool *pgxpool.Pool, customer string) {
	t.Helper()
	pgtest.Exec(t, pool, `INSERT INTO stripe_erasures (id_hash, livemode, customer_hash) SELECT sha256(convert_to($1, 'UTF8')), FALSE, sha256(convert_to($1, 'UTF8'))`, customer)
}

func ofCustomer(event, eventType, object, id, customer string) []byte {
	return hooktest.Event(event, eventType, 1_700_000_000, fmt.Sprintf(`{"id":%q,"object":%q,"customer":%s,"status":"active","name":"Minna"}`, id, object, customer))
}

func newErasedHost(t *testing.T, pool *pgxpool.Pool) (host *hooktest.Host, changes *atomic.Int32) {
	t.Helper()
	changes = &atomic.Int32{}
	h := webhooks.NewHandlers()
	subscriptions.Register(h, &subscriptions.Config{Logger: hooktest.NoLog(), OnChange: func(context.Context, pgx.Tx, subscriptions.Change) error {
		changes.Add(1)
		return nil
	}})
	mirror.Register(h, &mirror.Config{Types: []string{"customer", "refund"}, Logger: hooktest.NoLog()})
	webhooks.On(h, "dispute.*", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, obj *map[string]any) error {
		return errors.New("no account for Minna: " + string(ev.Object))
	})
	return hooktest.On(t, pool, h, keepingPayloads), changes
}

// Of an erased customer nothing is stored: no row, no payload, no id in the ledger, no text of a failure; in every exec mode. What
// names a new object of the customer's is recognized, too. Another mode's and another account's customer of the same id is another.
func TestErasedCustomer(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			host, changes := newErasedHost(t, pgtest.Connect(t, inMode(pgtest.NewURL(t), mode)))
			noteErased(t, host.Pool, "cus_1")
			host.Expect(t, ofCustomer("evt_1", "customer.subscription.created", "subscription", "sub_1", `"cus_1"`), http.StatusOK, webhooks.OutcomeStale)
			host.Expect(t, ofCustomer("evt_2", "customer.subscription.updated", "subscription", "sub_1", `{"id":"cus_1"}`), http.StatusOK, webhooks.OutcomeStale)
			host.Expect(t, ofCustomer("evt_3", "customer.updated", "customer", "cus_1", "null"), http.StatusOK, webhooks.OutcomeStale)
			host.Expect(t, ofCustomer("evt_4", "charge.succeeded", "charge", "ch_1", `"cus_1"`), http.StatusOK, webhooks.OutcomeIgnored)
			host.Expect(t, hooktest.Event("evt_5", "refund.created", 1, `{"id":"re_1","object":"refund","charge":"ch_1","name":"Minna"}`), http.StatusOK, webhooks.OutcomeStale)
			host.Expect(t, hooktest.Event("evt_6", "dispute.created", 1, `{"id":"du_1","object":"dispute","charge":"ch_1","name":"Minna"}`), http.StatusInternalServerError, "")
			host.Expect(t, hooktest.Event("evt_7", "customer.subscription.updated", 1, `{"id":"sub_1","object":"subscription","status":"active","name":"Minna"}`), http.StatusOK, webhooks.OutcomeStale)
			const everything = `SELECT concat_ws(E'\n', (SELECT string_agg(e::text, E'\n') FROM stripe_webhook_events AS e), (SELECT string_agg(p::text, E'\n') FROM stripe_webhook_payloads AS p),
				(SELECT string_agg(f::text, E'\n') FROM stripe_webhook_failures AS f), (SELECT string_agg(s::text, E'\n') FROM subscriptions AS s), (SELECT string_agg(o::text, E'\n') FROM stripe_objects AS o))`
			all := pgtest.Scan[string](t, host.Pool, everything)
			for _, text := range []string{"Minna", "cus_1", "sub_1", "ch_1", "re_1", "du_1"} {
				if strings.Contains(all, text) {
					t.Errorf("the tables have %s:\n%s", text, all)
				}
			}
			if n := changes.Load(); n != 0 {
				t.Errorf("OnChange was called %d times", n)
			}
			host.Expect(t, []byte(strings.Replace(string(ofCustomer("evt_8", "customer.subscription.created", "subscription", "sub_8", `"cus_1"`)), `"livemode":false`, `"livemode":true`, 1)), http.StatusOK, webhooks.OutcomeProcessed)
			host.Expect(t, []byte(strings.Replace(string(ofCustomer("evt_9", "customer.subscription.created", "subscription", "sub_9", `"cus_1"`)), `"livemode":false`, `"account":"acct_1","livemode":false`, 1)), http.StatusOK, webhooks.OutcomeProcessed)
			if n := host.Count(t, "subscriptions"); n != 2 {
				t.Errorf("there are %d subscriptions of the other mode and account", n)
			}
			host.Expect(t, ofCustomer("evt_1", "customer.subscription.created", "subscription", "sub_1", `"cus_1"`), http.StatusOK, webhooks.OutcomeDuplicate)
		})
	}
}

// statements counts the lookups of erased customers.
type statements struct{ lookups atomic.Int32 }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, query := range data.Batch.QueuedQueries {
		if strings.Contains(query.SQL, "name: ErasureLookup") {
			s.lookups.Add(1)
		}
	}
	return ctx
}
func (s *statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (s *statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// Without erasures, a receiver looks once a minute whether there are any. With one, each event is looked up.
func TestErasuresAreLookedFor(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(pgtest.NewURL(t))
	if err != nil {
		t.Fatal(err)
	}
	seen := &statements{}
	config.ConnConfig.Tracer = seen
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	host, _ := newErasedHost(t, pool)
	send := func(first, last int) {
		for i := first; i <= last; i++ {
			host.Send(t, ofCustomer(fmt.Sprintf("evt_%d", i), "customer.subscription.created", "subscription", fmt.Sprintf("sub_%d", i), `"cus_1"`))
		}
	}
	send(1, 10)
	noteErased(t, pool, "cus_1")
	send(11, 20)
	if lookups, rows := seen.lookups.Load(), host.Count(t, "subscriptions"); lookups != 1 || rows != 20 {
		t.Errorf("of 20 events, %d looked for erasures, and %d were stored", lookups, rows)
	}
	host.Receiver.ForgetErasures()
	send(21, 30)
	if lookups, rows := seen.lookups.Load(), host.Count(t, "subscriptions"); lookups != 11 || rows != 20 {
		t.Errorf("of 10 events after an erasure, %d were looked up, and %d stored", lookups-1, rows-20)
	}
}

// In a batch, the events of erased customers are left out, and the others are applied in the same transaction. So are the later events
// of an object that turns out to be an erased customer's.
func TestErasedCustomerInABatch(t *testing.T) {
	t.Parallel()
	c := newBatchHost(t, keepingPayloads)
	noteErased(t, c.Pool, "cus_gone")
	c.Receiver.ForgetErasures()
	bodies := several(6)
	for i, customer := range map[int]string{1: `"cus_gone"`, 4: `"cus_2"`} {
		bodies[i] = ofCustomer(fmt.Sprintf("evt_0%d", i), "customer.subscription.created", "subscription", fmt.Sprintf("sub_0%d", i), customer)
	}
	replies := c.deliverBatch(t, bodies...)()
	wantReplies(t, replies[1:2], webhooks.OutcomeStale)
	wantReplies(t, slices.Delete(replies, 1, 2), webhooks.OutcomeProcessed)
	if n := c.transactions(t, "evt_0%"); n != 1 {
		t.Errorf("they took %d transactions, want 1", n)
	}
	const stored = `SELECT concat_ws(' ', (SELECT string_agg(id, ' ' ORDER BY id) FROM subscriptions WHERE id LIKE 'sub_0%'),
		(SELECT string_agg(event_id, ' ') FROM stripe_webhook_events WHERE object_id IS NULL AND event_id LIKE 'evt_0%'), (SELECT count(*) FROM stripe_webhook_payloads WHERE event_id LIKE 'evt_0%'),
		(SELECT count(*) FROM stripe_erasures WHERE id_hash = sha256('sub_01') AND customer_hash = sha256('cus_gone')))`
	if got, want := pgtest.Scan[string](t, c.Pool, stored), "sub_00 sub_02 sub_03 sub_04 sub_05 evt_01 5 1"; got != want {
		t.Errorf("the tables have %s, want %s", got, want)
	}
	m := newMirrorHost(t)
	m.Expect(t, ofInvoice("evt_warm", "in_warm", "draft", 0), http.StatusOK, webhooks.OutcomeProcessed)
	noteErased(t, m.Pool, "cus_1")
	m.Receiver.ForgetErasures()
	noCustomer := hooktest.Event("evt_0", "invoice.created", 1_700_000_000, `{"id":"in_1","object":"invoice","created":1700000000}`)
	results := m.deliverRiders(t, noCustomer, ofInvoice("evt_1", "in_1", "open", 1), ofInvoice("evt_2", "in_1", "paid", 2))()
	if slices.ContainsFunc(results, func(result string) bool { return result != "processed" && result != "stale" }) || m.Count(t, "stripe_objects WHERE customer_id = 'cus_1' AND id = 'in_1'") != 0 {
		t.Errorf("the results are %v, and the invoice of the erased customer is stored: %d", results, m.Count(t, "stripe_objects WHERE customer_id = 'cus_1'"))
	}
}
