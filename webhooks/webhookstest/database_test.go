package webhookstest_test

import (
	"fmt"
	"net/url"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// failing is a test that may fail. It keeps the errors.
type failing struct {
	testing.TB
	mu       sync.Mutex
	errors   []string
	cleanups []func()
}

func (f *failing) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errors = append(f.errors, fmt.Sprintf(format, args...))
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

func (f *failing) Cleanup(fn func()) { f.cleanups = append(f.cleanups, fn) }

// run runs the test with its cleanups.
func (f *failing) run(test func(tb testing.TB)) {
	f.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			for _, fn := range slices.Backward(f.cleanups) {
				fn()
			}
		}()
		test(f)
	}()
	pgtest.Receive(f.TB, "the test and its cleanups end", ended)
}

// Database makes a database with the tables on the server of a URL, or of keywords and values, and drops it.
func TestDatabase(t *testing.T) { //nolint:tparallel // its subtests have ended when the databases are looked for
	t.Parallel()
	server := pgtest.NewEmptyURL(t)
	pool := pgtest.Connect(t, server)
	address, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	keywords := fmt.Sprintf("host='%s' user=%s dbname=%s", address.Query().Get("host"), address.User.Username(), address.Path[1:])
	for what, text := range map[string]string{
		"URL": server, "URL with parameters": server + "&pool_max_conns=3&options=-c%20timezone=UTC&dbname=" + address.Path[1:],
		"keywords": keywords, "keywords with parameters": keywords + " pool_max_conns=3 ",
	} {
		name := ""
		t.Run(what, func(t *testing.T) {
			pool := webhookstest.Database(t, text, `CREATE TABLE credits (cents bigint)`)
			name = pgtest.Scan[string](t, pool, `SELECT current_database() FROM stripe_webhook_events RIGHT JOIN credits ON true RIGHT JOIN (SELECT 1) AS one ON true`)
			if strings.Contains(text, "pool_max_conns") && pool.Config().MaxConns != 3 {
				t.Errorf("the pool has at most %d connections", pool.Config().MaxConns)
			}
		})
		if n := databases(t, pool, name); n != 0 || !strings.HasPrefix(name, "stripeonce_test_") {
			t.Errorf("%s: %d databases %s are left", what, n, name)
		}
	}
}

func databases(t *testing.T, pool *pgxpool.Pool, name string) int {
	t.Helper()
	return pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM pg_database WHERE datname = $1`, name)
}

// Whatever is wrong with an address, the error shows nothing of its password.
func TestDatabaseRefuses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"":                                  "is empty",
		" \n":                               "is empty",
		"postgres//u:s3cret@127.0.0.1:1/db": "is neither",
		"postgres//u:s3cret@h/db?sslmode=disable":                     "is neither",
		"postgres:/u:s3cret@h/db?sslmode=disable":                     "is neither",
		"mysql://u:s3cret@h/db?tls=false":                             "is neither",
		"postgres://u:a/s3cret@h/db":                                  "is neither",
		"postgres://u:12/s3cret@h/db":                                 "is neither",
		"postgres://u:a@s3cret@h/db":                                  "is neither",
		"postgres://u:s3cret%@h/db":                                   "is neither",
		"postgres://u@h:s3cret/db":                                    "is neither",
		"host=h s3cret":                                               "is neither",
		"host=h password='s3cret":                                     "is neither",
		"postgres://u:s3cret@127.0.0.1:1/db":                          "connect",
		"host=127.0.0.1 port=1 password=s3cret":                       "connect",
		"host=127.0.0.1 port=1 pool_max_conns=s3cret password=s3cret": "is neither",
	} {
		f := &failing{TB: t}
		f.run(func(tb testing.TB) { webhookstest.Database(tb, address) })
		if len(f.errors) != 1 || !strings.Contains(f.errors[0], want) || strings.Contains(f.errors[0], "s3cret") {
			t.Errorf("%q fails with %q, want one error: %s", address, f.errors, want)
		}
	}
}

// A connection that a test never releases fails the test, and keeps neither the test nor the database.
func TestDatabaseLeak(t *testing.T) {
	t.Parallel()
	server := pgtest.NewEmptyURL(t)
	address, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	f, name := &failing{TB: t}, ""
	f.run(func(tb testing.TB) {
		pool := webhookstest.Database(tb, server)
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		name = conn.Conn().Config().Database
		const toServer = `SELECT count(*)::int FROM pg_stat_activity WHERE datname = $1`
		if n := pgtest.Scan[int](t, pool, toServer, path.Base(address.Path)); n != 0 {
			t.Errorf("%d connections to the server's own database are open during the test", n)
		}
	})
	if len(f.errors) != 1 || !strings.Contains(f.errors[0], "after the test: 1") {
		t.Errorf("the test fails with %q", f.errors)
	}
	if n := databases(t, pgtest.Connect(t, server), name); n != 0 || name == "" {
		t.Errorf("%d databases %s are left", n, name)
	}
}
