package demo

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/stripesim"
)

const (
	checkAnswered = "every delivery was eventually answered with a 2xx"
	checkWrites   = "duplicates wrote nothing"

	progressInterval = 100 * time.Millisecond
	barWidth         = 30
	shownFindings    = 10 // of each check
	shownDeliveries  = 12
)

func (d *demo) printPlan() {
	s := d.shape
	d.printf("\nA simulated Stripe (seed %d, storm %s)\n", d.Seed, d.Storm)
	d.printf("  %s subscriptions, %s events\n", number(d.Subscriptions), number(s.Events))
	d.printf("  delivered %s times: %d%% duplicates, %d%% out of order, %s at the same instant as a duplicate\n",
		number(s.Deliveries), percent(s.Duplicates, s.Deliveries), percent(s.Disordered, s.Deliveries), number(s.AtOnce))
	switch d.Thin {
	case stripesim.ThinOnly:
		d.printf("  as thin events, half of them without the id of their snapshot event; a quarter of connected accounts\n")
	case stripesim.ThinAndTwin:
		d.printf("  each also as a thin event; a quarter of connected accounts\n")
	case stripesim.SnapshotOnly:
	}
	d.printf("  the handler fails on purpose on the first attempt of one event in %d; Stripe retries\n\n", failOneIn)
}

// watch delivers a plan and shows its progress.
func (d *demo) watch(ctx context.Context, deliverer *stripesim.Deliverer, plan []stripesim.Delivery) error {
	done := make(chan error, 1)
	go func() { done <- deliverer.Deliver(ctx, plan) }()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if d.Live {
				d.printf("\r\033[K")
			}
			return err
		case <-tick.C:
			if d.Live {
				d.printf("\r  %s", bar(deliverer.Done(), d.shape.Deliveries))
			}
		}
	}
}

func bar(done, of int) string {
	full := barWidth * done / max(of, 1)
	return fmt.Sprintf("[%s%s] %s of %s deliveries", strings.Repeat("█", full), strings.Repeat("·", barWidth-full), number(done), number(of))
}

// history has the responses to one subscription's deliveries, in their order.
type history struct {
	mu    sync.Mutex
	sub   *stripesim.Subscription
	lines []string
}

// choose selects the subscription with the most events.
func (s *history) choose(account *stripesim.Account) {
	count := map[string]int{}
	for _, ev := range account.Events {
		if ev.ObjectID == ev.SubscriptionID {
			count[ev.ObjectID]++
		}
	}
	s.sub = slices.MaxFunc(account.Subscriptions, func(a, b *stripesim.Subscription) int { return count[a.ID()] - count[b.ID()] })
}

func (s *history) record(ev *stripesim.Event, reply delivery.Reply) {
	if ev.ObjectID != s.sub.ID() {
		return
	}
	outcome := string(reply.Outcome())
	if outcome == "" {
		outcome = fmt.Sprintf("%d, to be retried", reply.Status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf("    %s  %-38s %s", time.Unix(ev.Created, 0).UTC().Format("02 Jan 15:04:05"),
		strings.TrimPrefix(ev.Type, "customer."), outcome))
}

func (d *demo) printHistory() {
	d.history.mu.Lock()
	defer d.history.mu.Unlock()
	d.printf("One of them, %s, in the order of arrival (with Stripe's time of each event)\n", d.history.sub.ID())
	for _, line := range d.history.lines[:min(shownDeliveries, len(d.history.lines))] {
		d.printf("%s\n", line)
	}
	if more := len(d.history.lines) - shownDeliveries; more > 0 {
		d.printf("    … and %d more\n", more)
	}
}

func (d *demo) printTally(t stripesim.Tally) {
	d.printf("\nResult: %.1f s, %s deliveries/s, %s events/s\n", d.took.Seconds(),
		number(int(float64(d.shape.Deliveries)/d.took.Seconds())), number(int(float64(d.shape.Events)/d.took.Seconds())))
	var parts []string
	for _, outcome := range []string{"processed", "stale", "ignored", "duplicate"} {
		parts = append(parts, fmt.Sprintf("%s %s", outcome, number(t.Answered[outcome])))
	}
	d.printf("  %s, retried %s\n", strings.Join(parts, ", "), number(t.Retried))
	if p := d.host.projection; p != nil {
		s := p.Stats()
		d.printf("  order within one second: by the chain of changes %s times, by refetching from Stripe %s, by tie-break %s\n",
			number(int(s.Chain)), number(int(s.Refetched)), number(int(s.TieBreak)))
	}
	if d.host.api != nil {
		n := d.host.api.Count()
		d.printf("  requests to Stripe's API: %s, %.2f for each event\n", number(n), float64(n)/float64(max(d.shape.Events, 1)))
	}
}

// report prints the checks with their findings.
func (d *demo) report(findings []judge.Finding) error {
	d.printf("\nChecks\n")
	for _, check := range []struct{ name, scope string }{
		{checkAnswered, number(d.shape.Deliveries) + " deliveries"},
		{judge.CheckLedger, number(d.shape.Events) + " events"},
		{judge.CheckEffects, number(d.shape.Events) + " events"},
		{judge.CheckSubscriptions, number(len(d.account.Subscriptions)) + " subscriptions, every column and item"},
		{checkWrites, "no transaction id, no byte of write-ahead log"},
	} {
		var failed []judge.Finding
		for _, f := range findings {
			if f.Check == check.name {
				failed = append(failed, f)
			}
		}
		if len(failed) == 0 {
			d.printf("  ok    %s (%s)\n", check.name, check.scope)
			continue
		}
		d.printf("  FAIL  %s: %s differences\n", check.name, number(len(failed)))
		for _, f := range failed[:min(shownFindings, len(failed))] {
			d.printf("          %s\n", f)
		}
		if more := len(failed) - shownFindings; more > 0 {
			d.printf("          … and %s more\n", number(more))
		}
	}
	if len(findings) > 0 {
		d.printf("\nTo repeat these deliveries: stripeonce demo --seed %d --subscriptions %d --storm %s%s\n",
			d.Seed, d.Subscriptions, d.Storm, d.otherFlags())
		return ErrCheck
	}
	if !d.Keep {
		d.printf("\nNext: %s demo --keep keeps it running, with the console; docs/quickstart.md adds it to your application.\n", os.Args[0])
	}
	return nil
}

func (d *demo) otherFlags() string {
	flags := ""
	if d.For > 0 {
		flags += " --for " + d.For.String()
	}
	if d.Thin != stripesim.SnapshotOnly {
		flags += " --thin=" + string(d.Thin)
	}
	if d.Receiver != "" {
		flags += " --receiver " + d.Receiver
	}
	return flags
}

func percent(n, of int) int { return 100 * n / max(of, 1) }

// number formats n with separated thousands.
func number(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
