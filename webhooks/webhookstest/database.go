package webhookstest

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/dburl"
	"github.com/pook/stripeonce/schema/migrate"
)

const (
	databaseTimeout = time.Minute     // to create the database, or to drop it
	closeTimeout    = 5 * time.Second // to close the pool when its database is gone
)

// Database creates a database for one test, and returns a pool on it. It has stripeonce's tables, and whatever the statements
// create, such as your own. The address is that of the server, as in DATABASE_URL: a URL such as postgres://localhost/myapp, or
// keywords and values such as host=localhost dbname=myapp. Its role must be allowed to create databases. The address's own
// database stays as it is.
//
// When the test ends, the database is dropped and the pool closed. A connection that is still in use then fails the test: of rows
// that are not closed, a transaction that is not ended, or a pgxpool.Conn that is not released.
func Database(tb testing.TB, address string, statements ...string) *pgxpool.Pool {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), databaseTimeout)
	defer cancel()
	name := "stripeonce_test_" + strings.ToLower(rand.Text())
	server, own, err := addresses(address, name)
	if err != nil {
		tb.Fatalf("webhookstest.Database: %v", err)
	}
	pool, err := pgxpool.New(ctx, own)
	if err != nil {
		tb.Fatalf("webhookstest.Database: %v", err)
	}
	tb.Cleanup(func() { closePool(tb, pool) }) // after the drop, which ends the statements that are still running
	if err := execute(ctx, server, "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("webhookstest.Database: create a database: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), databaseTimeout)
		defer cancel()
		if err := execute(ctx, server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("webhookstest.Database: drop %s: %v", name, err)
		}
	})
	if err := migrate.Up(ctx, own, io.Discard); err != nil {
		tb.Fatalf("webhookstest.Database: %v", err)
	}
	for _, statement := range statements {
		if _, err := pool.Exec(ctx, statement); err != nil {
			tb.Fatalf("webhookstest.Database: %s: %v", statement, err)
		}
	}
	return pool
}

// execute runs a statement in a connection of its own.
func execute(ctx context.Context, server *pgx.ConnConfig, statement string) error {
	conn, err := pgx.ConnectConfig(ctx, server)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

func closePool(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
		tb.Errorf("webhookstest.Database: connections that are still in use after the test: %d: close all rows, end all transactions, release all connections",
			pool.Stat().AcquiredConns())
	}
}

// The errors of an address show nothing of it: wherever its form is wrong, its password may be.
var (
	errNoAddress  = errors.New("the server's address is empty: is DATABASE_URL set?")
	errBadAddress = errors.New("the server's address is neither a URL such as postgres://localhost/myapp, " +
		"nor keywords and values such as host=localhost dbname=myapp (in a URL, write special characters of the password as %2F)")
)

// addresses returns the configuration of an address, and the address of another database on the same server.
func addresses(address, database string) (server *pgx.ConnConfig, own string, err error) {
	if strings.TrimSpace(address) == "" {
		return nil, "", errNoAddress
	}
	config, err := pgxpool.ParseConfig(dburl.Normalize(address))
	if err != nil || !plausible(config.ConnConfig) {
		return nil, "", errBadAddress
	}
	for _, separator := range []string{"?", "&", " "} { // the last dbname counts
		own := dburl.Normalize(address + separator + "dbname=" + database)
		if c, err := pgxpool.ParseConfig(own); err == nil && c.ConnConfig.Database == database {
			return config.ConnConfig, own, nil
		}
	}
	return nil, "", errBadAddress
}

var parameter = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// plausible reports whether what errors show of a configuration is no part of a mangled password.
func plausible(config *pgx.ConnConfig) bool {
	for name := range config.RuntimeParams {
		if !parameter.MatchString(name) {
			return false
		}
	}
	for _, fallback := range config.Fallbacks {
		if strings.Contains(fallback.Host, "@") {
			return false
		}
	}
	return !strings.Contains(config.Host, "@") && !strings.Contains(config.Database, "@")
}
