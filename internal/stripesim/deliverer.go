package stripesim

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
)

// The back-off after anything but a 2xx, doubling from try to try. Stripe's own goes on for three days.
const (
	firstRetry = 10 * time.Millisecond
	lastRetry  = time.Second
	maxTries   = 15
)

// Deliverer delivers a plan as Stripe does: several deliveries at once, each tried again until it is
// answered with a 2xx.
type Deliverer struct {
	Sender *delivery.Sender
	// Concurrency is how many entries of the plan are under way at once.
	Concurrency int
	// MaxAttempts bounds the tries of one delivery. 0: 15, which takes about ten seconds.
	MaxAttempts int
	// Observe, if set, is told of each answer, from several goroutines.
	Observe func(ev *Event, reply delivery.Reply)
	// Unanswered, if set, is called for each try that got no answer, from several goroutines.
	Unanswered func(ev *Event, err error)

	tally tally
}

// Tally counts what came of deliveries.
type Tally struct {
	Answered map[string]int // by outcome
	Retried  int            // tries after one that was not answered 2xx
	GivenUp  int            // deliveries that were never answered 2xx
}

type tally struct {
	mu sync.Mutex
	Tally
	done atomic.Int64
}

// Done is how many deliveries are done with so far.
func (d *Deliverer) Done() int { return int(d.tally.done.Load()) }

// Tally returns the count so far.
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

// Deliver delivers the plan and returns when everything was answered 2xx, given up, or ctx has ended.
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
	for _, entry := range plan {
		if ctx.Err() != nil {
			break
		}
		queue <- entry
	}
	close(queue)
	wg.Wait()
	return ctx.Err()
}

// deliver sends the copies of one entry at the same instant.
func (d *Deliverer) deliver(ctx context.Context, entry Delivery) {
	if entry.Times == 1 {
		d.untilOK(ctx, entry.Event)
		return
	}
	var wg sync.WaitGroup
	for range entry.Times {
		wg.Go(func() { d.untilOK(ctx, entry.Event) })
	}
	wg.Wait()
}

func (d *Deliverer) untilOK(ctx context.Context, ev *Event) {
	defer d.tally.done.Add(1)
	pause := firstRetry
	for try := 1; ctx.Err() == nil; try++ {
		reply, err := d.Sender.Send(ctx, ev.Body)
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
		if try == cmp.Or(d.MaxAttempts, maxTries) {
			d.count(func(t *Tally) { t.GivenUp++ })
			return
		}
		d.count(func(t *Tally) { t.Retried++ })
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, lastRetry)
	}
}

func (d *Deliverer) count(change func(*Tally)) {
	d.tally.mu.Lock()
	defer d.tally.mu.Unlock()
	if d.tally.Answered == nil {
		d.tally.Answered = map[string]int{}
	}
	change(&d.tally.Tally)
}
