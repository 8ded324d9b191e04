package torture

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/pglocal"
)

// pgBouncer starts PgBouncer in front of the world's database and returns its URL.
func (w *world) pgBouncer(mode string) string {
	w.t.Helper()
	return startPgBouncer(w.t, "host="+w.cluster.Socket()+" port=5432", mode)
}

// startPgBouncer starts PgBouncer in front of a server, and returns its URL.
func startPgBouncer(t *testing.T, server, mode string) string {
	t.Helper()
	bouncer, err := pglocal.StartPgBouncer(t.Context(), server, mode, 4)
	if errors.Is(err, pglocal.ErrNoPgBouncer) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bouncer.Stop() })
	return bouncer.URL("postgres")
}

// ready requests a receiver's /readyz.
func (p *process) ready() (status int, reason string) {
	p.t.Helper()
	resp, err := http.Get("http://" + p.addr + "/readyz")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text := make([]byte, 1000)
	n, _ := resp.Body.Read(text)
	return resp.StatusCode, string(text[:n])
}

func TestPgBouncer(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	for _, c := range []struct{ mode, settings, wrong string }{
		{"transaction", "", "default_query_exec_mode=exec"},
		{"transaction", "&default_query_exec_mode=describe_exec", "default_query_exec_mode=exec"},
		{"transaction", "&default_query_exec_mode=exec", ""},
		{"transaction", "&default_query_exec_mode=cache_describe", ""},
		{"transaction", "&default_query_exec_mode=simple_protocol", ""},
		{"session", "", ""},
		{"statement", "&default_query_exec_mode=exec", "statement pooling"},
	} {
		t.Run(c.mode+c.settings, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pglocal.Config{})
			p := w.start(standard, w.pgBouncer(c.mode)+c.settings, "127.0.0.1:0")
			status, reason := p.ready()
			name := fmt.Sprintf("PgBouncer, `pool_mode=%s`, URL with `%s`", c.mode, strings.TrimPrefix(c.settings, "&"))
			if c.settings == "" {
				name = fmt.Sprintf("PgBouncer, `pool_mode=%s`, a plain URL", c.mode)
			}
			if c.wrong != "" {
				if status != 503 || !strings.Contains(reason, c.wrong) {
					t.Errorf("ready is %d %s, want 503 with %q", status, reason, c.wrong)
				}
				if status := w.one(p.url()); status != 503 {
					t.Errorf("a delivery is answered %d", status)
				}
				addRow(t, "04d"+c.mode+c.settings, name, "started", "not ready: “%s”; deliveries are answered 503", strings.TrimSpace(reason))
				return
			}
			if status != 200 {
				t.Errorf("ready is %d %s", status, reason)
			}
			for range 3 {
				w.deliver(p.url(), 12, w.live(30))
			}
			w.judge()
			w.only(200)
			addRow(t, "04d"+c.mode+c.settings, name, "a storm of deliveries", "%s", w.summary())
		})
	}
}
