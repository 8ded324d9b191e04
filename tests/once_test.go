package tests

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// The acceptance test: the same payload, delivered twice, gives a single subscription record.
func TestTheSamePayloadTwice(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	pool := pgtest.Connect(t, databaseURL)
	s := serve(t, environ("DATABASE_URL="+databaseURL))
	body := subscriptionEvent("evt_1", 1700000000, "active")
	s.expect(t, body, 200, webhooks.OutcomeProcessed)
	rows := `SELECT (SELECT string_agg(s::text, ' ') FROM (SELECT xmin, * FROM subscriptions) s) ||
		(SELECT string_agg(e::text, ' ') FROM (SELECT xmin, * FROM stripe_webhook_events) e)`
	first := pgtest.Scan[string](t, pool, rows)
	s.expect(t, body, 200, webhooks.OutcomeDuplicate)
	if second := pgtest.Scan[string](t, pool, rows); second != first {
		t.Errorf("the rows were\n%s\nand are\n%s", first, second)
	}
	if n := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM subscriptions`); n != 1 {
		t.Errorf("there are %d subscriptions", n)
	}
}

func written(t *testing.T, pool *pgxpool.Pool) pglocal.Written {
	t.Helper()
	w, err := pglocal.ReadWritten(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Duplicates write nothing: they take no transaction id and add nothing to the write-ahead log, whether the event was
// processed, stale or ignored, by this or another receiver. The test has its own cluster, in which nothing else writes.
func TestDuplicatesWriteNothing(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pglocal.Config{Settings: pglocal.Quiet()})
	databaseURL := cluster.URL("postgres")
	if err := migrate.Up(t.Context(), databaseURL, io.Discard); err != nil {
		t.Fatal(err)
	}
	receiver := func() *hooktest.Host {
		h := webhooks.NewHandlers()
		subscriptions.Register(h, nil)
		return hooktest.On(t, pgtest.Connect(t, databaseURL), h, nil)
	}
	host, elsewhere := receiver(), receiver()
	events := [][]byte{
		subscriptionEvent("evt_processed", 2, "active"),
		subscriptionEvent("evt_stale", 1, "unpaid"),
		hooktest.Event("evt_ignored", "invoice.paid", 1, `{}`),
	}
	for i, want := range []webhooks.Outcome{webhooks.OutcomeProcessed, webhooks.OutcomeStale, webhooks.OutcomeIgnored} {
		host.Expect(t, events[i], 200, want)
	}
	before := written(t, host.Pool)
	for range 30 {
		var wg sync.WaitGroup
		for _, body := range events {
			wg.Go(func() { host.Expect(t, body, 200, webhooks.OutcomeDuplicate) })
			wg.Go(func() { elsewhere.Expect(t, body, 200, webhooks.OutcomeDuplicate) })
		}
		wg.Wait()
	}
	if after := written(t, host.Pool); after != before {
		t.Errorf("duplicates wrote %+v", after.Since(before))
	}
	// To check the measurement: a new event changes both.
	host.Expect(t, subscriptionEvent("evt_new", 3, "past_due"), 200, webhooks.OutcomeProcessed)
	if after := written(t, host.Pool); after == before {
		t.Error("a new event changes neither the transaction ids nor the log")
	}
}

// Ten servers, each a process, on one database receive fifty duplicates of each event.
func TestTenServersOnOneDatabase(t *testing.T) {
	t.Parallel()
	const servers, deliveries, rounds = 10, 50, 10
	databaseURL := pgtest.NewEmptyURL(t)
	pool := pgtest.Connect(t, databaseURL)
	fleet := make([]*server, servers)
	var started sync.WaitGroup
	for i := range fleet {
		started.Go(func() { fleet[i] = serve(t, environ("DATABASE_URL="+databaseURL+"&pool_max_conns=4"), "--migrate") })
	}
	started.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for round := range rounds {
		body := subscriptionEvent(fmt.Sprintf("evt_%d", round), int64(round), fmt.Sprintf("status_%d", round))
		var mu sync.Mutex
		count := map[webhooks.Outcome]int{}
		var wg sync.WaitGroup
		for i := range deliveries {
			wg.Go(func() {
				reply, err := fleet[i%servers].sender.Send(context.Background(), body)
				if err != nil || !reply.OK() {
					t.Errorf("the reply is %s, %v", reply, err)
				}
				mu.Lock()
				count[reply.Outcome()]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if count[webhooks.OutcomeProcessed] != 1 || count[webhooks.OutcomeDuplicate] != deliveries-1 {
			t.Fatalf("round %d: the outcomes are %v", round, count)
		}
	}
	got := pgtest.Scan[string](t, pool, `SELECT format('%s events, %s subscription, %s', (SELECT count(*) FROM stripe_webhook_events),
		(SELECT count(*) FROM subscriptions), (SELECT status FROM subscriptions))`)
	if want := fmt.Sprintf("%d events, 1 subscription, status_%d", rounds, rounds-1); got != want {
		t.Errorf("the database holds %s, want %s", got, want)
	}
}
