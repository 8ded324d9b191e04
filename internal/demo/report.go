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
	"github.com/pook/stripeonce/internal/stripesim"
)

const (
	checkAnswered = "everything was answered with a 2xx in the end"
	checkWrites   = "duplicates wrote nothing"

	progressInterval = 100 * time.Millisecond
	barWidth         = 30
	shownFindings    = 10 // of each check
	shownDeliveries  = 12
)

func (d *demo) printPlan() {
	s := d.shape
	d.printf("\nA simulated Stripe (seed %d, storm %s)\n", d.Seed, d.Storm)
	d.printf("  %s subscriptions live, which makes %s events\n", number(d.Subscriptions), number(s.Events))
	d.printf("  delivered %s times: %d%% duplicates, %d%% out of order, %s at the same instant as a copy\n",
		number(s.Deliveries), percent(s.Duplicates, s.Deliveries), percent(s.Disordered, s.Deliveries), number(s.AtOnce))
	d.printf("  the handler fails the first time for one event in %d, on purpose; Stripe tries again\n\n", failOneIn)
}

// watch delivers a plan and shows how far it is.
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

// story is what one subscription's deliveries were answered, in the order of the answers.
type story struct {
	mu    sync.Mutex
	sub   *stripesim.Subscription
	lines []string
}

// choose takes the subscription with the most events of its own.
func (s *story) choose(account *stripesim.Account) {
	count := map[string]int{}
	for _, ev := range account.Events {
		if ev.ObjectID == ev.SubscriptionID {
			count[ev.ObjectID]++
		}
	}
	s.sub = slices.MaxFunc(account.Subscriptions, func(a, b *stripesim.Subscription) int { return count[a.ID()] - count[b.ID()] })
}

func (s *story) note(ev *stripesim.Event, reply delivery.Reply) {
	if ev.ObjectID != s.sub.ID() {
		return
	}
	outcome := string(reply.Outcome())
	if outcome == "" {
		outcome = fmt.Sprintf("%d, to be tried again", reply.Status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf("    %s  %-38s %s", time.Unix(ev.Created, 0).UTC().Format("02 Jan 15:04:05"),
		strings.TrimPrefix(ev.Type, "customer."), outcome))
}

func (d *demo) printStory() {
	d.story.mu.Lock()
	defer d.story.mu.Unlock()
	d.printf("One of them, %s, in the order of arrival (with Stripe's time of each event)\n", d.story.sub.ID())
	for _, line := range d.story.lines[:min(shownDeliveries, len(d.story.lines))] {
		d.printf("%s\n", line)
	}
	if more := len(d.story.lines) - shownDeliveries; more > 0 {
		d.printf("    … and %d more\n", more)
	}
}

func (d *demo) printTally(t stripesim.Tally) {
	d.printf("\nWhat came of it, in %.1f s: %s deliveries and %s events a second\n", d.took.Seconds(),
		number(int(float64(d.shape.Deliveries)/d.took.Seconds())), number(int(float64(d.shape.Events)/d.took.Seconds())))
	var parts []string
	for _, outcome := range []string{"processed", "stale", "ignored", "duplicate"} {
		parts = append(parts, fmt.Sprintf("%s %s", outcome, number(t.Answered[outcome])))
	}
	d.printf("  %s, tried again %s\n", strings.Join(parts, ", "), number(t.Retried))
	if p := d.host.projection; p != nil {
		s := p.Stats()
		d.printf("  order within one second: told by the chain of changes %s times, by asking Stripe %s, by rule %s\n",
			number(int(s.Chain)), number(int(s.Refetched)), number(int(s.TieBreak)))
	}
}

// report prints the checks, each with what was found against it.
func (d *demo) report(findings []judge.Finding) error {
	d.printf("\nChecks\n")
	for _, check := range []struct{ name, scope string }{
		{checkAnswered, number(d.shape.Deliveries) + " deliveries"},
		{judge.CheckLedger, number(d.shape.Events) + " events"},
		{judge.CheckEffects, number(d.shape.Events) + " events"},
		{judge.CheckSubscriptions, number(len(d.account.Subscriptions)) + " subscriptions, every column and item"},
		{checkWrites, "no transaction id, no byte of write-ahead log"},
	} {
		var against []judge.Finding
		for _, f := range findings {
			if f.Check == check.name {
				against = append(against, f)
			}
		}
		if len(against) == 0 {
			d.printf("  ok    %s (%s)\n", check.name, check.scope)
			continue
		}
		d.printf("  FAIL  %s: %s differences\n", check.name, number(len(against)))
		for _, f := range against[:min(shownFindings, len(against))] {
			d.printf("          %s\n", f)
		}
		if more := len(against) - shownFindings; more > 0 {
			d.printf("          … and %s more\n", number(more))
		}
	}
	if len(findings) > 0 {
		d.printf("\nThe same deliveries again: stripeonce demo --seed %d --subscriptions %d --storm %s%s\n",
			d.Seed, d.Subscriptions, d.Storm, d.otherFlags())
		return ErrCheck
	}
	if !d.Keep {
		d.printf("\nNext: %s demo --keep leaves it up, with the console; docs/quickstart.md puts it into your application.\n", os.Args[0])
	}
	return nil
}

func (d *demo) otherFlags() string {
	flags := ""
	if d.For > 0 {
		flags += " --for " + d.For.String()
	}
	if d.Receiver != "" {
		flags += " --receiver " + d.Receiver
	}
	return flags
}

func percent(n, of int) int { return 100 * n / max(of, 1) }

// number groups the digits of n by thousands.
func number(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
