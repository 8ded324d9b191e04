package console_test

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/webhooks"
)

// The console in an application, behind the login that the application has.
func ExampleConsole_Mount() {
	var (
		e            *echo.Echo
		pool         *pgxpool.Pool
		r            *webhooks.Receiver
		requireAdmin echo.MiddlewareFunc // your own
	)
	console.New(pool, r, &console.Config{HidePayloads: true}).Mount(e.Group("/admin/stripe", requireAdmin))
}
