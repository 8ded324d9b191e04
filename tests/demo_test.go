package tests

import (
	"regexp"
	"strings"
	"testing"
)

// The demo ends by itself, with 0, and piped it prints plain lines.
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

// The same seed makes the same deliveries and applies the same number of events.
func TestDemoIsDeterministic(t *testing.T) {
	t.Parallel()
	plan := regexp.MustCompile(`(?m)^  (\d+ subscriptions live.*|delivered .*)$`)
	applied := regexp.MustCompile(`each event took effect once \([0-9,]+ events\)`)
	told := func() string {
		r := run(t, environ(), "", "demo", "--subscriptions", "20", "--storm", "wild", "--seed", "11")
		if r.code != 0 {
			t.Error(r)
		}
		return strings.Join(plan.FindAllString(r.stdout, -1), "\n") + applied.FindString(r.stdout)
	}
	first, second := told(), told()
	if first != second || strings.Count(first, "\n") != 1 || !strings.Contains(first, "took effect once") {
		t.Errorf("one seed told\n%s\nand\n%s", first, second)
	}
}

// A receiver that is broken makes it end with 1, name what is wrong and how to see it again.
func TestDemoCatchesABrokenReceiver(t *testing.T) {
	t.Parallel()
	r := run(t, environ(), "", "demo", "--subscriptions", "40", "--receiver", "last-writer-wins")
	for _, want := range []string{"  FAIL  each subscription is stored once", "subscription sub_1", ": want ", ", got ",
		"stripeonce demo --seed 1 --subscriptions 40 --storm default --receiver last-writer-wins"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if r.code != 1 {
		t.Error(r)
	}
}

// --for goes on with further waves, which the checks take in.
func TestDemoFor(t *testing.T) {
	t.Parallel()
	r := run(t, environ(), "", "demo", "--subscriptions", "5", "--for", "1s", "--storm", "mild")
	if r.code != 0 || !regexp.MustCompile(`\(\d{2,} subscriptions, every column`).MatchString(r.stdout) {
		t.Error(r)
	}
}
