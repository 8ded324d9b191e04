package webhooks

import (
	"context"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/admission"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/projection"
)

// delivery is one event in progress, from its admission to its outcome.
type delivery struct {
	received *Event // as it came
	// effective is the event as handlers see it before an object is fetched, and as it is recorded if it takes effect. A
	// thin event has the id and the type of its snapshot event there, so that only one of the two takes effect, or it is the
	// snapshot event (Event.ObjectInSnapshot).
	effective *Event
	handlers  []handler // none: the event is ignored
	inTx      bool      // there is no event, but a function of InTx, which is the one handler
	purpose
	fetched  fetched
	learned  bool // its snapshot event was fetched
	lacksKey bool // it is ignored although it has a handler, since there is no API key of its mode

	// parked is what a handler returned with Park. The event is then recorded, and of its handlers only the projections
	// run; none, if a projection parked it.
	parked           error
	projectionParked bool
	parkings         int32 // how often it has parked or failed

	arrived time.Time // an object that is fetched later has the event's change in it

	attempt
	outcome Outcome // once it is committed, or found in the ledger
	err     error   // of the last attempt

	held       held
	turn       *admission.Ticket[*rider] // the only one that it waits for; nil: it has none, or several
	rode       bool                      // in the batch of an earlier event of its object
	byCustomer bool                      // Config.SerializeBy
	running    chan struct{}             // closed when the handlers have returned; nil: they run in the caller's goroutine
	pending    func()                    // what is left to be done when the outcome is known: the reply does not wait for it; nil: nothing
}

// purpose says why an event that the ledger has is applied all the same.
type purpose struct {
	replay    bool              // on behalf of a person: the event is applied although it is parked
	reprocess *ReprocessOptions // likewise: handlers run although it has taken effect; nil: they do not
}

// attempt is the state of a delivery in one transaction.
type attempt struct {
	ctx        context.Context
	plans      []projection.Plan // of each handler that is one
	lock       string            // the id of the event's object, whose lock handlers hold; "": none
	customer   string            // the id of its customer, whose lock handlers hold, too; "": none, or the same
	locked     bool              // they are held
	waiting    *admission.Waiting
	ledger     ledgerState
	erased     bool         // it is of a customer whose data was erased: nothing of it is stored, but that it came
	noteErased pgpipe.Query // notes the object as the customer's; nil: it is noted
	writes     pgpipe.Writes
	follows    bool               // it rides in the batch of an earlier event of its object: it reads no row
	refusing   *pgpipe.RefusingTx // what projections get in a batch without handlers; nil: the transaction
	toRecord   Outcome            // the outcome once it is committed; "": nothing is recorded

	inHost       bool // a handler has been called and has not returned
	freshConn    bool // the connection was opened for this attempt, as far as is known
	handling     bool // a handler has been called: an error from here on is not simply retried
	handlerRan   bool // and one of them was the host's
	handlersTook time.Duration
}

// newDelivery finds the handlers of an event. A thin event about a v1 resource runs those of its snapshot type, one about a v2
// resource those that are registered for exactly its type: if its object can be fetched.
func (r *Receiver) newDelivery(ev *Event, why purpose) *delivery {
	received := *ev // not the caller's
	r.stamp(&received)
	received.canFetch = keyFits(r.keyFor(&received), ev.Livemode)
	d := &delivery{
		received: &received, effective: &received, purpose: why, byCustomer: r.config.SerializeBy == ByCustomer, arrived: time.Now(),
	}
	d.asSnapshot()
	if !r.AcceptsMode(ev.Livemode) {
		return d
	}
	d.handlers = r.handlers.of(d)
	if received.needsKey() && !received.canFetch {
		d.lacksKey, d.handlers = d.takesEffect(), nil
	}
	return d
}

// of returns the handlers that run for an event.
func (h *Handlers) of(d *delivery) []handler {
	if d.reprocess != nil {
		return d.reprocess.of(h.all(d))
	}
	return h.all(d)
}

// all returns the handlers of an event.
func (h *Handlers) all(d *delivery) []handler {
	switch ev := d.source(); {
	case ev.thin && ev.Type == HealthEvent:
		return h.healthHandlers(ev)
	case ev.thin && !ev.aboutV1():
		return h.exactly(ev.Type)
	default:
		return h.match(d.effective.Type, ev)
	}
}

// asSnapshot sets what handlers see of a thin event: the id and the type of its snapshot event.
func (d *delivery) asSnapshot() {
	if !d.received.thin {
		return
	}
	snapshot := *d.received
	if snapshot.aboutV1() {
		snapshot.ID, snapshot.Type = or(snapshot.snapshot, snapshot.ID), strings.TrimPrefix(snapshot.Type, thinPrefix)
	}
	d.effective = &snapshot
}

// source is the event that says what is fetched and locked: the one that came, unless its snapshot event was fetched.
func (d *delivery) source() *Event {
	if d.effective.thin {
		return d.received
	}
	return d.effective
}

// stamp sets the account of an event that names none, and notes whether it is the receiver's own.
func (r *Receiver) stamp(ev *Event) {
	if ev.Account == "" {
		ev.Account = r.config.AccountID
	}
	ev.own = ev.tenant != nil || ev.Account == r.config.AccountID
}

// keyFor returns the API key that can see an event's object.
func (r *Receiver) keyFor(ev *Event) string {
	if ev.tenant != nil {
		return ev.tenant.APIKey
	}
	return r.config.APIKey
}

// takesEffect reports whether a handler runs. If not, the event is recorded as it came.
func (d *delivery) takesEffect() bool { return len(d.handlers) > 0 }

// id is the id that the event is recorded under.
func (d *delivery) id() string {
	if d.takesEffect() {
		return d.effective.ID
	}
	return d.received.ID
}

// flightKey is the same for concurrent duplicates of the event.
func (d *delivery) flightKey() string { return d.id() + "\x00" + d.received.Account }

// event returns the event as it is recorded, with what was fetched.
func (d *delivery) event() *Event {
	if !d.takesEffect() {
		return d.received
	}
	if d.fetched.answer == nil || !d.source().thin {
		return d.effective
	}
	ev := *d.effective
	ev.Object, ev.APIVersion = d.fetched.answer.Object, d.fetched.answer.APIVersion
	return &ev
}

// begin begins an attempt.
func (d *delivery) begin(ctx context.Context) {
	d.attempt = attempt{ctx: ctx, lock: d.object(), customer: d.customerToLock()}
	d.err = nil
	d.plans = make([]projection.Plan, len(d.handlers))
	for i, h := range d.handlers {
		if h.plan != nil {
			d.plans[i] = h.plan(d.eventFor(i))
		}
	}
}

// eventFor returns the event as one of its handlers sees it.
func (d *delivery) eventFor(handler int) *Event {
	ev := *d.event()
	ev.Current = d.fetched.current(handler)
	return &ev
}

// object is the id of the Stripe object that the event is about, whose lock handlers hold; "": none. For an object without an
// id, such as an upcoming invoice, it is its customer's.
func (d *delivery) object() string {
	if d.inTx || !d.takesEffect() {
		return ""
	}
	return d.source().subject()
}

// customerToLock is the id of the customer whose lock handlers hold in addition to the object's; "": none. That of a thin
// event is known when its object has been fetched.
func (d *delivery) customerToLock() string {
	if !d.byCustomer || d.inTx || !d.takesEffect() {
		return ""
	}
	customer := d.event().CustomerID()
	if customer == d.object() {
		return ""
	}
	return customer
}

// hasLock reports whether handlers hold a lock.
func (d *delivery) hasLock() bool { return d.lock != "" || d.customer != "" }

// queues returns the keys of the in-process queues that the event waits in, in order.
func (d *delivery) queues() (keys []string) {
	for _, key := range []string{d.customerToLock(), d.object()} {
		if key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// runsHost reports whether the event runs a handler of the host's, which may outlast its context and change the session.
func (d *delivery) runsHost() bool {
	return slices.ContainsFunc(d.handlers, func(h handler) bool { return !h.honorsContext })
}

// runs reports whether the event runs a handler: where one has parked it, only the projections.
func (d *delivery) runs(h handler) bool {
	return d.parked == nil || h.projection && !d.projectionParked
}

// lacksObject reports whether the object of a thin event must still be fetched.
func (d *delivery) lacksObject() bool { return d.received.fetches() && d.fetched.answer == nil }

// isDuplicate reports whether the ledger's outcome of the event stays as it is.
func (d *delivery) isDuplicate() bool {
	if d.reprocess != nil {
		return false
	}
	return d.ledger.final || d.ledger.recorded && !d.takesEffect()
}

// gaveUp reports whether the attempt's context has ended.
func (d *delivery) gaveUp() bool { return d.ctx.Err() != nil }

// whenDone calls fn when the work that follows the reply is done: at once if there is none.
func (d *delivery) whenDone(fn func()) {
	first := d.pending
	if first == nil {
		fn()
		return
	}
	d.pending = func() {
		defer fn() // also if first panics
		first()
	}
}

// finish gives back the delivery's slot in flight when its handlers have returned and what the reply did not wait for is
// done: at once, or in a goroutine.
func (r *Receiver) finish(d *delivery) {
	if d.hasReturned() && d.pending == nil {
		r.limiter.Release()
		return
	}
	go func() {
		defer r.limiter.Release()
		defer func() {
			if value := recover(); value != nil { // of a hook of the pool, when a connection is released
				r.config.Logger.Error("panic after the response of a delivery", "panic", value, "stack", string(debug.Stack()))
			}
		}()
		if d.running != nil {
			<-d.running
		}
		if d.pending != nil {
			d.pending()
		}
	}()
}

// hasReturned reports whether the handlers have returned. If not, they have outlived their deadline.
func (d *delivery) hasReturned() bool {
	if d.running == nil {
		return true
	}
	select {
	case <-d.running:
		return true
	default:
		return false
	}
}
