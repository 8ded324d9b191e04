package stripesim

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pook/stripeonce/internal/delivery"
)

// Deliver delivers a plan. It returns when every delivery was answered with a 2xx or given up, or ctx has ended. Several calls
// add to one Report.
func (d *Deliverer) Deliver(ctx context.Context, plan []Delivery) error {
	if d.API != nil {
		d.API.Do(func(*Account) { d.API.hold(plan) })
	}
	return d.deliver(ctx, plan, d.API)
}

// deliver is Deliver with an API that holds the plan, or nil.
func (d *Deliverer) deliver(ctx context.Context, plan []Delivery, api *API) error {
	if api != nil {
		defer api.release(plan)
	}
	if err := errors.Join(d.check(), checkPlan(plan)); err != nil {
		return err
	}
	began := time.Now()
	d.results.begin(Measure(plan))
	defer func() { d.results.end(time.Since(began)) }()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	concurrency := cmp.Or(d.Concurrency, DefaultConcurrency)
	r := &run{
		Deliverer: d, api: api, ctx: ctx, stop: stop, slots: make(chan struct{}, concurrency), waiting: map[string][]Delivery{},
		sender: delivery.NewSender(d.URL, d.Secret, 4*concurrency),
	}
	r.sender.SetTimeout(cmp.Or(d.Timeout, DefaultTimeout))
	defer r.sender.Close()
	limiter := rate.NewLimiter(rate.Inf, 1)
	if d.Rate > 0 {
		limiter.SetLimit(rate.Limit(d.Rate))
	}
	for _, entry := range plan {
		for range entry.Times {
			_ = limiter.Wait(ctx)
		}
		if r.isNext(entry) && r.acquire() {
			r.deliveries.Go(func() { r.deliver(entry) })
		}
	}
	r.deliveries.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func checkPlan(plan []Delivery) error {
	for _, entry := range plan {
		switch {
		case entry.Event == nil || entry.Times < 1:
			return errors.New("stripesim: a delivery needs an Event, and Times of at least 1")
		case entry.Form != Snapshot && entry.Event.render == nil:
			return errors.New("stripesim: only the event of an Account has a thin form")
		}
	}
	return nil
}

// run is one call of Deliver.
type run struct {
	*Deliverer
	api        *API // nil: none
	ctx        context.Context
	stop       context.CancelCauseFunc
	sender     *delivery.Sender
	slots      chan struct{} // one for each delivery in flight
	deliveries sync.WaitGroup

	mu sync.Mutex
	// The ordered deliveries that wait for the one before them, by subscription or other object. No entry: none is in progress.
	waiting map[string][]Delivery
}

// isNext reports whether a delivery can begin. Otherwise the one before it, of the same object, takes it over.
func (r *run) isNext(entry Delivery) bool {
	if !entry.InOrder {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	group := entry.Event.group()
	list, busy := r.waiting[group]
	if busy {
		list = append(list, entry)
	}
	r.waiting[group] = list
	return !busy
}

// next returns the delivery that waits for this one.
func (r *run) next(entry Delivery) (next Delivery, found bool) {
	if !entry.InOrder {
		return next, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	group := entry.Event.group()
	list := r.waiting[group]
	if len(list) == 0 {
		delete(r.waiting, group)
		return next, false
	}
	r.waiting[group] = list[1:]
	return list[0], true
}

// acquire waits for a slot. It returns false if the deliveries are stopped.
func (r *run) acquire() bool {
	select {
	case r.slots <- struct{}{}:
		return r.ctx.Err() == nil
	case <-r.ctx.Done():
		return false
	}
}

// deliver delivers an entry, which has a slot, and those that wait for it.
func (r *run) deliver(entry Delivery) {
	for {
		r.untilOK(entry)
		next, found := r.next(entry)
		if !found || !r.acquire() {
			return
		}
		entry = next
	}
}

// untilOK sends the duplicates of an entry at the same instant, in one slot, and then each again until it is accepted or given up. A
// delivery that waits for its next attempt has no slot.
func (r *run) untilOK(entry Delivery) {
	if r.api != nil {
		r.api.begin(entry.Event)
	}
	body, pauses := entry.Body(), r.Pauses
	if pauses == nil {
		pauses = RetrySchedule(DefaultRetryScale)
	}
	var sent, done sync.WaitGroup
	for range entry.Times {
		sent.Add(1)
		done.Go(func() {
			again := r.attempt(entry, body, len(pauses) == 0)
			sent.Done()
			for n := 0; again && r.sleep(pauses[n]) && r.acquire(); n++ {
				again = r.attempt(entry, body, n+1 == len(pauses))
				<-r.slots
			}
		})
	}
	sent.Wait()
	<-r.slots
	done.Wait()
}

// sleep returns false if the deliveries are stopped.
func (r *run) sleep(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// attempt sends a body once, and reports whether it is to be sent again.
func (r *run) attempt(entry Delivery, body []byte, last bool) (again bool) {
	began := time.Now()
	reply, err := r.sender.Send(r.ctx, body)
	if r.ctx.Err() != nil {
		return false
	}
	if reply.Status != 0 {
		err = nil // only its body is incomplete
	}
	a := Attempt{
		Event: entry.Event, Form: entry.Form, Err: err, Status: reply.Status, Header: reply.Header, Body: reply.Body,
		Took: time.Since(began), reply: reply,
	}
	a.Last = last || a.OK()
	misdirected := r.results.add(a)
	if r.Observe != nil {
		r.Observe(a)
	}
	if r.StopAfter > 0 && misdirected >= r.StopAfter {
		r.stop(&NotReceivingError{misdirected, a})
	}
	return !a.Last
}
