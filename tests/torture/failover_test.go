package torture

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
)

// pair is a primary (the world's cluster) with a streaming standby.
type pair struct {
	*world
	standby *pglocal.Cluster
	both    string // a URL with both hosts, which connects to the writable one
}

// newPair starts a synchronous or asynchronous standby, and waits until it streams.
func newPair(t *testing.T, w *world, synchronous bool) *pair {
	t.Helper()
	standby, err := pglocal.Start(t.Context(), pglocal.Config{StandbyOf: w.cluster})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Stop() })
	w.away = true
	p := &pair{world: w, standby: standby}
	p.both = "postgres://stripeonce@/postgres?host=" + w.cluster.Socket() + "," + standby.Socket() + "&target_session_attrs=read-write"
	if synchronous {
		w.set("synchronous_standby_names", "standby")
	}
	want := map[bool]string{true: "sync", false: "async"}[synchronous]
	p.await(`SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = '` + want + `')`)
	return p
}

// await waits until a query on the primary returns true.
func (p *pair) await(query string) {
	p.t.Helper()
	pool := p.pool()
	pgtest.AwaitSQL(p.t, pool, query, query)
}

// failOver kills the primary and promotes the standby.
func (p *pair) failOver() {
	p.t.Helper()
	if err := p.cluster.Kill(); err != nil {
		p.t.Fatal(err)
	}
	if err := p.standby.Promote(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) afterwards() *pgxpool.Pool { return pgtest.Connect(p.t, p.standby.URL("postgres")) }

// The primary dies under load and its synchronous standby is promoted: no acknowledged event is lost.
func TestFailover(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	const n = 5
	var last *world
	events, deliveries := 0, 0
	for range n {
		p := newPair(t, newBilledWorld(t, pglocal.Config{}), true)
		r := p.start(standard, p.both, "127.0.0.1:0")
		p.deliverWhile(r.url(), 1, within(500*time.Millisecond, 1500*time.Millisecond), func(int) { p.failOver() })
		p.judgeOn(p.afterwards())
		p.only(200, 500, 503)
		events, deliveries, last = events+len(p.account.Events), deliveries+p.deliveries, p.world
		r.kill()
	}
	addRow(t, "04a", "failover: the primary killed, its synchronous standby promoted, one URL with both hosts", fmt.Sprintf("%d times under a storm of deliveries", n),
		"%d events in %d answered deliveries (the last time %s): none that was acknowledged is lost, each took effect exactly once on the new primary, every row equals the truth",
		events, deliveries, last.answered())
}

// Without its synchronous standby, the primary acknowledges no event, since a failover would lose it.
func TestNothingIsAcknowledgedWithoutTheStandby(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	p := newPair(t, newWorld(t, pglocal.Config{}), true)
	r := p.start(standard, p.both, "127.0.0.1:0")
	p.deliver(r.url(), 8, p.live(10))
	before := len(p.acknowledged)
	if err := p.standby.Kill(); err != nil {
		t.Fatal(err)
	}
	const n = 30
	sender := delivery.NewSender(r.url(), hooktest.Secret, n)
	defer sender.Close()
	p.atOnce(sender, p.newEvents(n))
	if now := len(p.acknowledged); now != before {
		t.Errorf("%d events were acknowledged", now-before)
	}
	if err := p.cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.standby.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.everything(r.url())
	p.judgeOn(p.afterwards())
	p.only(200, 500, 503)
	addRow(t, "04b", "the synchronous standby is gone, then the primary too", fmt.Sprintf("%d deliveries meanwhile", n),
		"none acknowledged; after the standby is back as primary, and Stripe's retries, each event took effect exactly once")
}

// Reconcile applies the events that a failover with asynchronous replication loses.
func TestAsynchronousReplication(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	p := newPair(t, newWorldSince(t, pglocal.Config{}, time.Now().Add(-24*time.Hour)), false)
	r := p.start(standard, p.both, "127.0.0.1:0")
	p.deliver(r.url(), 8, plan(p.newEvents(50)))
	p.await(`SELECT pg_current_wal_lsn() <= replay_lsn FROM pg_stat_replication`)
	if err := p.standby.Kill(); err != nil { // it falls behind
		t.Fatal(err)
	}
	p.deliver(r.url(), 8, plan(p.newEvents(50)))
	if err := p.cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.standby.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	pool := p.afterwards()
	findings, err := p.findings(pool)
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, f := range findings {
		if f.Check != judge.CheckAcknowledged || f.Got != 0 {
			t.Errorf("%s: %s", f.Check, f)
		}
		lost++
	}
	if lost == 0 {
		t.Fatal("nothing was lost")
	}
	receiver, err := newReceiver(standard, pool, hooktest.NoLog(), p.api.URL)
	if err != nil {
		t.Fatal(err)
	}
	o := operations.New(pool, &operations.Config{Applier: receiver, APIKey: "sk_test_1", APIBase: p.api.URL, Logger: hooktest.NoLog()})
	sum, err := o.Reconcile(t.Context(), operations.ReconcileOptions{Since: 72 * time.Hour})
	if err != nil || sum.Applied != lost || sum.Failed != 0 {
		t.Errorf("reconcile: %+v, %v; %d events were lost", sum, err, lost)
	}
	p.judgeOn(pool)
	addRow(t, "04c", "failover to an asynchronous standby that was behind", "once",
		"%d acknowledged events are lost; `reconcile` finds and applies all %d, each once, and every row equals the truth", lost, sum.Applied)
}
