package echov4_test

import (
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// A receiver in a group of an Echo application.
func ExampleMount() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	r, err := webhooks.New(pool, webhooks.NewHandlers(), &webhooks.Config{
		Secrets: []string{webhookstest.Secret}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}

	e := echo.New()
	echov4.Mount(e.Group("/webhooks"), "/stripe", r)

	body := `{"id":"evt_1","type":"invoice.paid","data":{"object":{"id":"in_1"}}}`
	req := httptest.NewRequest(http.MethodPost, "/webhooks/stripe", strings.NewReader(body))
	req.Header.Set(webhooks.SignatureHeader, webhookstest.Sign([]byte(body), webhookstest.Secret))
	w := httptest.NewRecorder()
	e.ServeHTTP(w, req)
	fmt.Print(w.Code, " ", w.Body)
	// Output: 200 {"event_id":"evt_1","outcome":"ignored"}
}
