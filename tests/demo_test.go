package tests

import (
	"regexp"
	"strings"
	"testing"
)

// The demo exits with 0, and prints plain lines if its output is piped.
func TestDemo(t *testing.T) {
	t.Parallel()
	r := run(t, environ(), "", "demo", "--subscriptions", "60", "--seed", "5")
	if r.code != 0 || strings.Count(r.stdout, "\n  ok    ") != 5 || strings.ContainsAny(r.stdout, "\r\033") {
		t.Error(r)
	}
	if r.stderr != "" {
		t.Errorf("it writes to standard error: %s", r.stderr)
	}
}

// The same seed gives the same deliveries and the same number of effects.
func TestDemoIsDeterministic(t *testing.T) {
	t.Parallel()
	plan := regexp.MustCompile(`(?m)^  (\d+ subscriptions, .*|to be delivered .*)$`)
	applied := regexp.MustCompile(`each event took effect once \([0-9,]+ events\)`)
	summary := func() string {
		r := run(t, environ(), "", "demo", "--subscriptions", "20", "--storm", "wild", "--seed", "11")
		if r.code != 0 {
			t.Error(r)
		}
		return strings.Join(plan.FindAllString(r.stdout, -1), "\n") + applied.FindString(r.stdout)
	}
	first, second := summary(), summary()
	if first != second || strings.Count(first, "\n") != 1 || !strings.Contains(first, "took effect once") {
		t.Errorf("the same seed printed\n%s\nand\n%s", first, second)
	}
}

// With an incorrect receiver, the demo exits with 1, names the mistakes and prints how to repeat them.
func TestDemoCatchesABrokenReceiver(t *testing.T) {
	t.Parallel()
	r := run(t, environ(), "", "demo", "--subscriptions", "40", "--receiver", "last-writer-wins")
	for _, want := range []string{"  FAIL  each subscription is stored once", "subscription sub_1", ": want ", ", got ",
		"stripeonce demo --receiver=last-writer-wins --subscriptions=40"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if r.code != 1 {
		t.Error(r)
	}
}

// --for delivers more waves, which are checked as well.
func TestDemoFor(t *testing.T) {
	t.Parallel()
	r := run(t, environ(), "", "demo", "--subscriptions", "5", "--for", "1s", "--storm", "mild")
	if r.code != 0 || !regexp.MustCompile(`\(\d{2,} subscriptions, every column`).MatchString(r.stdout) {
		t.Error(r)
	}
}

// The storm as thin events, and in both forms: all checks hold, and the number of requests to Stripe is printed.
func TestDemoThin(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--thin", "--thin=both"} {
		r := run(t, environ(), "", "demo", "--subscriptions", "30", flag)
		requests := regexp.MustCompile(`requests to Stripe's API: \d+, \d\.\d\d for each event`)
		if r.code != 0 || strings.Count(r.stdout, "\n  ok    ") != 5 || !requests.MatchString(r.stdout) {
			t.Errorf("%s: %s", flag, r)
		}
	}
}
