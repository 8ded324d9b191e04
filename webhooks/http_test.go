package webhooks_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/signing"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
)

func succeed(context.Context, pgx.Tx) error { return nil }

func TestMethodsAndSizes(t *testing.T) {
	t.Parallel()
	host := hooktest.New(t, webhooks.NewHandlers(), func(c *webhooks.Config) { c.MaxBodyBytes = 1000 })
	do := func(method string, body io.Reader) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, host.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		resp := do(method, nil)
		text, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" || !bytes.Contains(text, []byte(`{"error":`)) {
			t.Errorf("%s is answered %d, Allow %q, %s", method, resp.StatusCode, resp.Header.Get("Allow"), text)
		}
	}
	large := strings.Repeat("x", 1001)
	for name, body := range map[string]io.Reader{
		"with a Content-Length": strings.NewReader(large),
		"chunked":               io.MultiReader(strings.NewReader(large)),
	} {
		if resp := do(http.MethodPost, body); resp.StatusCode != 413 {
			t.Errorf("a large body %s is answered %d", name, resp.StatusCode)
		}
	}
	exact := hooktest.Event("evt_1", "test.event", 1, `{}`)
	exact = append(exact, bytes.Repeat([]byte(" "), 1000-len(exact))...)
	host.Expect(t, exact, 200, webhooks.OutcomeIgnored)
}

// A limit of the application's, before the route, cut the body: the reply says so, not which limit of ours it was.
func TestOuterBodyLimit(t *testing.T) {
	t.Parallel()
	receiver := hooktest.New(t, webhooks.NewHandlers(), nil).Receiver
	limited := echo.New()
	limited.Use(middleware.BodyLimit("2K"))
	echov4.Mount(limited, "/", receiver)
	for name, handler := range map[string]http.Handler{
		"Echo's BodyLimit":     limited,
		"http.MaxBytesHandler": http.MaxBytesHandler(receiver, 2000),
	} {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		body := hooktest.Event("evt_1", "test.event", 1, `{"id":"`+strings.Repeat("x", 4000)+`"}`)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, io.MultiReader(bytes.NewReader(body))) // chunked
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
		if resp.StatusCode != 413 || !strings.Contains(string(text), "in front of this handler truncated it") || strings.Contains(string(text), "Config.MaxBodyBytes") {
			t.Errorf("with %s the reply is %d %s", name, resp.StatusCode, text)
		}
	}
}

func TestRepliesAreJSON(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(succeed), nil)
	reply := host.Send(t, testEvent)
	if want := `{"event_id":"evt_1","outcome":"processed"}`; string(reply.Body) != want {
		t.Errorf("the reply is %s, want %s", reply.Body, want)
	}
	if got := reply.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("its type is %s", got)
	}
	host.Expect(t, []byte(`null`), 400, "")
	host.Expect(t, []byte(`{}`), 400, "")
}

// A database without our tables is not ready, says which migration it lacks, and answers 503; so does
// one whose newest migration is missing, or taken back while serving.
func TestNotMigrated(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewEmptyURL(t)
	host := hooktest.On(t, pgtest.Connect(t, databaseURL), webhooks.NewHandlers(), nil)
	expectNotReady := func(lacks string) {
		t.Helper()
		if err := host.Receiver.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), lacks) {
			t.Errorf("Ready says %v, want %q in it", err, lacks)
		}
		reply := host.Send(t, testEvent)
		if reply.Status != 503 || reply.Header.Get("Retry-After") != "5" || !strings.Contains(reply.String(), "not migrated") {
			t.Errorf("the reply is %s, Retry-After %q", reply, reply.Header.Get("Retry-After"))
		}
	}
	expectNotReady("create_stripe_webhook_events.sql")
	if err := migrate.Up(t.Context(), databaseURL, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := migrate.Rollback(t.Context(), databaseURL, false, io.Discard); err != nil {
		t.Fatal(err)
	}
	expectNotReady("it lacks 2")
	if err := migrate.Up(t.Context(), databaseURL, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := host.Receiver.Ready(t.Context()); err != nil {
		t.Errorf("Ready says %v", err)
	}
	host.Expect(t, testEvent, 200, webhooks.OutcomeIgnored)
	pgtest.Exec(t, host.Pool, `ALTER TABLE stripe_webhook_events RENAME TO elsewhere; DELETE FROM stripeonce_migrations`)
	host.Expect(t, testEvent, 503, "")
	expectNotReady("create_stripe_webhook_events.sql")
}

func TestAssumeMigrated(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, `DROP TABLE stripeonce_migrations`)
	host := hooktest.On(t, pool, webhooks.NewHandlers(), func(c *webhooks.Config) { c.AssumeMigrated = true })
	if err := host.Receiver.Ready(t.Context()); err != nil {
		t.Errorf("Ready says %v", err)
	}
	host.Expect(t, testEvent, 200, webhooks.OutcomeIgnored)
}

func TestNoConnectionToBeHad(t *testing.T) {
	t.Parallel()
	pool := pgtest.Connect(t, pgtest.NewURL(t)+"&pool_max_conns=1")
	host := hooktest.On(t, pool, webhooks.NewHandlers(), func(c *webhooks.Config) { c.AcquireTimeout = 100 * time.Millisecond })
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	reply := host.Send(t, testEvent)
	if reply.Status != 503 || reply.Header.Get("Retry-After") == "" {
		t.Errorf("the reply is %s", reply)
	}
	conn.Release()
	hooktest.On(t, pool, webhooks.NewHandlers(), nil).Expect(t, testEvent, 200, webhooks.OutcomeIgnored)

	unreachable := pgtest.Connect(t, "postgres://nobody@/nowhere?host=/nonexistent")
	dark := hooktest.On(t, unreachable, webhooks.NewHandlers(), nil)
	dark.Expect(t, testEvent, 503, "")
	if err := dark.Receiver.Ready(t.Context()); err == nil {
		t.Error("a receiver without a database is ready")
	}
}

// A demoted primary is not the event's fault.
func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	pool := pgtest.Connect(t, pgtest.NewURL(t)+"&default_transaction_read_only=on")
	hooktest.On(t, pool, webhooks.NewHandlers(), nil).Expect(t, testEvent, 503, "")
}

func TestTooManyInFlightAndShutdown(t *testing.T) {
	t.Parallel()
	begun, resume := make(chan struct{}, 2), make(chan struct{})
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error {
		begun <- struct{}{}
		<-resume
		return nil
	}), func(c *webhooks.Config) { c.MaxInFlight = 1 })
	first := make(chan delivery.Reply)
	go func() { first <- host.Send(t, testEvent) }()
	pgtest.Receive(t, "the handler begins", begun)
	another := hooktest.Event("evt_2", "test.event", 1, `{}`)
	host.Expect(t, another, 503, "")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := host.Receiver.Shutdown(ctx); err == nil {
		t.Error("Shutdown did not wait for the delivery in progress")
	}
	if err := host.Receiver.Ready(t.Context()); err == nil {
		t.Error("a receiver that shuts down is ready")
	}
	if reply := host.Send(t, another); reply.Status != 503 || !strings.Contains(reply.String(), "shutting down") {
		t.Errorf("the reply is %s", reply)
	}
	close(resume)
	if reply := pgtest.Receive(t, "the reply to the first delivery", first); reply.Outcome() != webhooks.OutcomeProcessed {
		t.Errorf("the delivery in progress is answered %s", reply)
	}
	if err := host.Shutdown(); err != nil {
		t.Error(err)
	}
}

func TestMountOnEcho(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error { panic("no") }), nil)
	e := echo.New()
	// A host that makes every error look fine must not make a failed delivery look fine.
	e.HTTPErrorHandler = func(_ error, c echo.Context) { _ = c.String(http.StatusOK, "all is well") }
	echov4.Mount(e, "/webhooks/stripe", host.Receiver)
	echov4.Mount(e.Group("/api"), "/stripe", host.Receiver)
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	for _, path := range []string{"/webhooks/stripe", "/api/stripe"} {
		sender := delivery.NewSender(server.URL+path, hooktest.Secret, 1)
		reply, err := sender.Send(t.Context(), testEvent)
		if err != nil || reply.Status != 500 {
			t.Errorf("%s is answered %s, %v", path, reply, err)
		}
		reply, err = sender.Send(t.Context(), hooktest.Event("evt"+strings.ReplaceAll(path, "/", "_"), "other.event", 1, `{}`))
		if err != nil || reply.Outcome() != webhooks.OutcomeIgnored {
			t.Errorf("%s is answered %s, %v", path, reply, err)
		}
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
			t.Errorf("GET %s is answered %d, Allow %q", path, resp.StatusCode, resp.Header.Get("Allow"))
		}
		sender.Close()
	}
}

func TestMountOnNetHTTP(t *testing.T) {
	t.Parallel()
	host := hooktest.New(t, webhooks.NewHandlers(), nil)
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/stripe", host.Receiver)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	sender := delivery.NewSender(server.URL+"/webhooks/stripe", hooktest.Secret, 1)
	defer sender.Close()
	if reply, err := sender.Send(t.Context(), testEvent); err != nil || reply.Outcome() != webhooks.OutcomeIgnored {
		t.Errorf("the reply is %s, %v", reply, err)
	}
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// One line a delivery; nothing of the payload, the signature or the secret.
func TestLog(t *testing.T) {
	t.Parallel()
	log := &lockedBuffer{}
	host := newCounter(t, counting(succeed), func(c *webhooks.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	body := hooktest.Event("evt_1", "test.event", 1, `{"email":"somebody@example.com"}`)
	host.Send(t, body)
	host.Send(t, body)
	if _, err := host.Sender.Post(t.Context(), body, "t=1,v1=abc"); err != nil {
		t.Fatal(err)
	}
	text := log.String()
	// The test's PostgreSQL runs without fsync, of which the receiver warns once.
	if lines := strings.Count(text, "\n") - strings.Count(text, "fsync is off"); lines != 3 {
		t.Errorf("3 deliveries made %d lines:\n%s", lines, text)
	}
	for _, secret := range []string{"somebody@example.com", hooktest.Secret, "v1="} {
		if strings.Contains(text, secret) {
			t.Errorf("the log shows %q:\n%s", secret, text)
		}
	}
	pgtest.Exec(t, host.Pool, `DROP TABLE counter`)
	host.Send(t, hooktest.Event("evt_2", "test.event", 1, `{}`))
	if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, `relation \"counter\" does not exist`) {
		t.Errorf("the log does not say what failed:\n%s", text)
	}
	for _, want := range []string{"outcome=processed", "outcome=duplicate", "event_id=evt_1", "level=WARN"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %q:\n%s", want, text)
		}
	}
}
