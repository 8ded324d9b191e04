package console_test

import (
	"net/http"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/webhooks"
)

// The console in an application, behind the application's own login.
func Example() {
	var (
		pool         *pgxpool.Pool
		r            *webhooks.Receiver
		requireAdmin func(http.Handler) http.Handler // your own
	)
	pages := console.New(pool, r, &console.Config{HidePayloads: true})
	http.Handle("/admin/stripe/", requireAdmin(http.StripPrefix("/admin/stripe", pages)))
}
