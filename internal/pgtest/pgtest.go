// Package pgtest gives each test its own PostgreSQL database: a clone of a migrated template, in a private cluster that
// runs as long as the test's process.
package pgtest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/schema/migrate"
)

const template = "stripeonce_template"

// cluster is started by the first test that needs it. pglocal's watcher stops it when the test's process ends.
var cluster = sync.OnceValues(func() (*pglocal.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := pglocal.Start(ctx, pglocal.Config{Disposable: true, Settings: map[string]string{
		"max_connections": "400",
		// No background writes while a test counts the writes of a delivery.
		"autovacuum":      "off",
		"wal_level":       "minimal",
		"max_wal_senders": "0",
	}})
	if err != nil {
		return nil, err
	}
	if err := c.CreateDatabase(ctx, template); err != nil {
		return nil, err
	}
	if err := migrate.Up(ctx, c.URL(template), io.Discard); err != nil {
		return nil, err
	}
	return c, partitionTemplate(ctx, c.URL(template))
})

var clones atomic.Int64

// NewURL clones the template and returns the URL of the clone. A failed test keeps its database and logs the URL, but the
// cluster ends with the process: hold that with a debugger to look into the database.
func NewURL(tb testing.TB) string {
	tb.Helper()
	return create(tb, " TEMPLATE "+template)
}

// NewEmptyURL is NewURL without the migrations.
func NewEmptyURL(tb testing.TB) string {
	tb.Helper()
	return create(tb, "")
}

// NewDatabaseURL is NewEmptyURL with options of CREATE DATABASE, such as ENCODING.
func NewDatabaseURL(tb testing.TB, clause string) string {
	tb.Helper()
	return create(tb, " TEMPLATE template0 "+clause)
}

// CopyURL returns the URL of a new database with everything that another one of NewURL has at this moment. There must be no
// connections to that.
func CopyURL(tb testing.TB, databaseURL string) string {
	tb.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		tb.Fatal(err)
	}
	return create(tb, " TEMPLATE "+config.Database)
}

func create(tb testing.TB, clause string) string {
	tb.Helper()
	c, err := cluster()
	if err != nil {
		tb.Fatalf("no PostgreSQL for the test: %v", err)
	}
	name := fmt.Sprintf("test_%d", clones.Add(1))
	admin(tb, c, "CREATE DATABASE "+name+clause)
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the test's database: %s", c.URL(name))
			return
		}
		admin(tb, c, "DROP DATABASE "+name+" WITH (FORCE)")
	})
	return c.URL(name)
}

func admin(tb testing.TB, c *pglocal.Cluster, statement string) {
	tb.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		tb.Fatalf("%s: %v", statement, err)
	}
}

// NewCluster starts a cluster for this test alone, and stops it when the test ends.
func NewCluster(tb testing.TB, config pglocal.Config) *pglocal.Cluster {
	tb.Helper()
	c, err := pglocal.Start(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Stop() })
	return c
}

// NewPool connects to a clone of the template.
func NewPool(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return Connect(tb, NewURL(tb))
}

// Connect opens a pool that is closed when the test ends.
func Connect(tb testing.TB, databaseURL string) *pgxpool.Pool {
	tb.Helper()
	return ConnectBy(tb, databaseURL, nil)
}

// ConnectBy is Connect with a dial function; nil is the default.
func ConnectBy(tb testing.TB, databaseURL string, dial pgconn.DialFunc) *pgxpool.Pool {
	tb.Helper()
	separator := "?"
	if strings.Contains(databaseURL, "?") {
		separator = "&"
	}
	if !strings.Contains(databaseURL, "pool_max_conns") {
		databaseURL += separator + "pool_max_conns=8"
	}
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		tb.Fatal(err)
	}
	if dial != nil {
		config.ConnConfig.DialFunc = dial
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { Close(tb, pool) })
	return pool
}

// Scan runs a query and returns the value of its one row and column.
func Scan[T any](tb testing.TB, pool *pgxpool.Pool, query string, args ...any) T {
	tb.Helper()
	var value T
	if err := pool.QueryRow(context.Background(), query, args...).Scan(&value); err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	return value
}

// Exec runs a statement.
func Exec(tb testing.TB, pool *pgxpool.Pool, statement string, args ...any) {
	tb.Helper()
	if _, err := pool.Exec(context.Background(), statement, args...); err != nil {
		tb.Fatalf("%s: %v", statement, err)
	}
}
