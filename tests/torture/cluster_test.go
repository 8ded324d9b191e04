package torture

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
)

// strike is what happens to the leader of a cluster.
type strike struct {
	name   string
	strike func(p *patroni, leader *host)
	heal   func(p *patroni, leader *host) // once there is a new leader, and it has taken events
}

var strikes = []strike{
	{"killed, with its whole host, and started again", func(_ *patroni, h *host) { h.kill() }, func(p *patroni, h *host) { p.revive(h) }},
	{"frozen (SIGSTOP of its whole host), and thawed", func(_ *patroni, h *host) { h.signal(syscall.SIGSTOP) }, func(_ *patroni, h *host) { h.signal(syscall.SIGCONT) }},
	{"its Patroni frozen, its PostgreSQL not, and thawed", func(_ *patroni, h *host) { h.signalOnly("patroni", syscall.SIGSTOP) }, func(_ *patroni, h *host) { h.signalOnly("patroni", syscall.SIGCONT) }},
	{"cut off the network, and connected again", func(_ *patroni, h *host) { h.unplug() }, func(_ *patroni, h *host) { h.plug() }},
	{"switched over", func(p *patroni, h *host) { p.switchOver(h) }, func(*patroni, *host) {}},
}

// outage is how long a strike kept events from being acknowledged.
type outage struct{ leaderless, pause time.Duration }

// clusterLoad delivers storms to two receivers in front of a cluster.
type clusterLoad struct {
	*world
	patroni *patroni
	front   string

	times sync.Mutex
	acked []time.Time
}

func newClusterLoad(t *testing.T, store, settings string) *clusterLoad {
	t.Helper()
	p := newPatroni(t, store, settings)
	l := &clusterLoad{world: newWorldOn(t, "postgres://stripeonce@"+p.proxy+"/postgres?sslmode=disable", time.Now().Add(-24*time.Hour)), patroni: p}
	l.away = true
	l.observe = func(_ *stripesim.Event, reply delivery.Reply) {
		if reply.OK() {
			l.times.Lock()
			defer l.times.Unlock()
			l.acked = append(l.acked, time.Now())
		}
	}
	b := &balancer{list: make([]*backend, 2)}
	for i := range b.list {
		b.set(i, l.start(standard, p.url, "127.0.0.1:0"))
	}
	front := httptest.NewServer(b)
	t.Cleanup(front.Close)
	l.front = front.URL + server.WebhookPath
	return l
}

// wave plans a storm of the first events of subscriptions, which are as old as the load.
func (l *clusterLoad) wave(subscriptions int) []stripesim.Delivery {
	l.waves++
	storm := stripesim.Default
	return storm.Plan(l.waves, l.newEvents(5*subscriptions))
}

// ackedSince is how many deliveries have been acknowledged since a time, and the first of these.
func (l *clusterLoad) ackedSince(at time.Time) (n int, first time.Time) {
	l.times.Lock()
	defer l.times.Unlock()
	i, _ := slices.BinarySearchFunc(l.acked, at, time.Time.Compare)
	if i == len(l.acked) {
		return 0, time.Time{}
	}
	return len(l.acked) - i, l.acked[i]
}

// longestPause is the longest time without an acknowledgement between two times.
func (l *clusterLoad) longestPause(from, to time.Time) (longest time.Duration) {
	l.times.Lock()
	defer l.times.Unlock()
	last := from
	for _, at := range append(slices.Clone(l.acked), to) {
		if at.Before(from) || at.After(to) {
			continue
		}
		longest, last = max(longest, at.Sub(last)), at
	}
	return longest
}

// do strikes the leader, waits until another one has taken events, heals, and waits until the cluster is whole again.
func (l *clusterLoad) do(s *strike) outage {
	p := l.patroni
	leader := p.leader()
	if leader == nil {
		l.t.Fatal("the cluster has no leader")
	}
	began := time.Now()
	s.strike(p, leader)
	var next *host
	p.await("another leader than "+leader.name, func() bool {
		next = p.leader()
		return next != nil && next != leader
	})
	elected := time.Now()
	p.await("the new leader takes events", func() bool {
		n, _ := l.ackedSince(elected)
		return n > 100
	})
	s.heal(p, leader)
	healed := time.Now()
	p.awaitWhole()
	p.await("events are taken", func() bool {
		n, _ := l.ackedSince(healed)
		return n > 100
	})
	return outage{elected.Sub(began), l.longestPause(began, time.Now())}
}

// lost returns how many acknowledged events have no effect, and fails the test for any that took effect twice.
func (l *clusterLoad) lost() (lost int) {
	l.t.Helper()
	findings, err := l.findings(l.pool())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range findings {
		if f.Check != judge.CheckAcknowledged || f.Got != 0 {
			l.t.Errorf("%s: %s", f.Check, f)
		}
		lost++
	}
	return lost
}

// reconcile applies the lost events from Stripe's list.
func (l *clusterLoad) reconcile(lost int) {
	l.t.Helper()
	receiver, err := newReceiver(standard, l.pool(), hooktest.NoLog(), l.api.URL)
	if err != nil {
		l.t.Fatal(err)
	}
	o := operations.New(l.pool(), &operations.Config{Applier: receiver, APIKey: "sk_test_1", APIBase: l.api.URL, Logger: hooktest.NoLog()})
	sum, err := o.Reconcile(l.t.Context(), operations.ReconcileOptions{Since: 72 * time.Hour})
	if err != nil || sum.Applied != lost || sum.Failed != 0 {
		l.t.Errorf("reconcile: %+v, %v; %d events were lost", sum, err, lost)
	}
}

const (
	synchronous = "    synchronous_mode: true"
	strict      = synchronous + "\n    synchronous_mode_strict: true"
)

// clusters are the configurations of Patroni. With etcd's API of version 3, Patroni before 3.0.3 lets a leader that was frozen take the lock
// from its successor, and so loses what the successor has committed: https://github.com/patroni/patroni/pull/2689. With that of version 2
// it compares the lock's owner first, as later versions do with both. What is lost, reconcile finds again.
var clusters = []struct {
	order, name, store, settings string
	mayLose                      bool
}{
	{"04e", "`etcd3`, `synchronous_mode`", "etcd3", synchronous, true},
	{"04f", "`etcd3`, `synchronous_mode_strict`", "etcd3", strict, true},
	{"04g", "`etcd`, `synchronous_mode`", "etcd", synchronous, false},
	{"04h", "`etcd`, `synchronous_mode_strict`", "etcd", strict, false},
}

// The leader of a Patroni cluster is killed, frozen, cut off and switched over under load.
func TestCluster(t *testing.T) {
	onlyLong(t)
	for _, c := range clusters {
		t.Run(c.name, func(t *testing.T) {
			l := newClusterLoad(t, c.store, c.settings)
			rounds := *clusterRounds
			outages := make([][]outage, len(strikes))
			lost := 0
			l.deliverWavesWhile(l.front, l.wave, rounds*len(strikes), within(2*time.Second, 4*time.Second), func(i int) {
				s := i % len(strikes)
				one := l.do(&strikes[s])
				before := lost
				lost = l.lost()
				t.Logf("%s: another leader after %.1f s, no event taken for %.1f s, %d acknowledged events lost", strikes[s].name, one.leaderless.Seconds(), one.pause.Seconds(), lost-before)
				outages[s] = append(outages[s], one)
			})
			l.patroni.awaitWhole()
			lost = l.lost()
			if lost > 0 && !c.mayLose {
				t.Errorf("%d acknowledged events are lost", lost)
			}
			l.reconcile(lost)
			l.judge()
			l.only(200, 500, 503)
			result := "none that was acknowledged is lost"
			if lost > 0 {
				result = fmt.Sprintf("%d of %d acknowledged events are lost, which `reconcile` finds and applies", lost, len(l.acknowledged))
			}
			addRow(t, c.order, "a Patroni cluster of three hosts, "+c.name+", behind HAProxy and PgBouncer (`pool_mode=transaction`), with two receivers",
				fmt.Sprintf("%d times each, the leader %s", rounds, strings.Join(withOutages(outages), "; ")),
				"%d events in %d answered deliveries (%s): %s, and each took effect once", len(l.account.Events), l.deliveries, l.answered(), result)
		})
	}
}

// withOutages are the strikes with the longest outage of each.
func withOutages(outages [][]outage) (list []string) {
	for i, s := range strikes {
		var most outage
		for _, one := range outages[i] {
			most.leaderless, most.pause = max(most.leaderless, one.leaderless), max(most.pause, one.pause)
		}
		list = append(list, fmt.Sprintf("%s (another leader after %.1f s, no event taken for %.1f s)", s.name, most.leaderless.Seconds(), most.pause.Seconds()))
	}
	return list
}
