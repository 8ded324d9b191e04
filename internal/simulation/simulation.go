// Package simulation runs a simulated Stripe against an endpoint, for a person at a terminal.
package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/stripesim"
)

const (
	progressInterval = 100 * time.Millisecond
	// lineInterval is the time between lines of progress where there is no terminal.
	lineInterval = 10 * time.Second
	shownRefused = 10
)

// ErrInterrupted reports that the deliveries were interrupted.
var ErrInterrupted = errors.New("interrupted")

// Run is one simulation against one endpoint.
type Run struct {
	Simulation stripesim.Simulation
	API        *stripesim.API
	Deliverer  *stripesim.Deliverer
	Progress   *cli.Progress // nil: none is shown
	Lines      io.Writer     // gets a line of progress every 10 seconds, for where Progress has no terminal; nil: none
	Out        io.Writer

	interrupted bool
}

// Deliver prints what is going to be delivered, and delivers it.
func (r *Run) Deliver(ctx context.Context) error {
	planned := make(chan stripesim.Shape)
	s := r.Simulation
	s.Planned = func(plan []stripesim.Delivery) {
		if r.Simulation.Planned != nil {
			r.Simulation.Planned(plan)
		}
		planned <- stripesim.Measure(plan)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, r.API, r.Deliverer) }()
	tick, line := time.NewTicker(progressInterval), time.NewTicker(lineInterval)
	defer tick.Stop()
	defer line.Stop()
	for total := 0; ; {
		select {
		case shape := <-planned:
			if total == 0 {
				r.clear()
				r.printPlan(shape)
			}
			total += shape.Deliveries
		case <-tick.C:
			if r.Progress != nil && total > 0 {
				r.Progress.Show(float64(r.Deliverer.Done())/float64(total), "%s of %s deliveries", Number(r.Deliverer.Done()), Number(total))
			}
		case <-line.C:
			if r.Lines != nil && total > 0 {
				fmt.Fprintf(r.Lines, "%s of %s deliveries\n", Number(r.Deliverer.Done()), Number(total))
			}
		case err := <-done:
			r.clear()
			if errors.Is(err, context.Canceled) {
				r.interrupted, err = true, ErrInterrupted
			}
			return err
		}
	}
}

func (r *Run) clear() {
	if r.Progress != nil {
		r.Progress.Clear()
	}
}

func (r *Run) printf(format string, args ...any) { fmt.Fprintf(r.Out, format, args...) }

func (r *Run) printPlan(shape stripesim.Shape) {
	s := &r.Simulation
	r.printf("A simulated Stripe (seed %d, storm %s)\n", s.Seed, s.Storm.Name)
	wave := ""
	if s.For > 0 {
		wave = " in the first wave"
	}
	r.printf("  %s subscriptions, %s events%s\n", Number(s.Subscriptions), Number(shape.Events), wave)
	r.printf("  to be delivered %s: %d%% duplicates, %d%% out of order, %s at the same instant as a duplicate\n",
		times(shape.Deliveries), percent(shape.Duplicates, shape.Deliveries), percent(shape.Disordered, shape.Deliveries), Number(shape.AtOnce))
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
	what := Number(report.Events) + " events in " + Number(report.Deliveries) + " deliveries"
	if report.Completed < report.Deliveries {
		verb := "stopped"
		if r.interrupted {
			verb = "interrupted"
		}
		what = fmt.Sprintf("%s after %s of %s deliveries", verb, Number(report.Completed), Number(report.Deliveries))
	}
	r.printf("Result: %s, %.1f s, %s deliveries/s, %s events/s\n", what, report.Seconds,
		perSecond(report.Completed, report.Seconds), perSecond(report.Accepted, report.Seconds))
	var answers []string
	for _, status := range sortedKeys(report.Statuses) {
		answers = append(answers, fmt.Sprintf("%d: %s", status, times(report.Statuses[status])))
	}
	if report.Unanswered > 0 {
		answers = append(answers, "not at all: "+times(report.Unanswered))
	}
	if len(answers) > 0 {
		r.printf("  answered %s; retried %s\n", strings.Join(answers, ", "), times(report.Retried))
	}
	if outcomes := outcomes(report.Outcomes); outcomes != "" {
		r.printf("  outcomes: %s\n", outcomes)
	}
	if len(report.Statuses) > 0 {
		r.printf("  a response took %.1f ms (median), %.1f ms (99th percentile)\n", milliseconds(report.Median), milliseconds(report.P99))
	}
	if report.GivenUp > 0 {
		r.printf("  given up %s, after the last of %s attempts\n", times(report.GivenUp), attempts(r.Deliverer.Pauses))
	}
	for _, one := range report.Refused[:min(shownRefused, len(report.Refused))] {
		r.printf("  never accepted: %s  %s  %s\n", one.EventID, one.EventType, cli.OneLine(one.Answer))
	}
	if more := len(report.Refused) - shownRefused; more > 0 {
		r.printf("  … and %s more\n", Number(more))
	}
}

// Hint says what to check after an error of Deliver. It is empty for errors that say so themselves.
func Hint(err error) string {
	var e *stripesim.NotReceivingError
	if !errors.As(err, &e) {
		return ""
	}
	switch {
	case e.Last.Err != nil:
		return "is the receiver running, and is --to its URL?"
	case e.Last.Status/100 == 3:
		return "like Stripe, simulate follows no redirect: use the redirect's URL in --to"
	case e.Last.Status == http.StatusNotFound || e.Last.Status == http.StatusMethodNotAllowed:
		return "is the path of --to the receiver's webhook route?"
	default:
		return "does the receiver verify the raw body with the secret in STRIPE_WEBHOOK_SECRET?"
	}
}

func attempts(pauses []time.Duration) string {
	if pauses == nil {
		pauses = stripesim.RetrySchedule(stripesim.DefaultRetryScale)
	}
	return Number(len(pauses) + 1)
}

// outcomes lists the outcomes of stripeonce, or returns an empty text for other receivers.
func outcomes(counts map[string]int) string {
	var list []string
	for _, outcome := range sortedKeys(counts) {
		list = append(list, outcome+" "+Number(counts[outcome]))
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

// perSecond formats a rate, a low one with a decimal.
func perSecond(n int, seconds float64) string {
	rate := float64(n) / max(seconds, 0.001)
	if rate < 10 {
		return strconv.FormatFloat(rate, 'f', 1, 64)
	}
	return Number(int(rate))
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return Number(n) + " times"
}

// Number formats n with separated thousands.
func Number(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
