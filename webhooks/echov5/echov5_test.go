package echov5_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/signing"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov5"
)

// The route and the console in Echo v5: replies, methods, and a body that exceeds Echo's limit.
func TestEchoV5(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	webhooks.On(h, "a.b", func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error { return nil })
	host := hooktest.New(t, h, nil)
	e := echo.New()
	echov5.Mount(e, "/webhooks/stripe", host.Receiver)
	echov5.Mount(e.Group("/small", middleware.BodyLimit(50)), "/stripe", host.Receiver)
	echov5.MountConsole(e.Group("/admin/:tenant"), console.New(host.Pool, host.Receiver, nil))
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	body := hooktest.Event("evt_1", "a.b", 1, `{"id":"obj_1"}`)
	send := func(path string, want int, says string) {
		t.Helper()
		sender := delivery.NewSender(server.URL+path, hooktest.Secret, 1)
		defer sender.Close()
		reply, err := sender.Send(t.Context(), body)
		if err != nil || reply.Status != want || !strings.Contains(reply.String(), says) {
			t.Errorf("%s: %s, %v, want %d %s", path, reply, err, want, says)
		}
	}
	send("/webhooks/stripe", 200, "processed")
	send("/webhooks/stripe", 200, "duplicate")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/small/stripe", io.MultiReader(bytes.NewReader(body))) // chunked
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(webhooks.SignatureHeader, signing.Sign(body, hooktest.Secret))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != 413 || !strings.Contains(string(text), "in front of this handler truncated it") {
		t.Errorf("a body that Echo's limit cuts is answered %d %s", resp.StatusCode, text)
	}
	get := func(path string, want int, says string) {
		t.Helper()
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var text bytes.Buffer
		_, _ = text.ReadFrom(resp.Body)
		if resp.StatusCode != want || !strings.Contains(text.String(), says) {
			t.Errorf("%s is %d, want %d and %q:\n%s", path, resp.StatusCode, want, says, &text)
		}
	}
	get("/webhooks/stripe", 405, "only POST")
	get("/admin/acme", 200, `href="/admin/acme/events"`)
	get("/admin/acme/", 200, `href="/admin/acme/events"`) // by a redirect
	get("/admin/acme/events/evt_1", 200, "a.b")
	get("/admin/acme/console.css", 200, "{")
	get("/admin/acme/nothing", 404, "")
}
