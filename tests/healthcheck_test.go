package tests

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/pook/stripeonce/internal/pgtest"
)

// expectHealth runs healthcheck and checks its exit code, and that its one line of output has the text.
func expectHealth(t *testing.T, name string, code int, says string, env []string, args ...string) {
	t.Helper()
	r := run(t, environ(env...), "", append([]string{"healthcheck"}, args...)...)
	text := r.stdout
	if code != 0 {
		text = r.stderr
	}
	if r.code != code || strings.Count(text, "\n") != 1 || !strings.Contains(text, says) || r.stdout != "" && r.stderr != "" {
		t.Errorf("%s: want exit %d and one line with %q, got %s", name, code, says, r)
	}
}

// portOf returns the port of a URL.
func portOf(t *testing.T, url string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// healthcheck is 0 while the receiver is ready, whatever ADDR says where serve listens, and 1 with the reason of /readyz.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	url := pgtest.NewEmptyURL(t)
	ready := serve(t, environ("DATABASE_URL="+url), "--migrate")
	port := portOf(t, ready.url)
	dead := []string{"HTTP_PROXY=http://127.0.0.1:1", "http_proxy=http://127.0.0.1:1", "ALL_PROXY=http://127.0.0.1:1"}
	for _, addr := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port, ":" + port, "[::]:" + port, "localhost:" + port} {
		expectHealth(t, addr, 0, "ready", append(dead, "ADDR="+addr))
		expectHealth(t, addr, 0, "ok", append(dead, "ADDR="+addr), "--live")
	}
	expectHealth(t, "by a flag", 0, "ready", []string{"ADDR=127.0.0.1:1"}, "--addr", "127.0.0.1:"+port)
	pool := pgtest.Connect(t, url)
	pgtest.Exec(t, pool, "DELETE FROM stripeonce_migrations WHERE version = (SELECT max(version) FROM stripeonce_migrations)")
	expectHealth(t, "a migration is missing", 1, "not ready: the database is not migrated: it lacks ", []string{"ADDR=127.0.0.1:" + port})
	expectHealth(t, "a migration is missing", 0, "ok", []string{"ADDR=127.0.0.1:" + port}, "--live")
	if code := ready.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("serve ended with %d", code)
	}
	expectHealth(t, "serve has ended", 1, "nothing listens on 127.0.0.1:"+port, []string{"ADDR=127.0.0.1:" + port})
}

// A receiver that drains is not ready, but lives.
func TestHealthcheckWhileDraining(t *testing.T) {
	t.Parallel()
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t)), "--drain", "1m")
	addr := []string{"ADDR=127.0.0.1:" + portOf(t, s.url)}
	expectHealth(t, "before", 0, "ready", addr)
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	pgtest.Await(t, "serve drains", func() bool { return strings.Contains(s.text(), "draining") })
	pgtest.Await(t, "it is not ready", func() bool { return run(t, environ(addr...), "", "healthcheck").code == 1 })
	expectHealth(t, "while draining", 1, "not ready: ", addr)
	expectHealth(t, "while draining", 0, "ok", addr, "--live")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil { // a second signal ends it at once
		t.Fatal(err)
	}
}

// ADDR of IPv6.
func TestHealthcheckIPv6(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("there is no IPv6 here: %v", err)
	}
	_ = listener.Close()
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t)), "--addr", "[::1]:0")
	port := portOf(t, s.url)
	for _, addr := range []string{"[::1]:" + port, "[::]:" + port, ":" + port} { // nothing listens on 127.0.0.1
		expectHealth(t, addr, 0, "ready", []string{"ADDR=" + addr})
	}
	expectHealth(t, "0.0.0.0", 1, "nothing listens on 0.0.0.0:"+port, []string{"ADDR=0.0.0.0:" + port})
}

// The wait is bounded, also for a peer that never ends its answer, and what does not answer as serve does is not healthy.
func TestHealthcheckOfOthers(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its backlog, and never reads
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	released := make(chan struct{})
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("{"))
		w.(http.Flusher).Flush()
		select {
		case <-released:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(endless.Close)
	t.Cleanup(func() { close(released) })
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	welcoming := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>welcome</html>")) }))
	t.Cleanup(welcoming.Close)
	moved := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	t.Cleanup(moved.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	address := func(s *httptest.Server) string { return "ADDR=" + s.Listener.Addr().String() }
	for _, c := range []struct {
		name, env, says string
		code            int
		args            []string
	}{
		{"silent", "ADDR=" + silent.Addr().String(), "did not answer within 200ms (--timeout)", 1, []string{"--timeout", "200ms"}},
		{"endless", address(endless), "did not answer within 200ms (--timeout)", 1, []string{"--timeout", "200ms"}},
		{"another program", address(other), "answers GET /readyz with 404, unlike 'stripeonce serve'", 1, nil},
		{"another page", address(welcoming), "answers GET /readyz with 200, unlike 'stripeonce serve'", 1, nil},
		{"redirect", address(moved), "with 302, unlike", 1, nil},
		{"TLS", address(secure), "which serves plain HTTP", 1, nil},
		{"a URL", "ADDR=http://127.0.0.1:4242", `is not host:port, such as 127.0.0.1:4242`, 2, nil},
		{"no port", "ADDR=127.0.0.1", "is not host:port", 2, nil},
		{"bare IPv6", "ADDR=::1:4242", "is not host:port", 2, nil},
		{"any port", "ADDR=127.0.0.1:0", "has no port from 1 to 65535", 2, nil},
		{"a large port", "ADDR=127.0.0.1:65536", "has no port from 1 to 65535", 2, nil},
		{"no time", "ADDR=127.0.0.1:4242", "--timeout must be positive", 2, []string{"--timeout", "0s"}},
		{"no host", "ADDR=nowhere.invalid:4242", "nowhere.invalid:4242 did not answer: ", 1, nil},
	} {
		expectHealth(t, c.name, c.code, c.says, []string{c.env}, c.args...)
	}
}
