package browser

import (
	"bufio"
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// demo is a running `stripeonce demo --keep`.
type demo struct {
	program string
	console *url.URL // with user and password in it
	route   string   // the URL that takes deliveries
	secret  string   // the signing secret
}

// startDemo starts the demo, waits until its console is available, and stops it when the test ends.
func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{program: filepath.Join(t.TempDir(), "stripeonce")}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", d.program, "./cmd/stripeonce")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, d.program, "demo", "--keep", "--subscriptions", "60")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stepTimeout
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	late := time.AfterFunc(demoTimeout, cancel)
	said := d.read(bufio.NewScanner(stdout))
	if !late.Stop() || d.route == "" {
		cancel()
		_ = cmd.Wait()
		t.Fatalf("the demo shows no console within %s. It says:\n%s%s", demoTimeout, said, &stderr)
	}
	return d
}

var (
	consoleURL = regexp.MustCompile(`The console: (\S+)`)
	login      = regexp.MustCompile(`user (\S+), password (\S+)`)
	sendLine   = regexp.MustCompile(`STRIPE_WEBHOOK_SECRET=(\S+) .* send --to (\S+)`)
)

// read reads the demo's output up to the command that delivers to it.
func (d *demo) read(lines *bufio.Scanner) (said string) {
	for d.route == "" && lines.Scan() {
		said += lines.Text() + "\n"
		if m := consoleURL.FindStringSubmatch(lines.Text()); m != nil {
			d.console, _ = url.Parse(m[1])
		}
		if m := login.FindStringSubmatch(lines.Text()); m != nil && d.console != nil {
			d.console.User = url.UserPassword(m[1], m[2])
		}
		if m := sendLine.FindStringSubmatch(lines.Text()); m != nil && d.console != nil {
			d.secret, d.route = m[1], m[2]
		}
	}
	return said
}

// send delivers an event of a type without a handler, which the ledger lists first.
func (d *demo) send(t *testing.T, id string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), d.program, "send", "--to", d.route, "-")
	cmd.Env = append(os.Environ(), "STRIPE_WEBHOOK_SECRET="+d.secret, "STRIPE_WEBHOOK_SECRET_FILE=")
	cmd.Stdin = strings.NewReader(`{"id":"` + id + `","object":"event","type":"coupon.created","created":1767603600,"data":{"object":{"id":"c"}}}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("send: %v\n%s", err, out)
	}
}
