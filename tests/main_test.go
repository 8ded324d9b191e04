// Package tests has end-to-end tests: the stripeonce program as a process, with real HTTP, PostgreSQL and dbmate.
package tests

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/webhooks"
)

// waitLimit bounds every wait for another process. It does not assert speed.
const waitLimit = 60 * time.Second

var program string // the path of the tested program

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "stripeonce-tests-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "stripeonce")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, "../cmd/stripeonce").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// environ returns this process's environment with the given settings of stripeonce and no others.
func environ(settings ...string) []string {
	var env []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "OTEL_") {
			continue
		}
		switch name {
		case "DATABASE_URL", "DATABASE_URL_FILE", "STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET_FILE", "STRIPE_MODE", "STRIPE_API_KEY", "STRIPE_API_KEY_FILE", "STRIPE_API_BASE", "STRIPE_REFETCH", "STRIPE_ACCOUNT_ID", "STRIPE_API_VERSION", "STRIPEONCE_MIRROR",
			"ADDR", "LOG_FORMAT", "LOG_LEVEL", "DROP_PAYLOADS", "CONSOLE_PASSWORD", "CONSOLE_PASSWORD_FILE", "CONSOLE_READONLY_PASSWORD", "CONSOLE_READONLY_PASSWORD_FILE":
		default:
			env = append(env, entry)
		}
	}
	return append(env, settings...)
}

type result struct {
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
}

// run runs the program until it exits.
func run(t *testing.T, env []string, stdin string, args ...string) result {
	t.Helper()
	return runBuild(t, program, env, stdin, args...)
}

// runBuild runs another build of the program until it exits.
func runBuild(t *testing.T, program string, env []string, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// server is a running `stripeonce serve`.
type server struct {
	cmd    *exec.Cmd
	url    string // of the process, without a path
	sender *delivery.Sender
	mu     sync.Mutex
	log    strings.Builder
	ended  chan struct{}
}

var listening = regexp.MustCompile(`(?:msg=listening url=|"msg":"listening","url":")(http://[^/]+)/`)

// serve starts the program and waits until it listens.
func serve(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	return serveBuild(t, program, env, args...)
}

// serveBuild starts another build of the program and waits until it listens.
func serveBuild(t *testing.T, program string, env []string, args ...string) *server {
	t.Helper()
	cmd := exec.Command(program, append([]string{"serve", "--addr", "127.0.0.1:0"}, args...)...)
	// The last of two entries counts, so a caller may set another secret.
	cmd.Env = append([]string{"STRIPE_WEBHOOK_SECRET=" + hooktest.Secret}, env...)
	return serveBy(t, cmd)
}

// serveBy starts a command that serves and waits until it listens.
func serveBy(t *testing.T, cmd *exec.Cmd) *server {
	t.Helper()
	s := &server{cmd: cmd, ended: make(chan struct{})}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := make(chan string, 1)
	go s.read(stderr, found)
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		<-s.ended
	})
	select {
	case s.url = <-found:
	case <-s.ended:
		t.Fatalf("serve ended:\n%s", s.text())
	case <-time.After(waitLimit):
		t.Fatalf("serve does not listen:\n%s", s.text())
	}
	s.sender = delivery.NewSender(s.url+"/webhooks/stripe", hooktest.Secret, 64)
	t.Cleanup(s.sender.Close)
	return s
}

func (s *server) read(stderr io.Reader, found chan<- string) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		s.mu.Lock()
		s.log.WriteString(lines.Text() + "\n")
		s.mu.Unlock()
		if match := listening.FindStringSubmatch(lines.Text()); match != nil {
			found <- match[1]
		}
	}
	_ = s.cmd.Wait()
	close(s.ended)
}

func (s *server) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// lineAfter reads a process's output to its end. It sends the rest of the first line that contains a text.
func lineAfter(output io.Reader, text string) (found <-chan string, ended <-chan struct{}) {
	rest, end := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(end)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if _, after, ok := strings.Cut(lines.Text(), text); ok && len(rest) == 0 {
				rest <- after
			}
		}
	}()
	return rest, end
}

// awaitAddr waits for the address that another program prints. Choosing a free address in advance would be a race.
func awaitAddr(t *testing.T, name string, addr <-chan string, ended <-chan struct{}) string {
	t.Helper()
	select {
	case found := <-addr:
		return found
	case <-ended:
		t.Fatalf("%s ended", name)
	case <-time.After(waitLimit):
		t.Fatalf("%s does not listen", name)
	}
	return ""
}

// stop signals the process and returns its exit code.
func (s *server) stop(t *testing.T, signal os.Signal) int {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.ended:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(waitLimit):
		t.Fatalf("serve does not stop:\n%s", s.text())
		return -1
	}
}

// expect delivers a body and checks the status and the outcome.
func (s *server) expect(t *testing.T, body []byte, status int, outcome webhooks.Outcome) {
	t.Helper()
	reply, err := s.sender.Send(context.Background(), body)
	if err != nil || reply.Status != status || reply.Outcome() != outcome {
		t.Errorf("the reply is %s, %v, want %d %s", reply, err, status, outcome)
	}
}

// get reads a page of the process.
func (s *server) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func subscriptionEvent(id string, created int64, status string) []byte {
	return hooktest.Event(id, "customer.subscription.updated", created,
		`{"id":"sub_1","object":"subscription","customer":"cus_1","status":"`+status+`","items":{"data":[{"id":"si_1","price":{"id":"price_1"}}]}}`)
}
