package console_test

import (
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// The console in an application, behind the login that the application has.
func Example() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	r, err := webhooks.New(pool, webhooks.NewHandlers(), &webhooks.Config{
		Secrets: []string{"whsec_of_an_example"}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	requireAdmin := func(next http.Handler) http.Handler { return next } // your own

	pages := console.New(pool, r, &console.Config{HidePayloads: true})
	defer pages.Close()
	mux := http.NewServeMux()
	mux.Handle("/admin/stripe/", requireAdmin(http.StripPrefix("/admin/stripe", pages)))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/admin/stripe/failures", http.NoBody))
	fmt.Println(w.Code, strings.Contains(w.Body.String(), "No failing events"))
	// Output: 200 true
}
