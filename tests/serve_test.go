package tests

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

func TestServePages(t *testing.T) {
	t.Parallel()
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t)))
	s.expect(t, subscriptionEvent("evt_1", 1, "active"), 200, webhooks.OutcomeProcessed)
	s.expect(t, subscriptionEvent("evt_1", 1, "active"), 200, webhooks.OutcomeDuplicate)
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/healthz":         {200, `"ok"`},
		"/readyz":          {200, `"ready"`},
		"/metrics":         {200, `stripeonce_deliveries_total{outcome="duplicate",pattern="customer.subscription.*"} 1`},
		"/webhooks/stripe": {405, `{"error":"only POST is allowed"}`},
		"/elsewhere":       {404, `{"error":"Not Found"}`},
	} {
		if status, body := s.get(t, path); status != want.status || !strings.Contains(body, want.text) {
			t.Errorf("%s is answered %d %s, want %d with %s", path, status, body, want.status, want.text)
		}
	}
}

// Without --migrate, the program starts on a database without tables, reports that, and serves as soon as another process
// has migrated it.
func TestServeOnAnUnmigratedDatabase(t *testing.T) {
	t.Parallel()
	env := environ("DATABASE_URL=" + pgtest.NewEmptyURL(t))
	s := serve(t, env)
	if status, body := s.get(t, "/readyz"); status != 503 || !strings.Contains(body, "create_stripe_webhook_events") {
		t.Errorf("/readyz is answered %d %s", status, body)
	}
	if status, _ := s.get(t, "/healthz"); status != 200 {
		t.Errorf("/healthz is answered %d", status)
	}
	body := subscriptionEvent("evt_1", 1, "active")
	s.expect(t, body, 503, "")
	if r := run(t, env, "", "migrate"); r.code != 0 {
		t.Fatal(r)
	}
	s.expect(t, body, 200, webhooks.OutcomeProcessed)
	if status, body := s.get(t, "/readyz"); status != 200 {
		t.Errorf("/readyz is answered %d %s", status, body)
	}
}

// On SIGTERM, deliveries in flight are finished and answered, then the process exits with 0.
func TestServeStopsGracefully(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	pool := pgtest.Connect(t, databaseURL)
	s := serve(t, environ("DATABASE_URL="+databaseURL))
	s.expect(t, subscriptionEvent("evt_1", 1, "active"), 200, webhooks.OutcomeProcessed)
	lock, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), `SELECT FROM subscriptions FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	answered := make(chan delivery.Reply)
	go func() {
		reply, _ := s.sender.Send(context.Background(), subscriptionEvent("evt_2", 2, "past_due"))
		answered <- reply
	}()
	pgtest.Await(t, "the delivery waits for the lock", func() bool {
		return pgtest.Scan[bool](t, pool, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	})
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	pgtest.Await(t, "the program stops", func() bool { return strings.Contains(s.text(), "finishing deliveries in flight") })
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reply := pgtest.Receive(t, "the reply to the delivery in flight", answered); reply.Outcome() != webhooks.OutcomeProcessed {
		t.Errorf("the delivery in flight is answered %s", reply)
	}
	pgtest.Receive(t, "the server ends", s.ended)
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit %d:\n%s", code, s.text())
	}
}

// --local keeps its data across a restart, even after kill -9, after which PostgreSQL stops by itself.
func TestServeLocal(t *testing.T) {
	t.Parallel()
	dir := reachableDir(t)
	body := subscriptionEvent("evt_1", 1, "active")
	s := serve(t, environ(), "--local", "--data-dir", dir)
	s.expect(t, body, 200, webhooks.OutcomeProcessed)
	s.stop(t, syscall.SIGKILL)
	pgtest.Await(t, "the private PostgreSQL has stopped", func() bool {
		_, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid"))
		return os.IsNotExist(err)
	})
	s = serve(t, environ(), "--local", "--data-dir", dir)
	s.expect(t, body, 200, webhooks.OutcomeDuplicate)
	conn, err := pgx.Connect(t.Context(), "postgres://stripeonce@/stripeonce?host="+dir)
	if err != nil {
		t.Fatalf("a libpq URL does not connect: %v", err)
	}
	_ = conn.Close(t.Context())
	if r := run(t, environ("STRIPE_WEBHOOK_SECRET=x"), "", "serve", "--local", "--data-dir", dir); r.code != 1 || !strings.Contains(r.stderr, "stop it; or choose another folder") {
		t.Errorf("a second one on the same folder: %s", r)
	}
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d:\n%s", code, s.text())
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid")); !os.IsNotExist(err) {
		t.Error("PostgreSQL is still up")
	}
}

// Where the private PostgreSQL ends, serve ends with the reason: nothing would take effect until a restart.
func TestServeLocalWithoutPostgreSQL(t *testing.T) {
	t.Parallel()
	dir := reachableDir(t)
	s := serve(t, environ(), "--local", "--data-dir", dir)
	s.expect(t, subscriptionEvent("evt_1", 1, "active"), 200, webhooks.OutcomeProcessed)
	file, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.SplitN(string(file), "\n", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	pgtest.Receive(t, "serve ends, whose PostgreSQL has ended", s.ended)
	want := "the private PostgreSQL has ended: " + filepath.Join(dir, "postgresql.log") + " says why"
	if code := s.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(s.text(), want) {
		t.Errorf("exit %d, want 1 and %q:\n%s", code, want, s.text())
	}
}

// reachableDir returns a folder that PostgreSQL's user can enter, if that is another user.
func reachableDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "stripeonce-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// A secret is rolled without a refused delivery: both secrets are accepted meanwhile.
func TestServeWithTwoSecrets(t *testing.T) {
	t.Parallel()
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t), "STRIPE_WEBHOOK_SECRET="+hooktest.Secret+", whsec_rolled"))
	for secret, want := range map[string]int{hooktest.Secret: 200, "whsec_rolled": 200, "whsec_wrong": 400} {
		sender := delivery.NewSender(s.url+"/webhooks/stripe", secret, 1)
		if reply, err := sender.Send(t.Context(), subscriptionEvent("evt_"+secret, 1, "active")); err != nil || reply.Status != want {
			t.Errorf("signed with %s, the reply is %s, %v, want %d", secret, reply, err, want)
		}
		sender.Close()
	}
}

// Settings in the environment take effect in the receiver, the log and the metrics.
func TestServeSettings(t *testing.T) {
	t.Parallel()
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t)+"&pool_max_conns=3", "STRIPE_MODE=live"))
	s.expect(t, subscriptionEvent("evt_1", 1, "active"), 200, webhooks.OutcomeIgnored)
	if _, body := s.get(t, "/metrics"); !strings.Contains(body, "stripeonce_pool_max_connections 3") || !strings.Contains(body, "go_goroutines") {
		t.Error("/metrics lacks the pool or the process")
	}
	req, err := http.NewRequest(http.MethodGet, s.url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Large", strings.Repeat("x", 1<<20))
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of 1 MiB is answered %d", resp.StatusCode)
		}
	}
}

func TestNoSecretInTheProcessList(t *testing.T) {
	t.Parallel()
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t)))
	out, err := exec.Command("ps", "-o", "args=", "-p", strconv.Itoa(s.cmd.Process.Pid)).CombinedOutput()
	if err != nil {
		t.Skipf("no ps: %v", err)
	}
	if strings.Contains(string(out), hooktest.Secret) || strings.Contains(string(out), "postgres://") {
		t.Errorf("the process list shows %s", out)
	}
}

// While draining, the server is not ready, so that a load balancer stops using it, but still accepts deliveries.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t)), "--drain", "5s")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	pgtest.Await(t, "/readyz answers 503, shutting down", func() bool {
		status, body := s.get(t, "/readyz")
		return status == 503 && strings.Contains(body, "shutting down")
	})
	reply, err := s.sender.Send(t.Context(), subscriptionEvent("evt_1", 1700000000, "active"))
	if err != nil || reply.Status != 200 {
		t.Errorf("the reply is %s, %v", reply, err)
	}
	pgtest.Receive(t, "the server ends", s.ended)
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ends with %d:\n%s", code, s.text())
	}
}

// serve has a console only if CONSOLE_PASSWORD is set, and requires that password.
func TestConsoleOfServe(t *testing.T) {
	t.Parallel()
	env := environ("DATABASE_URL="+pgtest.NewURL(t), "STRIPE_WEBHOOK_SECRET="+hooktest.Secret)
	if status, _ := serve(t, env).get(t, "/console"); status != 404 {
		t.Errorf("without a password the console is %d", status)
	}
	s := serve(t, append(env, "CONSOLE_PASSWORD=open sesame"))
	for password, want := range map[string]int{"": 401, "open": 401, "open sesame": 200} {
		if status, _ := s.visit(t, http.MethodGet, "/console/events", "stripeonce", password); status != want {
			t.Errorf("with the password %q it is %d, want %d", password, status, want)
		}
	}
	for _, path := range []string{"/console/events", "/console/console.css", "/console/subscriptions/sub_1"} {
		if status, _ := s.get(t, path); status != 401 {
			t.Errorf("%s is open: %d", path, status)
		}
	}
}

// visit makes a request as a user of the console, or as nobody, and returns the status and the text.
func (s *server) visit(t *testing.T, method, path, user, password string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == 401 && resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("%s does not ask for a password", path)
	}
	return resp.StatusCode, string(body)
}

// CONSOLE_READONLY_PASSWORD is for a user who may only look: no page has a button, and each POST is refused.
func TestReadOnlyConsole(t *testing.T) {
	t.Parallel()
	env := environ("DATABASE_URL="+pgtest.NewURL(t), "STRIPE_WEBHOOK_SECRET="+hooktest.Secret, "STRIPE_API_KEY=sk_test_1", "CONSOLE_READONLY_PASSWORD=look")
	both, looks := serve(t, append(env, "CONSOLE_PASSWORD=act")), serve(t, env)
	for _, c := range []struct {
		*server
		user, password string
		status         int
		buttons        bool
	}{
		{both, "stripeonce", "act", 200, true}, {both, "stripeonce-readonly", "look", 200, false},
		{both, "stripeonce", "look", 401, false}, {both, "stripeonce-readonly", "act", 401, false}, {both, "", "look", 401, false},
		{looks, "stripeonce-readonly", "look", 200, false}, {looks, "stripeonce", "look", 401, false}, {looks, "stripeonce", "", 401, false},
	} {
		status, page := c.visit(t, http.MethodGet, "/console/runs", c.user, c.password)
		if status != c.status || strings.Contains(page, "Reconcile the last hour") != c.buttons {
			t.Errorf("%s with the password %q gets %d:\n%s", c.user, c.password, status, page)
		}
	}
	for _, path := range []string{"/console/runs", "/console/events/evt_1/replay"} {
		if status, text := both.visit(t, http.MethodPost, path, "stripeonce-readonly", "look"); status != 403 || !strings.Contains(text, "This user may only look.") {
			t.Errorf("POST %s is %d:\n%s", path, status, text)
		}
	}
	if status, text := looks.get(t, "/console"); status != 401 || !strings.Contains(text, "The user is stripeonce-readonly.") {
		t.Errorf("without a login it is %d: %s", status, text)
	}
}
