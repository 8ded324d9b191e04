package torture

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
)

// metrics returns a receiver's metrics without labels.
func (p *process) metrics() map[string]float64 {
	p.t.Helper()
	resp, err := http.Get("http://" + p.addr + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	values := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = number
		}
	}
	return values
}

// flat returns a receiver's metrics and the number of PostgreSQL's connections.
func (w *world) flat(p *process) map[string]float64 {
	values := p.metrics()
	values[backends] = pgtest.Scan[float64](w.t, w.pool(), `SELECT count(*)::float8 FROM pg_stat_activity WHERE backend_type = 'client backend'`)
	return values
}

const backends = "backends"

// growth names a metric that has grown by more than its usual variation.
func growth(early, late map[string]float64) string {
	for name, slack := range map[string]float64{
		"go_goroutines": 5, "process_open_fds": 5, "stripeonce_deliveries_in_flight": 0, backends: 1, "process_resident_memory_bytes": 16 << 20,
	} {
		if late[name] > early[name]+slack {
			return fmt.Sprintf("%s has grown from %.0f to %.0f", name, early[name], late[name])
		}
	}
	return ""
}

// Under load for a long time, goroutines, memory, files and connections do not grow after the first part.
func TestSoak(t *testing.T) {
	onlyLong(t)
	w := newBilledWorld(t, pglocal.Config{})
	p := w.start(standard, w.url+"&pool_max_conns=8", "127.0.0.1:0")
	begun := time.Now()
	var early, late map[string]float64
	for time.Since(begun) < *soak {
		w.deliver(p.url(), 16, w.live(30))
		if early == nil && time.Since(begun) > *soak/6 {
			early = w.flat(p)
		}
	}
	// The last deliveries release their resources in a moment.
	grown := ""
	for waited := time.Now(); time.Since(waited) < waitLimit; time.Sleep(100 * time.Millisecond) {
		late = w.flat(p)
		if grown = growth(early, late); grown == "" {
			break
		}
	}
	if grown != "" {
		t.Error(grown)
	}
	w.judge()
	w.only(200)
	addRow(t, "11", "a soak", soak.String()+" under a storm of deliveries",
		"%s; goroutines %.0f → %.0f, memory %.0f → %.0f MiB, open files %.0f → %.0f, connections of PostgreSQL %.0f → %.0f from the first sixth to the end", w.summary(),
		early["go_goroutines"], late["go_goroutines"], early["process_resident_memory_bytes"]/(1<<20), late["process_resident_memory_bytes"]/(1<<20),
		early["process_open_fds"], late["process_open_fds"], early[backends], late[backends])
}
