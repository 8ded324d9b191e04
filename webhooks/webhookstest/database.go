package webhookstest

import (
	"context"
	"crypto/rand"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/schema/migrate"
)

// Database creates a database for one test on the server of a URL, such as postgres://localhost/myapp, whose role may create
// databases. It has stripeonce's tables, and what the statements create, such as your own. When the test ends, the pool is closed
// and the database dropped.
func Database(tb testing.TB, serverURL string, statements ...string) *pgxpool.Pool {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	address, err := url.Parse(serverURL)
	if err != nil || !strings.HasPrefix(address.Scheme, "postgres") {
		tb.Fatalf("webhookstest.Database: %q is not a PostgreSQL URL such as postgres://localhost/myapp", redacted(serverURL))
	}
	server, err := pgx.Connect(ctx, serverURL)
	if err != nil {
		tb.Fatalf("webhookstest.Database: %v", err)
	}
	name := "stripeonce_test_" + strings.ToLower(rand.Text())
	if _, err := server.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("webhookstest.Database: create a database: %v", err)
	}
	tb.Cleanup(func() {
		if _, err := server.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("webhookstest.Database: drop %s: %v", name, err)
		}
		_ = server.Close(ctx)
	})
	address.Path = "/" + name
	if err := migrate.Up(ctx, address.String(), io.Discard); err != nil {
		tb.Fatalf("webhookstest.Database: %v", err)
	}
	pool, err := pgxpool.New(ctx, address.String())
	if err != nil {
		tb.Fatalf("webhookstest.Database: %v", err)
	}
	tb.Cleanup(pool.Close)
	for _, statement := range statements {
		if _, err := pool.Exec(ctx, statement); err != nil {
			tb.Fatalf("webhookstest.Database: %s: %v", statement, err)
		}
	}
	return pool
}

// redacted is a URL without its password, or nothing of a text that is no URL.
func redacted(text string) string {
	if u, err := url.Parse(text); err == nil {
		return u.Redacted()
	}
	return ""
}
