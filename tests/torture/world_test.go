package torture

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgproxy"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/wrong"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/stripesim"
)

// world is the environment of a fault: a PostgreSQL with fsync, a simulated Stripe account, and the acknowledged events.
type world struct {
	t       *testing.T
	ctx     context.Context // ends if a fault could not be injected
	giveUp  context.CancelFunc
	cluster *pglocal.Cluster // nil: another server
	url     string           // of the database
	direct  *pgxpool.Pool
	account *stripesim.Account
	sim     *stripesim.API
	api     *httptest.Server

	// away is true if the fault makes PostgreSQL unreachable at times. A failure during that time may be only in the
	// receiver's log.
	away   bool
	logDir string

	// observe is called with each reply. Optional.
	observe func(ev *stripesim.Event, reply delivery.Reply)

	mu           sync.Mutex
	logs         []string // the log files of the receivers
	acknowledged map[string]bool
	failed       map[string]*failed // by event
	statuses     map[int]int
	deliveries   int
	waves        uint64
}

func newWorld(t *testing.T, config pglocal.Config) *world {
	t.Helper()
	return newWorldSince(t, config, stripesim.Epoch)
}

// newBilledWorld is newWorld with customers, products, prices and invoices, which receivers of the kinds standard and batchable
// mirror.
func newBilledWorld(t *testing.T, config pglocal.Config) *world {
	t.Helper()
	w := newWorld(t, config)
	w.account.Billing = true
	return w
}

// newWorldSince is newWorld with an account whose clock begins at start.
func newWorldSince(t *testing.T, config pglocal.Config, start time.Time) *world {
	t.Helper()
	cluster := pgtest.NewCluster(t, config)
	w := newWorldOn(t, cluster.URL("postgres"), start)
	w.cluster = cluster
	return w
}

// newWorldOn is newWorldSince on an empty database of another server.
func newWorldOn(t *testing.T, databaseURL string, start time.Time) *world {
	t.Helper()
	w := &world{
		t: t, url: databaseURL, logDir: t.TempDir(),
		acknowledged: map[string]bool{}, failed: map[string]*failed{}, statuses: map[int]int{},
	}
	if err := migrate.Up(t.Context(), w.url, io.Discard); err != nil {
		t.Fatal(err)
	}
	w.ctx, w.giveUp = context.WithCancel(t.Context())
	w.direct = pgtest.Connect(t, w.url)
	pgtest.Exec(t, w.direct, wrong.Tables)
	w.account = stripesim.New(7, start)
	w.sim = stripesim.NewAPI(w.account)
	w.api = httptest.NewServer(w.sim)
	t.Cleanup(w.api.Close)
	return w
}

// pool returns a new pool that connects to the database without faults.
func (w *world) pool() *pgxpool.Pool {
	w.direct.Reset()
	return w.direct
}

// by returns the database's URL through a proxy.
func (w *world) by(proxy *pgproxy.Proxy) string {
	w.t.Helper()
	url, err := proxy.URL(w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	return url
}

func (w *world) newProxy() *pgproxy.Proxy {
	w.t.Helper()
	proxy, err := pgproxy.Start(w.cluster.Socket())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(proxy.Close)
	return proxy
}

// freeAddr returns an address that a receiver can use again after each crash. Its port is outside of the ephemeral range,
// so that no connection takes it meanwhile.
func freeAddr() string {
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.N(20_000))
		if listener, err := net.Listen("tcp", addr); err == nil {
			_ = listener.Close()
			return addr
		}
	}
}

// live simulates subscriptions, and plans a storm of their events.
func (w *world) live(subscriptions int) []stripesim.Delivery {
	w.t.Helper()
	storm := stripesim.Default
	var events []*stripesim.Event
	w.sim.Do(func(account *stripesim.Account) {
		events = account.Live(stripesim.Life{Subscriptions: subscriptions, Bursts: true})
	})
	w.waves++
	return storm.Plan(w.waves, events)
}

// newEvents returns the events of n new subscriptions.
func (w *world) newEvents(n int) []*stripesim.Event {
	var events []*stripesim.Event
	w.sim.Do(func(account *stripesim.Account) {
		before := len(account.Events)
		for range n {
			account.Subscribe(stripesim.VersionBasil)
		}
		events = account.Events[before:]
	})
	return events
}

// deliver delivers a plan as Stripe does, with retries until a 2xx, and records the acknowledged events.
func (w *world) deliver(url string, concurrency int, plan []stripesim.Delivery) {
	w.t.Helper()
	d := &stripesim.Deliverer{URL: url, Secret: hooktest.Secret, Concurrency: concurrency, Pauses: patience(), Observe: w.attempted}
	if err := d.Deliver(w.ctx, plan); err != nil {
		w.t.Fatal(err)
	}
	if n := len(d.Report().Refused); n > 0 {
		w.t.Errorf("%d deliveries were given up", n)
	}
}

// patience has the pauses of a deliverer that waits for a receiver through every fault.
func patience() []time.Duration {
	pauses := slices.Repeat([]time.Duration{time.Second}, 1000)
	for i := range 7 {
		pauses[i] = 10 * time.Millisecond << i
	}
	return pauses
}

func (w *world) attempted(a stripesim.Attempt) {
	if a.Err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.failureOf(a.Event).unanswered++
		return
	}
	w.note(a.Event, delivery.Reply{Status: a.Status, Header: a.Header, Body: a.Body})
}

func (w *world) note(ev *stripesim.Event, reply delivery.Reply) {
	if w.observe != nil {
		w.observe(ev, reply)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.statuses[reply.Status]++
	w.deliveries++
	switch {
	case reply.OK():
		w.acknowledged[ev.ID] = true
	case reply.Status == http.StatusInternalServerError:
		w.failureOf(ev).answers++
	}
}

// answered counts the deliveries by status, such as "200: 310, 503: 4".
func (w *world) answered() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := ""
	for _, status := range slices.Sorted(mapKeys(w.statuses)) {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%d: %d", status, w.statuses[status])
	}
	return text
}

func mapKeys[V any](m map[int]V) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

// only checks that there were no other statuses.
func (w *world) only(statuses ...int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for status, n := range w.statuses {
		if !slices.Contains(statuses, status) {
			w.t.Errorf("%d deliveries were answered %d", n, status)
		}
	}
}

// judge runs all checks. Acknowledged events took effect once. Since every event was eventually delivered, each took effect
// and each row matches the truth. Each event answered 500 has a failure record.
func (w *world) judge() {
	w.t.Helper()
	w.judgeOn(w.pool())
}

func (w *world) judgeOn(pool *pgxpool.Pool) {
	w.t.Helper()
	w.judgeAcknowledged(pool)
	w.judgeFailures(pool)
	findings, err := judge.Judge(context.Background(), pool, w.account)
	w.complain(findings, err)
	if w.account.Billing {
		findings, err := judge.Objects(context.Background(), pool, w.account, mirrored...)
		w.complain(findings, err)
	}
}

func (w *world) judgeAcknowledged(pool *pgxpool.Pool) {
	w.t.Helper()
	findings, err := w.findings(pool)
	w.complain(findings, err)
}

func (w *world) findings(pool *pgxpool.Pool) ([]judge.Finding, error) {
	w.mu.Lock()
	ids := []string{}
	for id := range w.acknowledged {
		ids = append(ids, id)
	}
	w.mu.Unlock()
	return judge.Acknowledged(context.Background(), pool, ids)
}

func (w *world) complain(findings []judge.Finding, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	for i, f := range findings {
		if i == 10 {
			w.t.Errorf("… and %d more", len(findings)-i)
			return
		}
		w.t.Errorf("%s: %s", f.Check, f)
	}
}

// summary describes the result for the table.
func (w *world) summary() string {
	text := fmt.Sprintf("%d events in %d answered deliveries (%s): each took effect exactly once, every row equals the truth",
		len(w.account.Events), w.deliveries, w.answered())
	switch {
	case w.statuses[http.StatusInternalServerError] == 0:
		return text
	case w.away:
		return text + ", every 500 has its failure record or, where PostgreSQL was out of reach, its line in the log"
	default:
		return text + ", every 500 has its failure record"
	}
}
