package demo

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/simulation"
	"github.com/pook/stripeonce/stripesim"
)

const (
	checkAnswered = "every delivery was eventually answered with a 2xx"
	checkWrites   = "duplicates wrote nothing"

	shownFindings   = 10 // of each check
	shownDeliveries = 12
)

// history has the responses to one subscription's deliveries, in their order.
type history struct {
	mu    sync.Mutex
	sub   *stripesim.Subscription
	lines []string
}

// choose selects the subscription with the most events of the first wave.
func (s *history) choose(account *stripesim.Account) {
	if s.sub != nil {
		return
	}
	count := map[string]int{}
	for _, ev := range account.Events {
		if ev.ObjectID == ev.SubscriptionID {
			count[ev.ObjectID]++
		}
	}
	s.sub = slices.MaxFunc(account.Subscriptions, func(a, b *stripesim.Subscription) int { return count[a.ID()] - count[b.ID()] })
}

func (s *history) record(a stripesim.Attempt) {
	ev := a.Event
	if ev.ObjectID != s.sub.ID() {
		return
	}
	outcome := a.Outcome()
	if outcome == "" {
		outcome = fmt.Sprintf("%d, to be retried", a.Status)
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

// printWork prints what else it took.
func (d *demo) printWork(report *stripesim.Report) {
	d.printf("  the handler failed on purpose on the first attempt of one event in %d\n", failOneIn)
	if p := d.host.projection; p != nil {
		s := p.Stats()
		d.printf("  order within one second: by the chain of changes %s times, by refetching from Stripe %s, by tie-break %s\n",
			simulation.Number(int(s.Chain)), simulation.Number(int(s.Refetched)), simulation.Number(int(s.TieBreak)))
	}
	n := d.host.api.Count()
	d.printf("  requests to Stripe's API: %s, %.2f for each event\n", simulation.Number(n), float64(n)/float64(max(report.Events, 1)))
}

// report prints the checks with their findings.
func (d *demo) report(report *stripesim.Report, findings []judge.Finding) error {
	d.printf("\nChecks\n")
	checks := []struct{ name, scope string }{
		{checkAnswered, simulation.Number(report.Deliveries) + " deliveries"},
		{judge.CheckLedger, simulation.Number(report.Events) + " events"},
		{judge.CheckEffects, simulation.Number(report.Events) + " events"},
		{judge.CheckSubscriptions, simulation.Number(len(d.account.Subscriptions)) + " subscriptions, every column and item"},
		{checkWrites, "no transaction id, no byte of write-ahead log"},
	}
	if d.host.mirrors {
		others := slices.DeleteFunc(d.account.Objects(), func(o stripesim.Object) bool { return !slices.Contains(mirrored, o.Type) })
		checks = append(checks, struct{ name, scope string }{judge.CheckObjects, simulation.Number(len(others)) + " customers, invoices, payments and others"})
	}
	for _, check := range checks {
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
		d.printf("  FAIL  %s: %s differences\n", check.name, simulation.Number(len(failed)))
		for _, f := range failed[:min(shownFindings, len(failed))] {
			d.printf("          %s\n", f)
		}
		if more := len(failed) - shownFindings; more > 0 {
			d.printf("          … and %s more\n", simulation.Number(more))
		}
	}
	if len(findings) > 0 {
		d.printf("\nTo repeat these deliveries: %s\n", d.Repeat)
		return ErrCheck
	}
	if !d.Keep {
		d.printf("\nNext: %s demo --keep keeps it running, with the console; docs/quickstart.md adds it to your application.\n", os.Args[0])
	}
	return nil
}
