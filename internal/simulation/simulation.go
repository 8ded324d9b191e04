// Package simulation runs a simulated Stripe against an endpoint, for a person at a terminal.
package simulation

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/stripesim"
)

const (
	progressInterval = 100 * time.Millisecond
	shownRefused     = 10
)

// Run is one simulation against one endpoint.
type Run struct {
	Simulation stripesim.Simulation
	API        *stripesim.API
	Deliverer  *stripesim.Deliverer
	Progress   *cli.Progress // nil: none is shown
	Out        io.Writer
}

// Deliver prints what is going to be delivered, and delivers it.
func (r *Run) Deliver(ctx context.Context) error {
	planned, first := make(chan int, 1), true
	s := r.Simulation
	s.Planned = func(plan []stripesim.Delivery) {
		if first {
			r.printPlan(stripesim.Measure(plan))
			first = false
		}
		if r.Simulation.Planned != nil {
			r.Simulation.Planned(plan)
		}
		planned <- stripesim.Measure(plan).Deliveries
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, r.API, r.Deliverer) }()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for total := 0; ; {
		select {
		case n := <-planned:
			total += n
		case <-tick.C:
			if r.Progress != nil {
				r.Progress.Show(float64(r.Deliverer.Done())/float64(max(total, 1)), "%s of %s deliveries", Number(r.Deliverer.Done()), Number(total))
			}
		case err := <-done:
			if r.Progress != nil {
				r.Progress.Clear()
			}
			return err
		}
	}
}

func (r *Run) printf(format string, args ...any) { fmt.Fprintf(r.Out, format, args...) }

func (r *Run) printPlan(shape stripesim.Shape) {
	s := &r.Simulation
	r.printf("A simulated Stripe (seed %d, storm %s)\n", s.Seed, s.Storm.Name)
	r.printf("  %s subscriptions, %s events\n", Number(s.Subscriptions), Number(shape.Events))
	r.printf("  delivered %s times: %d%% duplicates, %d%% out of order, %s at the same instant as a duplicate\n",
		Number(shape.Deliveries), percent(shape.Duplicates, shape.Deliveries), percent(shape.Disordered, shape.Deliveries), Number(shape.AtOnce))
	switch s.Storm.Thin {
	case stripesim.ThinOnly:
		r.printf("  as thin events, half of them without the id of their snapshot event\n")
	case stripesim.ThinAndTwin:
		r.printf("  each also as a thin event\n")
	case stripesim.SnapshotOnly:
	}
	if s.Connect {
		r.printf("  a quarter of connected accounts\n")
	}
	r.API.Do(func(account *stripesim.Account) {
		if account.Billing {
			r.printf("  with %s customers, %s products, %s prices and %s invoices\n", Number(len(account.Customers)),
				Number(len(account.Products)), Number(len(account.Prices)), Number(len(account.Invoices)))
		}
	})
}

// PrintReport prints what was answered.
func (r *Run) PrintReport() {
	report := r.Deliverer.Report()
	took := max(report.Seconds, 0.001)
	r.printf("Result: %.1f s, %s deliveries/s, %s events/s\n", report.Seconds,
		Number(int(float64(report.Deliveries)/took)), Number(int(float64(report.Events)/took)))
	var answers []string
	for _, status := range sortedKeys(report.Statuses) {
		answers = append(answers, fmt.Sprintf("%d: %s times", status, Number(report.Statuses[status])))
	}
	if report.Unanswered > 0 {
		answers = append(answers, "not at all: "+Number(report.Unanswered)+" times")
	}
	r.printf("  answered %s; retried %s\n", strings.Join(answers, ", "), Number(report.Retried))
	if outcomes := outcomes(report.Outcomes); outcomes != "" {
		r.printf("  outcomes: %s\n", outcomes)
	}
	r.printf("  a response took %.1f ms (median), %.1f ms (99th percentile)\n", milliseconds(report.Median), milliseconds(report.P99))
	for _, one := range report.Refused[:min(shownRefused, len(report.Refused))] {
		r.printf("  never accepted: %s  %s  %s\n", one.EventID, one.EventType, cli.OneLine(one.Answer))
	}
	if more := len(report.Refused) - shownRefused; more > 0 {
		r.printf("  … and %s more\n", Number(more))
	}
}

// outcomes lists the outcomes of stripeonce, or returns an empty text for other receivers.
func outcomes(counts map[string]int) string {
	var list []string
	for _, outcome := range sortedKeys(counts) {
		if outcome != "" {
			list = append(list, outcome+" "+Number(counts[outcome]))
		}
	}
	return strings.Join(list, ", ")
}

func sortedKeys[K int | string](m map[K]int) []K {
	keys := make([]K, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func percent(n, of int) int { return 100 * n / max(of, 1) }

// Number formats n with separated thousands.
func Number(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
