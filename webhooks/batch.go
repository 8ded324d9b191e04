package webhooks

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/pook/stripeonce/internal/projection"
)

// An event that runs no handler of the host's may be carried by a batch: one transaction, two round trips for all of its
// events. An event whose object's lock is contended, or that needs something fetched, leaves the batch. If any query of
// the batch fails, the batch rolls back and each event is retried in its own transaction. Events whose handlers are
// Batchable have batches of their own: see savepoints.go.

const (
	// batchLockTimeout caps each lock wait in a batch, so that one event does not delay the others. It is below PostgreSQL's
	// deadlock_timeout, so that a batch times out before a transaction outside the batch is chosen as a deadlock's victim.
	batchLockTimeout = 50 * time.Millisecond
	// batchWait bounds the wait for a batch to begin. An event then has a transaction of its own: where the batches in
	// progress hang, as over a dead connection, not everything does.
	batchWait = 500 * time.Millisecond
	// batchMargin is the minimum time that an event must have left to join a batch: a batch ends at the earliest deadline of its
	// events.
	batchMargin = time.Second
)

// errBatch reports that a projection used its transaction in a batch.
var errBatch = errors.New("the transaction is a batch's")

// batchable reports whether the delivery may be in a batch. Its locks must be of the object that its ticket is for, so
// that no two deliveries of a batch want the same.
func (r *Receiver) batchable(d *delivery) bool {
	if r.config.MaxBatchSize == 1 || !r.pipelines || d.received.thin || d.inTx || d.replay {
		return false
	}
	if deadline, limited := d.ctx.Deadline(); !limited || time.Until(deadline) < batchMargin {
		return false
	}
	for i, h := range d.handlers {
		plan := d.plans[i]
		switch {
		case !h.honorsContext && (!h.batchable || d.lock == ""): // it is the host's
			return false
		case h.plan != nil && (!plan.Batchable || plan.Lock == "" || plan.Lock != d.lock || !prepared(plan)):
			return false
		}
	}
	return true
}

// prepared calls Prepare, and reports whether it returned. If it panics, the event gets its own transaction, where Apply
// panics too, which is the event's failure.
func prepared(plan projection.Plan) (ok bool) {
	defer func() { _ = recover() }()
	if plan.Prepare != nil {
		plan.Prepare()
	}
	return true
}

// runBatch runs a batch's transaction in the goroutine of the first delivery's caller. It recovers panics: each event is then
// retried alone, and panics again by itself.
func (r *Receiver) runBatch(batch []*rider) {
	t := &transaction{receiver: r, slot: true}
	defer func() {
		if value := recover(); value != nil {
			t.err = &PanicError{Value: value, Stack: debug.Stack()}
			r.config.Logger.Warn("panic in a batch: retrying its events alone", "panic", value, "stack", string(debug.Stack()))
		}
		t.endBatch()
	}()
	runsHost := batch[0].Item.runsHost()
	if !runsHost {
		var riders []*rider
		defer func() { finish(riders) }()
		batch, riders = r.withRiders(batch)
	}
	for _, m := range batch {
		t.deliveries = append(t.deliveries, m.Item)
	}
	if len(batch) > 1 || !runsHost { // alone, a handler needs no savepoint
		t.batch, t.hosts, t.members, t.ended = true, runsHost, batch, make(chan struct{})
	}
	ctx, cancel := batchContext(t.deliveries)
	defer cancel()
	r.runTransaction(t.traceBatch(ctx), t)
}

// finish releases the callers of riders. The batch does it for its members.
func finish(riders []*rider) {
	for _, m := range riders {
		m.Finish()
	}
}

// batchContext returns a context with the earliest deadline of the deliveries. A delivery whose caller gives up does not
// cancel the others.
func batchContext(deliveries []*delivery) (context.Context, context.CancelFunc) {
	contexts := make([]context.Context, len(deliveries))
	for i, d := range deliveries {
		contexts[i] = d.ctx
	}
	return sharedContext(contexts)
}

func sharedContext(contexts []context.Context) (context.Context, context.CancelFunc) {
	if len(contexts) == 1 {
		return contexts[0], func() {}
	}
	earliest, _ := contexts[0].Deadline()
	for _, ctx := range contexts {
		if deadline, _ := ctx.Deadline(); deadline.Before(earliest) {
			earliest = deadline
		}
	}
	return context.WithDeadline(context.WithoutCancel(contexts[0]), earliest)
}
