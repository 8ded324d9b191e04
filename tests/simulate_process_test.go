package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pgtest"
)

// With a wrong secret, a wrong path or nothing that listens, simulate stops at once, says what to check, and keeps the old truth.
func TestSimulateStopsAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t)))
	moved := httptest.NewServer(http.RedirectHandler("/webhooks/", http.StatusMovedPermanently))
	defer moved.Close()
	for to, want := range map[string]string{
		s.url + "/webhooks/stripe": "does the receiver verify the raw body with the secret in STRIPE_WEBHOOK_SECRET?",
		s.url + "/webhooks":        "is the path of --to the receiver's webhook route?",
		"http://127.0.0.1:9":       "is the receiver running",
		moved.URL:                  "answered 301 to /webhooks/",
	} {
		truth := filepath.Join(t.TempDir(), "truth.jsonl")
		if err := os.WriteFile(truth, []byte("old\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := run(t, environ("STRIPE_WEBHOOK_SECRET=whsec_another"), "", "simulate", "--to", to, "--truth", truth)
		text, err := os.ReadFile(truth)
		if r.code != 1 || !strings.Contains(r.stderr, want) || !strings.Contains(r.stdout, "stopped after 0 of ") || err != nil || string(text) != "old\n" {
			t.Errorf("%s: %s\nthe truth is %q, %v", to, r, text, err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(truth), ".*")); len(left) > 0 {
			t.Errorf("it leaves %v", left)
		}
	}
}

// Wrong use is exit 2, with a message that says what to write. It shows no password.
func TestSimulateWrongUse(t *testing.T) {
	t.Parallel()
	busy := httptest.NewServer(nil)
	defer busy.Close()
	missing := filepath.Join(t.TempDir(), "nothing", "truth.jsonl")
	for args, want := range map[string]string{
		"--thin both --api 127.0.0.1:0": "--thin=both",
		"--rate NaN":                    "--rate",
		"--retry-scale NaN":             "--retry-scale",
		"--retry-scale 1e-12":           "--retry-scale",
		"--for soon":                    "30d",
		"--subscriptions 200000":        "--subscriptions",
		"--linger 1m":                   "--api",
		"--timeout 0s":                  "--timeout",
		"--truth " + missing:            "--truth",
		"--api " + strings.TrimPrefix(busy.URL, "http://"): "--api",
		"--to ftp://u:s3cret@h/":                           "…@h/",
		"--scenario upgrade,nothing":                       "dunning",
		"--storm thunder":                                  "none, mild, default or wild",
	} {
		r := run(t, environ(simulateSecret), "", append([]string{"simulate"}, strings.Fields(args)...)...)
		if r.code != 2 || !strings.Contains(r.stderr, want) || strings.Contains(r.stderr, "s3cret") || r.stdout != "" {
			t.Errorf("%s: %s", args, r)
		}
	}
	for secret, want := range map[string]string{"": "whsec_test", "whsec_a whsec_b": "separate secrets by commas"} {
		if r := run(t, environ("STRIPE_WEBHOOK_SECRET="+secret), "", "simulate"); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("the secret %q: %s", secret, r)
		}
	}
	receiver := newAnother(t, "")
	r := run(t, environ(simulateSecret), "", "simulate", "--to", receiver.URL, "--subscriptions", "2", "--scenario", "upgrade, dunning", "--rate", "500", "--for", "0d")
	if r.code != 0 || len(receiver.bodies) < 20 {
		t.Error(r)
	}
}

// Ctrl-C ends the deliveries and their planning. The report says how far they came.
func TestSimulateInterrupted(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var once sync.Once
	began := make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		once.Do(func() { close(began) })
		<-release
	}))
	defer receiver.Close()
	defer close(release)
	for _, subscriptions := range []string{"5", "20000"} {
		ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
		defer cancel()
		folder := t.TempDir()
		cmd := exec.CommandContext(ctx, program, "simulate", "--to", receiver.URL, "--subscriptions", subscriptions, "--truth", filepath.Join(folder, "truth.jsonl"))
		cmd.Env = environ(simulateSecret)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if subscriptions == "5" {
			select {
			case <-began:
			case <-time.After(waitLimit):
				t.Fatal("waited until the first delivery")
			}
		} else { // its file exists before it plans
			pgtest.Await(t, "the command has its file", func() bool {
				files, _ := filepath.Glob(filepath.Join(folder, ".truth*"))
				return len(files) > 0
			})
		}
		_ = cmd.Process.Signal(syscall.SIGINT)
		err := cmd.Wait()
		if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.HasSuffix(stderr.String(), "stripeonce: interrupted\n") {
			t.Errorf("%s subscriptions: %v, %s", subscriptions, err, stderr.String())
		}
		if planned := strings.Contains(stdout.String(), "Result: interrupted after 0 of "); planned != (subscriptions == "5") {
			t.Errorf("%s subscriptions: %s", subscriptions, stdout.String())
		}
	}
}

// A failed write to standard output is an error.
func TestSimulateFullDisk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full")
	}
	defer full.Close()
	for _, args := range [][]string{{"simulate", "--subscriptions", "2", "--to", newAnother(t, "").URL}, {"demo", "--subscriptions", "2"}} {
		ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Env, cmd.Stdout = environ(simulateSecret), full
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%v: %v, %s", args, err, stderr.String())
		}
	}
}

// --linger keeps the API up after the last response, with the final objects. The truth names connected accounts.
func TestSimulateLinger(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	truth, api := filepath.Join(t.TempDir(), "truth.jsonl"), freeAddress(t)
	cmd := exec.CommandContext(ctx, program, "simulate", "--to", newAnother(t, "").URL, "--subscriptions", "12", "--thin", "--api", api, "--linger", "1h",
		"--truth", truth, "--api-version", "2024-06-20")
	cmd.Env = environ(simulateSecret)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lingers, ended := lineAfter(stderr, "the simulated API is served for another ")
	awaitAddr(t, "the API after the deliveries", lingers, ended)
	text, err := os.ReadFile(truth)
	if err != nil {
		t.Fatal(err)
	}
	connected := 0
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var want struct {
			ID, Object, Status, Account string
			Period                      int64 `json:"current_period_end"`
		}
		if err := json.Unmarshal([]byte(line), &want); err != nil {
			t.Fatal(err)
		}
		if want.Object != "subscription" {
			continue
		}
		if want.Account != "" {
			connected++
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+api+"/v1/subscriptions/"+want.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("sk_test_any", "") // as Stripe's examples with curl
		if want.Account != "" {
			req.Header.Set("Stripe-Account", want.Account)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Status string }
		err = json.NewDecoder(resp.Body).Decode(&got)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || got.Status != want.Status || want.Period == 0 {
			t.Errorf("%s of %s is %d %v, %v: want %+v", want.ID, want.Account, resp.StatusCode, got, err, want)
		}
	}
	if connected == 0 {
		t.Error("the truth names no connected account")
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	<-ended
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C while it lingers it ends with %v", err)
	}
}

// demo delivers the events that simulate delivers.
func TestDemoDeliversAsSimulate(t *testing.T) {
	t.Parallel()
	receiver := newAnother(t, "")
	flags := []string{"--subscriptions", "8", "--seed", "3", "--storm", "wild", "--billing"}
	if r := run(t, environ(simulateSecret), "", append([]string{"simulate", "--to", receiver.URL}, flags...)...); r.code != 0 {
		t.Fatal(r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"demo", "--keep"}, flags...)...)
	cmd.Env = environ()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found, ended := lineAfter(stdout, "  postgres://")
	databaseURL := "postgres://" + awaitAddr(t, "the demo's database", found, ended)
	pool := pgtest.Connect(t, databaseURL)
	for body := range receiver.bodies {
		var ev struct{ ID, Type string }
		if err := json.Unmarshal([]byte(body), &ev); err != nil {
			t.Fatal(err)
		}
		var known bool
		if err := pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM stripe_webhook_events WHERE event_id = $1 AND event_type = $2)`, ev.ID, ev.Type).Scan(&known); err != nil || !known {
			t.Fatalf("demo did not deliver %s %s: %v", ev.Type, ev.ID, err)
		}
	}
	pool.Close()
	_ = cmd.Process.Signal(syscall.SIGINT)
	<-ended
	if err := cmd.Wait(); err != nil {
		t.Errorf("the demo ends with %v", err)
	}
	if len(receiver.bodies) < 100 {
		t.Errorf("only %d events", len(receiver.bodies))
	}
}
