package echov4_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"golang.org/x/time/rate"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// What Echo's middleware does to a delivery of 4 kB: docs/echo.md has the table.
func TestMiddleware(t *testing.T) {
	t.Parallel()
	host := hooktest.New(t, webhooks.NewHandlers(), nil)
	body := string(hooktest.Event("evt_1", "invoice.paid", 1, `{"id":"in_1","note":"`+strings.Repeat("x", 4<<10)+`"}`))
	exhausted := middleware.NewRateLimiterMemoryStoreWithConfig(middleware.RateLimiterMemoryStoreConfig{Rate: rate.Every(time.Hour), Burst: 1, ExpiresIn: time.Hour})
	if _, err := exhausted.Allow("192.0.2.1"); err != nil { // the address of httptest
		t.Fatal(err)
	}
	ok := func(string, echo.Context) (bool, error) { return true, nil }
	for name, c := range map[string]struct {
		use    echo.MiddlewareFunc
		path   string
		status int
	}{
		"none":            {nil, "/webhooks/stripe", 200},
		"a slash":         {nil, "/webhooks/stripe/", 404},
		"CSRF":            {middleware.CSRF(), "/webhooks/stripe", 400},
		"KeyAuth":         {middleware.KeyAuth(ok), "/webhooks/stripe", 400},
		"BasicAuth":       {middleware.BasicAuth(func(string, string, echo.Context) (bool, error) { return true, nil }), "/webhooks/stripe", 401},
		"BodyLimit":       {middleware.BodyLimit("2K"), "/webhooks/stripe", 413},
		"HTTPSRedirect":   {middleware.HTTPSRedirect(), "/webhooks/stripe", 301},
		"RateLimiter":     {middleware.RateLimiter(exhausted), "/webhooks/stripe", 429},
		"Secure, CORS":    {chain(middleware.Secure(), middleware.CORS()), "/webhooks/stripe", 200},
		"Gzip, BodyDump":  {chain(middleware.Gzip(), middleware.BodyDump(func(echo.Context, []byte, []byte) {})), "/webhooks/stripe", 200},
		"ContextTimeout":  {middleware.ContextTimeout(time.Minute), "/webhooks/stripe", 200},
		"Recover, Logger": {chain(middleware.Recover(), middleware.RequestID()), "/webhooks/stripe", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := echo.New()
			if c.use != nil {
				e.Use(c.use)
			}
			echov4.Mount(e, "/webhooks/stripe", host.Receiver)
			req := httptest.NewRequest(http.MethodPost, c.path, strings.NewReader(body))
			req.Header.Set(webhooks.SignatureHeader, webhookstest.Sign([]byte(body), hooktest.Secret))
			w := httptest.NewRecorder()
			e.ServeHTTP(w, req)
			if w.Code != c.status {
				t.Errorf("the status is %d, want %d: %s", w.Code, c.status, w.Body)
			}
		})
	}
}

func chain(list ...echo.MiddlewareFunc) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		for _, m := range list {
			next = m(next)
		}
		return next
	}
}
