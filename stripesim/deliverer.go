package stripesim

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/pook/stripeonce/internal/delivery"
)

// The back-off after a response other than 2xx. It doubles after each attempt. Stripe's own lasts for three days.
const (
	firstRetry  = 10 * time.Millisecond
	lastRetry   = time.Second
	maxAttempts = 15
)

// Deliverer delivers a plan as Stripe does: several deliveries concurrently, each retried until it is answered with a 2xx.
type Deliverer struct {
	Sender *delivery.Sender
	// Concurrency is the number of plan entries in flight.
	Concurrency int
	// MaxAttempts bounds the attempts of one delivery. Defaults to 15, which take about ten seconds.
	MaxAttempts int
	// Observe is called with each response, from several goroutines. Optional.
	Observe func(ev *Event, reply delivery.Reply)
	// Pauses are those after each attempt, in place of the usual ones; a delivery has one attempt more. See RetrySchedule.
	Pauses []time.Duration
	// Rate bounds the deliveries per second. 0: no bound.
	Rate float64
	// Took is called with the time of each response, from several goroutines. Optional.
	Took func(took time.Duration)
	// GaveUp is called for each delivery that was never answered with a 2xx, with the last response or error. Optional.
	GaveUp func(ev *Event, reply delivery.Reply, err error)
	// Unanswered is called for each attempt without a response, from several goroutines. Optional.
	Unanswered func(ev *Event, err error)

	tally tally
}

// Tally counts the results of deliveries.
type Tally struct {
	Answered map[string]int // deliveries answered with a 2xx, by outcome
	Retried  int            // retries
	GivenUp  int            // deliveries that were never answered with a 2xx
}

type tally struct {
	mu sync.Mutex
	Tally
	done atomic.Int64
}

// Done returns the number of completed deliveries.
func (d *Deliverer) Done() int { return int(d.tally.done.Load()) }

// Tally returns the counts so far.
func (d *Deliverer) Tally() Tally {
	d.tally.mu.Lock()
	defer d.tally.mu.Unlock()
	copied := d.tally.Tally
	copied.Answered = map[string]int{}
	for outcome, n := range d.tally.Answered {
		copied.Answered[outcome] = n
	}
	return copied
}

// Deliver delivers the plan. It returns when every delivery was answered with a 2xx or given up, or ctx has ended.
func (d *Deliverer) Deliver(ctx context.Context, plan []Delivery) error {
	queue := make(chan Delivery)
	var wg sync.WaitGroup
	for range d.Concurrency {
		wg.Go(func() {
			for entry := range queue {
				d.deliver(ctx, entry)
			}
		})
	}
	limiter := rate.NewLimiter(rate.Inf, 1)
	if d.Rate > 0 {
		limiter.SetLimit(rate.Limit(d.Rate))
	}
	for _, entry := range plan {
		for range entry.Times {
			_ = limiter.Wait(ctx)
		}
		if ctx.Err() != nil {
			break
		}
		queue <- entry
	}
	close(queue)
	wg.Wait()
	return ctx.Err()
}

// deliver sends the duplicates of one entry at the same instant.
func (d *Deliverer) deliver(ctx context.Context, entry Delivery) {
	if entry.Times == 1 {
		d.untilOK(ctx, entry)
		return
	}
	var wg sync.WaitGroup
	for range entry.Times {
		wg.Go(func() { d.untilOK(ctx, entry) })
	}
	wg.Wait()
}

func (d *Deliverer) untilOK(ctx context.Context, entry Delivery) {
	defer d.tally.done.Add(1)
	ev, body := entry.Event, entry.Body()
	pause := firstRetry
	for attempt := 1; ctx.Err() == nil; attempt++ {
		sent := time.Now()
		reply, err := d.Sender.Send(ctx, body)
		if err == nil && d.Took != nil {
			d.Took(time.Since(sent))
		}
		switch {
		case err == nil && d.Observe != nil:
			d.Observe(ev, reply)
		case err != nil && d.Unanswered != nil:
			d.Unanswered(ev, err)
		}
		if err == nil && reply.OK() {
			d.count(func(t *Tally) { t.Answered[string(reply.Outcome())]++ })
			return
		}
		if attempt == d.attempts() {
			d.count(func(t *Tally) { t.GivenUp++ })
			if d.GaveUp != nil {
				d.GaveUp(ev, reply, err)
			}
			return
		}
		d.count(func(t *Tally) { t.Retried++ })
		if len(d.Pauses) > 0 {
			pause = d.Pauses[attempt-1]
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, lastRetry)
	}
}

func (d *Deliverer) attempts() int {
	if len(d.Pauses) > 0 {
		return len(d.Pauses) + 1
	}
	return cmp.Or(d.MaxAttempts, maxAttempts)
}

// RetrySchedule returns pauses that grow as Stripe's do, over some three days, scaled down. Stripe publishes no figures but the
// three days: https://docs.stripe.com/webhooks#retries.
func RetrySchedule(scale float64) (pauses []time.Duration) {
	for _, pause := range []time.Duration{
		5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 12 * time.Hour, 12 * time.Hour, 12 * time.Hour, 12 * time.Hour,
	} {
		pauses = append(pauses, time.Duration(float64(pause)/scale))
	}
	return pauses
}

func (d *Deliverer) count(change func(*Tally)) {
	d.tally.mu.Lock()
	defer d.tally.mu.Unlock()
	if d.tally.Answered == nil {
		d.tally.Answered = map[string]int{}
	}
	change(&d.tally.Tally)
}
