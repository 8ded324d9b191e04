package webhooks

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/admission"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/reason"
)

// timeoutGrace is how long a delivery that ran out of time has to return by itself. A handler that does not honor its
// context is then left behind: its connection is closed, which undoes its event, and the response is 500.
const timeoutGrace = time.Second

// Outcome is the result of an event.
type Outcome string

const (
	// OutcomeProcessed means that the event took effect. Final.
	OutcomeProcessed Outcome = "processed"
	// OutcomeStale means that only projections ran, and changed nothing. Final.
	OutcomeStale Outcome = "stale"
	// OutcomeIgnored means that the event has no handler, or is of the other mode. Provisional: if it comes again and would
	// now be applied, it is.
	OutcomeIgnored Outcome = "ignored"
	// OutcomeParked means that a handler returned Park, and the event waits for a person. Only Replay applies it.
	OutcomeParked Outcome = "parked"
	// OutcomeDuplicate means that the event is in the ledger already, and nothing was written. It is never in the ledger
	// itself.
	OutcomeDuplicate Outcome = "duplicate"
)

// Result is the result of processing one event.
type Result struct {
	EventID string  `json:"event_id"`
	Outcome Outcome `json:"outcome"`
}

// Apply makes an event from a trusted source, such as Stripe's Events API, take effect exactly as a
// delivery of it would, and under the same limits. When ctx ends before COMMIT, the work is undone, unless handlers of
// other events share the transaction (Batchable).
func (r *Receiver) Apply(ctx context.Context, ev *Event) (Result, error) {
	return r.applyUnlessOverloaded(ctx, ev, purpose{})
}

// Replay is Apply on behalf of a person: it also applies an event that is parked. See Park.
func (r *Receiver) Replay(ctx context.Context, ev *Event) (Result, error) {
	return r.applyUnlessOverloaded(ctx, ev, purpose{replay: true})
}

// applyUnlessOverloaded is for events that come from elsewhere: a delivery is refused before its body is read.
func (r *Receiver) applyUnlessOverloaded(ctx context.Context, ev *Event, why purpose) (Result, error) {
	ctx = r.traceDelivery(ctx, time.Time{}, ev, why)
	done, err := report{}, r.shedder.Admit()
	if err != nil {
		err = fault.Unavailable(err)
	} else {
		done, err = r.apply(ctx, ev, why)
	}
	if done.parked != nil { // a delivery has a line of its own
		r.config.Logger.WarnContext(ctx, "a handler parked the event",
			"event_id", ev.ID, "event_type", ev.Type, "error", errorText(done.parked), "fix", "apply it with replay, or dismiss it")
	}
	r.endDelivery(ctx, done, 0, err)
	return done.Result, err
}

// report is the result of one event, with what its line in the log and its trace say about it.
type report struct {
	Result
	attempts int32 // how often it has failed or parked, this time included; 0: it is not known
	parked   error // what a handler has parked it with
}

// apply takes every event from admission to its result: the single flight with its concurrent duplicates, its attempts, and
// the record of its failure. Its slot in flight is released last.
func (r *Receiver) apply(ctx context.Context, ev *Event, why purpose) (done report, err error) {
	if err := ev.validate(); err != nil {
		return done, err
	}
	if err := r.admit(); err != nil {
		return done, err
	}
	d := r.newDelivery(ev, why)
	defer r.finish(d)
	if d.lacksKey {
		r.stats.fetches.noKey.Add(1)
		r.config.Logger.WarnContext(ctx, "ignored a thin event that has a handler: there is no API key of its mode",
			"event_id", ev.ID, "event_type", ev.Type, "livemode", ev.Livemode, "fix", "set STRIPE_API_KEY, then replay or reconcile")
	}
	r.bulkhead.Arrive(d.effective.Type)
	limited, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	if err := r.learn(limited, d); err != nil {
		done.attempts = r.recordFailure(ctx, d, err)
		return done, err
	}
	key := d.flightKey()
	call, duplicate, err := r.joinFlight(limited, key, d)
	if call == nil {
		return report{Result: duplicate}, err
	}
	f := flightResult{abandoned: true, replay: d.replay, eventType: ev.Type} // abandoned, unless it returns
	defer func() { r.flights.Finish(key, call, f) }()
	f.Result, f.err = r.await(limited, d)
	done.Result = f.Result
	if d.reprocess == nil {
		r.stats.tookEffect(ev.Created, f.Outcome)
	}
	if f.Outcome == OutcomeParked {
		done.parked, done.attempts = d.parked, d.parkings
		reason.Note(ctx, safeError(d.parked))
		notice := r.noticeOf(ctx, d, d.parked, d.parkings)
		notice.Parked = true
		r.onParked.notify(notice)
	}
	f.abandoned = f.err != nil && ctx.Err() != nil
	if f.err != nil && !f.abandoned { // to be interrupted is no failure of the event
		done.attempts = r.recordFailure(ctx, d, f.err)
	}
	return done, f.err
}

// InTx runs fn in a transaction as an event's handlers run: under the same limits, retried after a serialization failure
// or a deadlock, and committed in the same way. It is for work that no event brings, such as an import; name stands for
// the event's type in errors.
func (r *Receiver) InTx(ctx context.Context, name string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if err := r.admit(); err != nil {
		return err
	}
	ev := &Event{Type: name}
	d := &delivery{received: ev, effective: ev, inTx: true}
	d.handlers = []handler{{run: func(ctx context.Context, tx pgx.Tx, _ *Event) (bool, error) { return true, fn(ctx, tx) }}}
	defer r.finish(d)
	limited, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	_, err := r.await(limited, d)
	return err
}

func (r *Receiver) admit() error {
	err := r.limiter.Acquire()
	switch {
	case errors.Is(err, admission.ErrClosed):
		return fault.Unavailable(ErrShutdown)
	case err != nil:
		return fault.Unavailable(err)
	}
	return nil
}

// flightResult is the result that concurrent duplicates of an event share.
type flightResult struct {
	Result
	err       error
	abandoned bool   // by its caller: it says nothing about the event
	replay    bool   // it applied the event although it is parked
	eventType string // of the event that led
}

// duplicateError is the failure of the concurrent duplicate that a delivery waited for.
type duplicateError struct{ err error }

func (e *duplicateError) Error() string { return "the duplicate that it waited for: " + e.err.Error() }
func (e *duplicateError) Unwrap() error { return e.err }

// joinFlight returns the call that the delivery leads. While a duplicate is in progress in this process, it waits for
// its result instead, without a connection: otherwise all duplicates would wait on the ledger's unique index.
func (r *Receiver) joinFlight(ctx context.Context, key string, d *delivery) (*admission.Call[flightResult], Result, error) {
	for {
		call, leads := r.flights.Join(key)
		if leads {
			return call, Result{}, nil
		}
		select {
		case <-call.Done():
		case <-ctx.Done():
			return nil, Result{}, fault.Unavailable(errors.New("a duplicate of the event is still in progress"))
		}
		switch f := call.Result(); {
		case f.abandoned, f.replay, d.replay: // the outcome of a replay says nothing to a delivery, nor the other way round
		case f.err != nil:
			return nil, Result{}, &duplicateError{f.err}
		case f.EventID == d.id():
			r.warnOfOtherType(ctx, d, f.eventType)
			return nil, Result{f.EventID, OutcomeDuplicate}, nil
		}
		// Given up, or recorded under another id, since a thin event's object was not found.
	}
}

// await queues and attempts the delivery. Where a handler may outlast its context, that happens in another goroutine, so that
// a handler that never returns holds back only its slot in flight, and those of its batch: its connection is taken from it.
func (r *Receiver) await(ctx context.Context, d *delivery) (Result, error) {
	if !d.runsHost() {
		r.queueAndAttempt(ctx, d)
		return d.result()
	}
	d.running = make(chan struct{})
	go func() {
		growStack()
		defer close(d.running)
		returned := false
		defer func() {
			switch {
			case returned:
			case d.inHost:
				d.err = fault.InHandler(d.effective.Type, errGoexit)
			default:
				d.err = fault.Unavailable(errOtherGoexit)
			}
		}()
		r.queueAndAttempt(ctx, d)
		returned = true
	}()
	select {
	case <-d.running:
		return d.result()
	case <-ctx.Done():
	}
	grace := time.NewTimer(timeoutGrace)
	defer grace.Stop()
	select {
	case <-d.running:
		return d.result()
	case <-grace.C:
	}
	switch d.held.abandon() {
	case handlerAbandoned:
		r.stats.abandoned.Add(1)
		return Result{}, fmt.Errorf("%w: the handler of %s does not return, so its connection is closed", ErrTimeout, d.received.Type)
	case otherAbandoned:
		return Result{}, fault.Unavailable(errors.New("timed out: another event's handler in the batch, or a hook of the pool, does not return"))
	case notAbandoned:
	}
	<-d.running // COMMIT has a deadline of its own
	return d.result()
}

// growStack grows the stack of a new goroutine at once to what pgx and a handler need. Otherwise it would be copied four
// times on the way down, which cost 5 % of the receiver's CPU time.
//
//go:noinline
func growStack() {
	var frame [12 << 10]byte
	runtime.KeepAlive(&frame)
}

var (
	errGoexit      = errors.New("it called runtime.Goexit")
	errOtherGoexit = errors.New("another event's handler in the batch, or a hook of the pool, called runtime.Goexit")
)

func (d *delivery) result() (Result, error) {
	if d.err != nil {
		return Result{}, d.err
	}
	return Result{d.id(), d.outcome}, nil
}

// queueAndAttempt sets the delivery's outcome or error. It serializes the events of one object; a known duplicate does not
// wait in the queue.
func (r *Receiver) queueAndAttempt(ctx context.Context, d *delivery) {
	defer func() { // handlers' panics are caught where they are called; this is of an error's Unwrap, or a hook of the pool
		if value := recover(); value != nil {
			d.err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	defer func() { d.whenDone(d.held.release) }()
	if !d.inTx && !d.replay && r.seen.Has(d.received.ID) {
		if found, err := r.lookup(ctx, d); found || errors.Is(err, ErrUnavailable) {
			d.outcome, d.err = OutcomeDuplicate, err
			return
		}
	}
	if r.takeTurns(ctx, d) {
		d.outcome, d.err = r.attemptUntilDone(ctx, d)
	}
}

// takeTurns waits for the turns of the event's customer and object. It returns false if the delivery has its outcome or error
// already: it is a duplicate, waited for too long, or was applied in another event's batch.
func (r *Receiver) takeTurns(ctx context.Context, d *delivery) bool {
	deadline := time.Now().Add(r.config.LockTimeout)
	keys := d.queues()
	for _, key := range keys {
		ticket := r.objects.Join(key)
		d.held.add(ticket.Release)
		if len(keys) == 1 {
			d.turn = ticket
		}
		if !r.takeTurn(ctx, d, ticket, deadline) {
			return false
		}
	}
	return true
}

func (r *Receiver) takeTurn(ctx context.Context, d *delivery, ticket *admission.Ticket[*rider], deadline time.Time) bool {
	if ticket.TryAcquire() || r.ride(ctx, d, r.rideWait) {
		return true
	}
	if !d.rode && d.reprocess == nil { // a rider was looked up in its batch
		if found, err := r.lookup(ctx, d); found || err != nil {
			d.outcome, d.err = OutcomeDuplicate, err
			return false
		}
		if r.ride(ctx, d, time.Until(deadline)) {
			return true
		}
	}
	if d.outcome != "" {
		return false
	}
	if err := ticket.Acquire(ctx, time.Until(deadline)); err != nil {
		d.err = fault.Unavailable(err)
		return false
	}
	return true
}

// warnOfOtherType warns where a duplicate has another type than the event that its id was recorded for, which then has
// no effect. Stripe's ids are unique but for the dashboard's test events, which all have the same one.
func (r *Receiver) warnOfOtherType(ctx context.Context, d *delivery, recorded string) {
	if recorded == "" || sameType(recorded, d.received.Type) {
		return
	}
	r.config.Logger.WarnContext(ctx, "handled an event as a duplicate: its id is recorded with another type",
		"event_id", d.effective.ID, "event_type", d.received.Type, "recorded_type", recorded,
		"fix", "test events from Stripe's dashboard all have one id: send test events with 'stripe trigger' instead")
}
