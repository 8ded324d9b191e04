package webhooks

import (
	"context"
	"fmt"
	"sync"
)

// copies lets the copies of one event that are in this process at once share one application: the first
// works, the others wait without a connection. Otherwise they would all wait on the ledger's unique index,
// each with a connection of the pool.
type copies struct {
	mu    sync.Mutex
	byKey map[string]*application
}

// application is one copy's work, and what came of it.
type application struct {
	done      chan struct{} // closed when result and err are there
	eventType string        // of who leads
	replays   bool          // who leads applies the event although it is parked
	result
}

type result struct {
	Result
	err       error
	abandoned bool // the caller gave it up: says nothing about the event
}

func newCopies() *copies { return &copies{byKey: map[string]*application{}} }

// join returns the application of an event that is under way, and whether it is the caller's to do.
func (c *copies) join(eventID string, w *work) (a *application, leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.byKey[eventID]; a != nil {
		return a, false
	}
	a = &application{done: make(chan struct{}), eventType: w.delivered.Type, replays: w.replaysParked}
	c.byKey[eventID] = a
	return a, true
}

// settle tells the others what came of it. A copy that joins from now on looks into the ledger itself.
func (c *copies) settle(eventID string, a *application, r result) {
	c.mu.Lock()
	delete(c.byKey, eventID)
	c.mu.Unlock()
	a.result = r
	close(a.done)
}

// copyError is the failure of the copy that one waited for.
type copyError struct{ err error }

func (e *copyError) Error() string { return "the copy that it waited for: " + e.err.Error() }
func (e *copyError) Unwrap() error { return e.err }

// once applies an event unless a copy of it is being applied: then it waits for that one and takes its
// outcome, an error too.
func (r *Receiver) once(ctx context.Context, w *work, apply func() result) result {
	for id := w.subject().ID; ; {
		a, leads := r.copies.join(id, w)
		if leads {
			return r.lead(id, a, apply)
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			return result{err: fmt.Errorf("%w: a copy of the event is still being worked on", ErrUnavailable)}
		}
		switch {
		case a.abandoned, a.replays, w.replaysParked: // the outcome of a replay says nothing to a delivery, nor the other way round
		case a.err != nil:
			return result{err: &copyError{a.err}}
		case a.EventID == id:
			r.warnOfOtherType(ctx, w, a.eventType)
			return result{Result: Result{id, OutcomeDuplicate}}
		}
		// Given up, or recorded under another id, since a thin event's object was not to be had.
	}
}

func (r *Receiver) lead(id string, a *application, apply func() result) (done result) {
	done.abandoned = true // unless apply returns
	defer func() { r.copies.settle(id, a, done) }()
	done = apply()
	return done
}

// warnOfOtherType warns where a duplicate has another type than the event that its id was recorded for, which then has
// no effect. Stripe's ids are unique but for the dashboard's test events, which all have the same one.
func (r *Receiver) warnOfOtherType(ctx context.Context, w *work, recorded string) {
	if recorded == "" || sameType(recorded, w.delivered.Type) {
		return
	}
	r.config.Logger.WarnContext(ctx, "an event id came back with another type and is taken for a duplicate: of Stripe's test events from "+
		"the dashboard, which all have one id, only the first takes effect; send others with 'stripe trigger'",
		"event_id", w.recordedID, "event_type", w.delivered.Type, "recorded_type", recorded)
}
