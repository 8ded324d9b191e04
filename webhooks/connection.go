package webhooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/admission"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/pgpool"
)

// rollbackTimeout bounds a rollback.
const rollbackTimeout = 5 * time.Second

// runTransaction takes the transaction's deliveries through it, on a connection of the pool. Afterwards each has an outcome
// or an error, but for those that leave a batch.
func (r *Receiver) runTransaction(ctx context.Context, t *transaction) {
	lease, err := t.acquire(ctx)
	if err != nil {
		leaves := t.slot && errors.Is(err, admission.ErrBulkhead) || t.batch && ctx.Err() != nil
		t.fail(ctx, err, false, !leaves)
		t.end()
		return
	}
	releases := true
	defer func() { // also when a Goexit passes
		if releases {
			lease.Release()
		}
	}()
	switch err := t.run(ctx, lease.Conn()); {
	case err != nil:
		t.fail(ctx, err, lease.Conn().IsClosed(), !t.batch || t.committing && errors.Is(err, ErrUnavailable))
		t.undo(ctx, lease.Conn(), err)
	case t.committing:
		r.readiness.EventCommitted()
	case t.allAnswered():
		releases = false
		t.deliveries[0].pending = t.rollbackLater(ctx, lease) // in place of answerEarly's, which would wait for this
	default:
		t.pipe.Rollback(ctx, rollbackLimit(ctx))
	}
}

// acquire acquires the connection of the transaction. Events that run handlers of the host's must not hold the connections
// that are kept for events of other types: they take a place of the bulkhead's first.
func (t *transaction) acquire(ctx context.Context) (*pgpool.Lease, error) {
	leavePlaces, err := t.takePlaces(ctx)
	leased := false
	defer func() {
		if !leased { // also if a hook of the pool panics
			leavePlaces()
		}
	}()
	if err != nil {
		return nil, err
	}
	for _, d := range t.deliveries {
		if d.waiting == nil { // it has not waited for the batch
			d.waiting = t.receiver.shedder.Wait()
		}
		defer d.waiting.End(false) // if a hook of the pool panics
	}
	conn, fresh, err := t.receiver.pool.Acquire(ctx)
	for _, d := range t.deliveries {
		d.freshConn = fresh
		d.waiting.End(err == nil)
	}
	if err != nil {
		return nil, err
	}
	leased = true
	t.lease = pgpool.NewLease(conn, func() { // also when the connection is taken from a handler that does not return
		leavePlaces()
		if t.batch { // the next one may begin, and duplicates that were answered early release their turns
			t.end()
			t.members[0].Pass()
		}
	})
	for _, d := range t.deliveries {
		if !d.held.lend(t.lease, t.hosts) && !t.batch {
			t.lease.Release()
			return nil, errAbandoned
		}
	}
	return t.lease, nil
}

// takePlaces takes a place of the bulkhead's for each type that runs handlers of the host's, and returns what leaves them. A
// transaction with a slot of Batches does not wait for a place: its events leave the batch, and wait by themselves.
func (t *transaction) takePlaces(ctx context.Context) (leave func(), err error) {
	bulkhead, taken := t.receiver.bulkhead, []string{}
	leave = func() {
		for _, kind := range taken {
			bulkhead.Release(kind)
		}
	}
	for _, d := range t.deliveries {
		kind := d.effective.Type
		if !d.runsHost() || slices.Contains(taken, kind) {
			continue
		}
		limit := t.receiver.config.AcquireTimeout
		if t.slot {
			limit = 0
		}
		if err := bulkhead.Acquire(ctx, kind, limit); err != nil {
			return leave, fault.Unavailable(err)
		}
		taken = append(taken, kind)
	}
	return leave, nil
}

// allAnswered reports whether no delivery still needs a transaction, so that the rollback can follow the reply.
func (t *transaction) allAnswered() bool {
	for i, d := range t.deliveries {
		if !t.answered(i) && (t.batch || d.outcome != OutcomeDuplicate) {
			return false
		}
	}
	return true
}

// rollbackLater returns the rollback of a transaction in which nothing was written. It runs after the reply.
func (t *transaction) rollbackLater(ctx context.Context, lease *pgpool.Lease) func() {
	return func() {
		defer lease.Release()
		t.pipe.Rollback(ctx, rollbackLimit(ctx))
	}
}

// end lets what waits for the end of a batch go on.
func (t *transaction) end() {
	if t.ended != nil {
		close(t.ended)
	}
}

// fail sets err on the deliveries that have neither an outcome nor an error. Unless noRetry, deliveries of a batch whose
// time is not up get no error, and are retried alone: nothing of theirs has been kept.
func (t *transaction) fail(ctx context.Context, err error, closed, noRetry bool) {
	r, leave := t.receiver, 0
	t.err = err
	for i, d := range t.deliveries {
		if t.answered(i) || d.err != nil || t.committing && d.toRecord == "" {
			continue
		}
		gaveUp := d.gaveUp()
		if !noRetry && !gaveUp {
			leave++
			continue
		}
		if t.hosts && d != t.inHandler { // it is not to blame for a handler that ran for too long
			d.err = fault.Classify(d.ctx.Err(), fault.Circumstances{TimeUp: true})
			continue
		}
		d.err = fault.Classify(err, fault.Circumstances{
			HandlerRan: d.handlerRan, HandlersTookMost: d.handlersTook > r.config.Timeout/2, TimeUp: gaveUp, ConnClosed: closed,
		})
		if closed && !t.batch && !d.handling && !t.committing && !gaveUp {
			d.err = fmt.Errorf("%w: %w", errDeadConn, d.err)
		}
	}
	if leave > 0 {
		r.config.Logger.DebugContext(ctx, "retrying events alone: their batch failed", "events", leave, "error", safeError(err))
	}
}

// undo rolls back what has failed. It closes a connection that is unfit for the next event.
func (t *transaction) undo(ctx context.Context, conn *pgx.Conn, err error) {
	if t.pipe != nil {
		t.pipe.Rollback(ctx, rollbackLimit(ctx))
	}
	if !t.batch {
		err = t.deliveries[0].err
	}
	if fault.SpoilsConnection(err) || errors.Is(err, pgpipe.ErrRawCommit) || errors.Is(err, pgpipe.ErrChained) {
		_ = conn.Close(ctx)
	}
}

// rollbackLimit is how long a rollback may take after the work that ctx is of: no longer than the reply may wait.
func rollbackLimit(ctx context.Context) time.Duration {
	deadline, limited := ctx.Deadline()
	if !limited {
		return rollbackTimeout
	}
	return min(rollbackTimeout, max(time.Until(deadline), 0)+timeoutGrace)
}
