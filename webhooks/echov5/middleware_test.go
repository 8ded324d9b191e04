package echov5_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov5"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// What Echo's middleware does to a delivery of 4 kB: docs/echo.md has the table.
func TestMiddleware(t *testing.T) {
	t.Parallel()
	host := hooktest.New(t, webhooks.NewHandlers(), nil)
	body := string(hooktest.Event("evt_1", "invoice.paid", 1, `{"id":"in_1","note":"`+strings.Repeat("x", 4<<10)+`"}`))
	exhausted := middleware.NewRateLimiterMemoryStoreWithConfig(middleware.RateLimiterMemoryStoreConfig{Rate: 1. / 3600, Burst: 1, ExpiresIn: time.Hour})
	if _, err := exhausted.Allow("192.0.2.1"); err != nil { // the address of httptest
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		use    []echo.MiddlewareFunc
		path   string
		status int
	}{
		"none":    {nil, "/webhooks/stripe", 200},
		"a slash": {nil, "/webhooks/stripe/", 404},
		"CSRF":    {[]echo.MiddlewareFunc{middleware.CSRF()}, "/webhooks/stripe", 400},
		"KeyAuth": {[]echo.MiddlewareFunc{middleware.KeyAuth(func(*echo.Context, string, middleware.ExtractorSource) (bool, error) { return true, nil })}, "/webhooks/stripe", 401},
		"BasicAuth": {[]echo.MiddlewareFunc{middleware.BasicAuth(func(*echo.Context, string, string) (bool, error) { return true, nil })},
			"/webhooks/stripe", 401},
		"BodyLimit":      {[]echo.MiddlewareFunc{middleware.BodyLimit(2 << 10)}, "/webhooks/stripe", 413},
		"HTTPSRedirect":  {[]echo.MiddlewareFunc{middleware.HTTPSRedirect()}, "/webhooks/stripe", 301},
		"RateLimiter":    {[]echo.MiddlewareFunc{middleware.RateLimiter(exhausted)}, "/webhooks/stripe", 429},
		"Secure, CORS":   {[]echo.MiddlewareFunc{middleware.Secure(), middleware.CORS("https://example.com")}, "/webhooks/stripe", 200},
		"Gzip, BodyDump": {[]echo.MiddlewareFunc{middleware.Gzip(), middleware.BodyDump(func(*echo.Context, []byte, []byte, error) {})}, "/webhooks/stripe", 200},
		"ContextTimeout": {[]echo.MiddlewareFunc{middleware.ContextTimeout(time.Minute)}, "/webhooks/stripe", 200},
		"Recover":        {[]echo.MiddlewareFunc{middleware.Recover(), middleware.RequestID()}, "/webhooks/stripe", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := echo.New()
			e.Use(c.use...)
			echov5.Mount(e, "/webhooks/stripe", host.Receiver)
			if status, text := deliver(e, c.path, body); status != c.status {
				t.Errorf("the status is %d, want %d: %s", status, c.status, text)
			}
		})
	}
}

// The Skipper of docs/echo.md exempts the route, and no other.
func TestSkipper(t *testing.T) {
	t.Parallel()
	host := hooktest.New(t, webhooks.NewHandlers(), nil)
	e := echo.New()
	e.Use(middleware.CSRFWithConfig(middleware.CSRFConfig{
		Skipper: func(c *echo.Context) bool { return c.Path() == "/webhooks/stripe" },
	}))
	echov5.Mount(e, "/webhooks/stripe", host.Receiver)
	echov5.Mount(e, "/other", host.Receiver)
	body := string(hooktest.Event("evt_1", "invoice.paid", 1, `{"id":"in_1"}`))
	if status, text := deliver(e, "/webhooks/stripe", body); status != http.StatusOK {
		t.Errorf("the route is not exempt: %d %s", status, text)
	}
	if status, text := deliver(e, "/other", body); status != http.StatusBadRequest {
		t.Errorf("another route is exempt: %d %s", status, text)
	}
}

func deliver(e *echo.Echo, path, body string) (status int, text string) {
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	req.Header.Set(webhooks.SignatureHeader, webhookstest.Sign([]byte(body), hooktest.Secret))
	w := httptest.NewRecorder()
	e.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}
