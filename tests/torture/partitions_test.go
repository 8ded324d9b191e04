package torture

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/stripesim"
)

// migration is a run of deploy/partitions.sql, whose transcript it logs.
type migration struct {
	*world
	began time.Time

	mu      sync.Mutex
	step    string
	longest map[string]time.Duration // the longest delivery that was answered during each step
	slow    map[string]int           // and the number of those over 100 ms
	all     map[string]int
}

func newMigration(w *world) *migration {
	m := &migration{world: w, began: time.Now(), step: "before", longest: map[string]time.Duration{}, slow: map[string]int{}, all: map[string]int{}}
	w.timed = func(a stripesim.Attempt) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.all[m.step]++
		m.longest[m.step] = max(m.longest[m.step], a.Took)
		if a.Took > 100*time.Millisecond {
			m.slow[m.step]++
		}
	}
	return m
}

func (m *migration) enter(step string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step = step
}

func (m *migration) say(format string, args ...any) {
	m.t.Logf("%6.2f s  "+format, append([]any{time.Since(m.began).Seconds()}, args...)...)
}

// run runs a call of the recipe, in a session of its own as psql -c does, and returns what it returns.
func (m *migration) run(step, call string) string {
	m.t.Helper()
	m.enter(step)
	defer m.enter("between the steps")
	m.say("%s", call)
	value, err := pgtest.Recipe(m.ctx, m.url, func(notice string) { m.say("  %s", notice) }, call)
	if err != nil {
		m.t.Error(err)
	}
	if value != "" {
		m.say("  %s", value)
	}
	return value
}

// report returns how long deliveries took during each step.
func (m *migration) report() string {
	var text strings.Builder
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, step := range []string{"before", "between the steps", "prepare", "copy", "differences", "swap", "back", "finish"} {
		if m.all[step] > 0 {
			fmt.Fprintf(&text, "%s: %d deliveries, the longest %d ms, %d over 100 ms\n", step, m.all[step], m.longest[step].Milliseconds(), m.slow[step])
		}
	}
	return text.String()
}

// steps are the recipe as deploy/partitions.sql has it for one table: to and fro, and to again. Batches are small, with pauses, so that
// copying takes a while under load.
func (m *migration) steps(table string) []func() {
	call := func(step, arguments string) func() {
		return func() { m.run(step, fmt.Sprintf("CALL pg_temp.stripeonce_%s('%s'%s)", step, table, arguments)) }
	}
	expectNone := func() {
		if n := m.run("differences", fmt.Sprintf("SELECT pg_temp.stripeonce_differences('%s')", table)); n != "0" {
			m.t.Errorf("%s rows of %s differ", n, table)
		}
	}
	there := []func(){call("prepare", ", 16"), call("copy", ", 500, 0.01"), expectNone, call("swap", ""), expectNone}
	return slices.Concat(there, []func(){call("back", "")}, there, []func(){call("finish", "")})
}

// The ledger and the mirror move into partitions, back, and into partitions again, under a storm of deliveries to two receivers whose
// connections, with their prepared statements, live through it.
func TestPartitionUnderLoad(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"", "PgBouncer"} {
		name := "connections to PostgreSQL"
		if by != "" {
			name = "PgBouncer in transaction mode"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newBilledWorld(t, pglocal.Config{})
			url := w.url
			if by != "" {
				onlyLong(t)
				url = w.pgBouncer("transaction") + "&default_query_exec_mode=exec"
			}
			b := &balancer{list: make([]*backend, 2)}
			for i, kind := range []string{standard, batchable} {
				b.set(i, w.start(kind, url, "127.0.0.1:0"))
			}
			front := httptest.NewServer(b)
			defer front.Close()
			at := front.URL + server.WebhookPath
			w.deliver(at, 12, w.live(times(30, 300)))
			m := newMigration(w)
			list := append(m.steps("stripe_webhook_events"), m.steps("stripe_objects")...)
			w.deliverWhile(at, len(list), within(20*time.Millisecond, 200*time.Millisecond), func(i int) { list[i]() })
			w.judge()
			w.only(200, 500, 503)
			got := pgtest.Scan[string](t, w.pool(), `SELECT string_agg(relname || ' ' || relkind::text, ', ' ORDER BY relname) FROM pg_class
				WHERE relkind IN ('r', 'p') AND relname ~ '^stripe_(webhook_events|objects)' AND relname !~ '_p\d\d$'`)
			if want := "stripe_objects p, stripe_webhook_events p"; got != want {
				t.Errorf("the tables are %s, want %s", got, want)
			}
			t.Logf("how long deliveries took:\n%s%s", m.report(), w.summary())
			addRow(t, "09p"+by, "the ledger and the mirror move into 16 hash partitions, back, and there again (`deploy/partitions.sql`), over "+name,
				"under a storm of deliveries to two receivers", "%s", w.summary())
		})
	}
}
