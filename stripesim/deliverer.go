package stripesim

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/pook/stripeonce/internal/delivery"
)

// The defaults of a Deliverer.
const (
	DefaultConcurrency = 24
	DefaultRetryScale  = 20_000 // of RetrySchedule: twelve seconds in place of three days
)

// Deliverer delivers events to an endpoint as Stripe does: signed, several at once, each again until the response is a 2xx.
type Deliverer struct {
	URL    string // of the endpoint
	Secret string // its signing secret
	// Concurrency is the number of deliveries in flight. Duplicates at the same instant count as one. Defaults to
	// DefaultConcurrency.
	Concurrency int
	// Pauses are those after each attempt without a 2xx. After the last one, a delivery is given up. Defaults to
	// RetrySchedule(DefaultRetryScale).
	Pauses []time.Duration
	// Rate is the maximum number of deliveries a second, without retries. 0: as fast as they are answered.
	Rate float64
	// Observe is called with each attempt, from several goroutines. Optional.
	Observe func(Attempt)

	results results
	done    atomic.Int64
}

// Attempt is one attempt of a delivery, and what was answered.
type Attempt struct {
	Event  *Event
	Err    error // why there was no response
	Status int   // 0: no response
	Header http.Header
	Body   []byte // trimmed, and cut to 4 KiB
	// Took is the time until the response, or until there was none.
	Took time.Duration
	// Last reports that the delivery is not attempted again.
	Last bool

	reply delivery.Reply
}

// OK reports whether the response is a 2xx, the only one that Stripe does not retry.
func (a Attempt) OK() bool { return a.Err == nil && a.reply.OK() }

// Outcome returns the outcome in a response of stripeonce, such as "processed". It is empty for other receivers.
func (a Attempt) Outcome() string { return string(a.reply.Outcome()) }

// String returns the status and the body of the response, or why there was none.
func (a Attempt) String() string {
	if a.Err != nil {
		return a.Err.Error()
	}
	return a.reply.String()
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

// Deliver delivers a plan. It returns when every delivery was answered with a 2xx or given up, or ctx has ended. Several calls
// add to one Report.
func (d *Deliverer) Deliver(ctx context.Context, plan []Delivery) error {
	began := time.Now()
	d.results.begin(Measure(plan))
	defer func() { d.results.end(time.Since(began)) }()
	concurrency := cmp.Or(d.Concurrency, DefaultConcurrency)
	sender := delivery.NewSender(d.URL, d.Secret, 4*concurrency)
	defer sender.Close()
	queue := make(chan Delivery)
	var wg sync.WaitGroup
	for range concurrency {
		wg.Go(func() {
			for entry := range queue {
				d.deliver(ctx, sender, entry)
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
func (d *Deliverer) deliver(ctx context.Context, sender *delivery.Sender, entry Delivery) {
	var wg sync.WaitGroup
	for range entry.Times - 1 {
		wg.Go(func() { d.untilOK(ctx, sender, entry) })
	}
	d.untilOK(ctx, sender, entry)
	wg.Wait()
}

func (d *Deliverer) untilOK(ctx context.Context, sender *delivery.Sender, entry Delivery) {
	defer d.done.Add(1)
	body, pauses := entry.Body(), d.Pauses
	if pauses == nil {
		pauses = RetrySchedule(DefaultRetryScale)
	}
	for n := 0; ctx.Err() == nil; n++ {
		sent := time.Now()
		reply, err := sender.Send(ctx, body)
		if ctx.Err() != nil {
			return
		}
		a := Attempt{
			Event: entry.Event, Err: err, Status: reply.Status, Header: reply.Header, Body: reply.Body, Took: time.Since(sent),
			Last: n == len(pauses) || err == nil && reply.OK(), reply: reply,
		}
		d.results.add(a)
		if d.Observe != nil {
			d.Observe(a)
		}
		if a.Last {
			return
		}
		select {
		case <-time.After(pauses[n]):
		case <-ctx.Done():
		}
	}
}

// Done returns the number of completed deliveries.
func (d *Deliverer) Done() int { return int(d.done.Load()) }

// Refused is a delivery that was never answered with a 2xx.
type Refused struct {
	EventID   string `json:"event_id"`
	EventType string `json:"event_type"`
	Answer    string `json:"answer"` // the last one
}

func refused(a Attempt) Refused { return Refused{a.Event.ID, a.Event.Type, fmt.Sprint(a)} }
