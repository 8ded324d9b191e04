// Package exampletest gives the examples' tests a database and an application.
package exampletest

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// Database returns a pool on the test's own database, with stripeonce's tables and the given ones.
func Database(t *testing.T, tables string) *pgxpool.Pool {
	t.Helper()
	pool := pgtest.NewPool(t)
	if _, err := pool.Exec(t.Context(), tables); err != nil {
		t.Fatal(err)
	}
	return pool
}

// App returns a client that delivers to an application with the route mounted.
func App(t *testing.T, pool *pgxpool.Pool, h *webhooks.Handlers) *webhookstest.Stripe {
	t.Helper()
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{webhookstest.Secret}})
	if err != nil {
		t.Fatal(err)
	}
	app := echo.New()
	echov4.Mount(app, "/webhooks/stripe", r)
	return webhookstest.New(t, app, "/webhooks/stripe", webhookstest.Secret)
}
