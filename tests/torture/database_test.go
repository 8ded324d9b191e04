package torture

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
)

// one delivers a new event once and returns the answer's status.
func (w *world) one(url string) int {
	w.t.Helper()
	sender := delivery.NewSender(url, hooktest.Secret, 1)
	defer sender.Close()
	ev := w.newEvents(1)[0]
	reply, err := sender.Send(w.t.Context(), ev.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	w.note(ev, reply)
	return reply.Status
}

// failures returns the number of failure records. An infrastructure failure leaves none.
func (w *world) failures() int {
	return pgtest.Scan[int](w.t, w.pool(), `SELECT count(*)::int FROM stripe_webhook_failures`)
}

// everything delivers all events of the account, as Stripe's retries eventually would.
func (w *world) everything(url string) { w.deliver(url, 8, plan(w.account.Events)) }

func (w *world) set(name, value string) {
	w.t.Helper()
	pgtest.Exec(w.t, w.pool(), fmt.Sprintf(`ALTER SYSTEM SET %s = '%s'`, name, value))
	pgtest.Exec(w.t, w.pool(), `SELECT pg_reload_conf()`)
}

func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	w := newBilledWorld(t, pglocal.Config{})
	w.away = true
	p := w.start(standard, w.url, "127.0.0.1:0")
	n := times(1, 10)
	for range n {
		w.deliver(p.url(), 8, w.live(5))
		// As on a demoted primary, existing sessions become read-only, too.
		w.set("default_transaction_read_only", "on")
		pgtest.AwaitEqual(t, "the reply of sessions that have read it", 503, func() int { return w.one(p.url()) })
		for range 20 {
			w.one(p.url())
		}
		w.set("default_transaction_read_only", "off")
	}
	w.everything(p.url())
	w.judge()
	w.only(200, 500, 503)
	addRow(t, "07a", "the database becomes read-only under load, and writable again", fmt.Sprintf("%d times", n), "%s", w.summary())
}

func TestOutOfConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{Settings: map[string]string{"max_connections": "12", "superuser_reserved_connections": "3"}})
	w.away = true
	pgtest.Exec(t, w.pool(), `CREATE ROLE app LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO app`)
	asApp := func(max int) string { return w.url + fmt.Sprintf("&user=app&pool_max_conns=%d", max) }
	p := w.start(standard, asApp(8), "127.0.0.1:0")
	n := times(1, 5)
	for range n {
		// Other clients take every connection.
		var taken []*pgx.Conn
		for {
			conn, err := pgx.Connect(t.Context(), w.url+"&user=app")
			if err != nil {
				break
			}
			taken = append(taken, conn)
		}
		for range 5 {
			w.one(p.url())
		}
		for _, conn := range taken {
			_ = conn.Close(context.Background())
		}
		w.everything(p.url())
		// The receiver's connections are closed, so that the next round finds none.
		pgtest.Exec(t, w.pool(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'`)
	}
	w.everything(p.url())
	w.judge()
	w.only(200, 500, 503)
	addRow(t, "07b", "PostgreSQL has no connection left", fmt.Sprintf("%d times, from the start on", n), "%s", w.summary())
}

// The server's timeouts of a statement and of a session that is idle in a transaction. A lock on a subscription makes the
// statements slow.
func TestServerTimeouts(t *testing.T) {
	t.Parallel()
	for setting, done := range map[string]string{
		"statement_timeout":                   "a statement waits for a lock for longer than the server's `statement_timeout`",
		"idle_in_transaction_session_timeout": "the server ends sessions that are idle in their transaction, while the network is slow",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pglocal.Config{})
			w.away = true
			proxy := w.newProxy()
			w.set(setting, "100ms")
			p := w.start(standard, w.by(proxy), "127.0.0.1:0")
			n := times(1, 10)
			for range n {
				tx, err := w.pool().Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if setting == "statement_timeout" {
					_, err = tx.Exec(t.Context(), `LOCK TABLE stripe_webhook_events`)
				} else {
					err = tx.Rollback(t.Context())
					proxy.Delay(300 * time.Millisecond)
				}
				if err != nil {
					t.Fatal(err)
				}
				if status := w.one(p.url()); status == 200 {
					t.Error("the delivery was not disturbed")
				}
				_ = tx.Rollback(t.Context())
				proxy.Delay(0)
			}
			w.everything(p.url())
			w.judge()
			w.only(200, 500, 503)
			addRow(t, "07c"+setting, done, fmt.Sprintf("%d times", n), "%s", w.summary())
		})
	}
}

// The disk of the write-ahead log is full: PostgreSQL goes down, and recovers when there is space again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount a small file system")
	}
	dir := t.TempDir()
	disk := filepath.Join(dir, "small")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	for path := dir; path != "/" && path != filepath.Clean(os.TempDir()); path = filepath.Dir(path) {
		_ = os.Chmod(path, 0o755) // PostgreSQL's user must get through
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=400m,mode=0777", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Skipf("a small file system cannot be mounted here: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", disk).Run() })
	w := newWorld(t, pglocal.Config{Dir: filepath.Join(disk, "pg"), Settings: map[string]string{"max_wal_size": "48MB", "min_wal_size": "32MB"}})
	w.away = true
	p := w.start(standard, w.url, "127.0.0.1:0")
	n := times(1, 5)
	for range n {
		w.deliver(p.url(), 8, w.live(10))
		filler := filepath.Join(disk, "filler")
		if out, err := exec.Command("dd", "if=/dev/zero", "of="+filler, "bs=64k").CombinedOutput(); err == nil {
			t.Fatalf("the disk did not run full: %s", out)
		}
		refused := 0
		for range 400 {
			if w.one(p.url()) == 503 {
				refused++
			}
			if refused > 20 {
				break
			}
			// Writes, so that the log needs its next segment.
			_, _ = w.pool().Exec(t.Context(), `SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000))`)
		}
		if refused == 0 {
			t.Fatal("nothing was refused")
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		w.awaitWritable()
		w.everything(p.url())
	}
	w.judge()
	w.only(200, 500, 503)
	addRow(t, "07d", "the disk runs full under the write-ahead log", fmt.Sprintf("%d times, on a file system of 400 MB; then there is room again", n), "%s", w.summary())
}

// awaitWritable waits until PostgreSQL is writable again. PostgreSQL recovers, or exits, also some time after there is
// space again. It is then restarted.
func (w *world) awaitWritable() {
	w.t.Helper()
	for w.t.Context().Err() == nil {
		if _, err := w.pool().Exec(w.t.Context(), `SELECT pg_logical_emit_message(true, 'room', 'again')`); err == nil {
			return
		}
		select {
		case <-w.cluster.Exited():
			if err := w.cluster.Restart(w.t.Context()); err != nil {
				w.t.Fatal(err)
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
}
