package exampletest

import (
	"net"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// Environment sets the variables that an example's program reads, with a free port, and returns the address where it will listen.
func Environment(t *testing.T, pool *pgxpool.Pool) *url.URL {
	t.Helper()
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DATABASE_URL", pool.Config().ConnString())
	t.Setenv("STRIPE_WEBHOOK_SECRET", webhookstest.Secret)
	t.Setenv("STRIPE_API_KEY", "")
	t.Setenv("PORT", port)
	return &url.URL{Scheme: "http", Host: "127.0.0.1:" + port}
}

// Program waits until a program listens, and returns a client that delivers to it.
func Program(t *testing.T, address *url.URL) *webhookstest.Stripe {
	t.Helper()
	pgtest.Await(t, "the program listens on "+address.Host, func() bool {
		conn, err := net.Dial("tcp", address.Host)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return webhookstest.New(t, httputil.NewSingleHostReverseProxy(address), "/webhooks/stripe", webhookstest.Secret)
}
