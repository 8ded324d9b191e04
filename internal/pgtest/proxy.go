package pgtest

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/pgproxy"
)

// NewProxy starts a proxy in front of a database's server, and returns the database's URL through it. The proxy is closed when the test
// ends.
func NewProxy(tb testing.TB, databaseURL string) (proxy *pgproxy.Proxy, through string) {
	tb.Helper()
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		tb.Fatal(err)
	}
	if proxy, err = pgproxy.Start(config.ConnConfig.Host); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(proxy.Close)
	if through, err = proxy.URL(databaseURL); err != nil {
		tb.Fatal(err)
	}
	return proxy, through
}
