package webhooks

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/pgpool"
)

// lockMargin is how long before its deadline a delivery stops waiting for a lock.
const lockMargin = 200 * time.Millisecond

// transaction carries deliveries from BEGIN to COMMIT. A batch has one or more; any other transaction has one.
type transaction struct {
	receiver   *Receiver
	deliveries []*delivery
	batch      bool
	hosts      bool              // a batch of events that run handlers of the host's, each under a savepoint
	carried    []pgpipe.Query    // of such a batch: what is still to be sent of the events so far
	inHandler  *delivery         // of such a batch: the event whose handler runs, or failed and took the transaction with it
	members    []*rider          // of a batch: those of the deliveries
	newest     map[any]*delivery // of a batch: the last event that was applied to each row
	slot       bool              // it has a slot of Batches, so that it waits for no place of the bulkhead's
	lease      *pgpool.Lease
	pipe       *pgpipe.Tx
	session    session
	committing bool            // COMMIT has been sent, or is about to be
	ended      chan struct{}   // of a batch: closed when the transaction has ended
	span       context.Context // of a batch that is traced
	err        error           // with which it failed as a whole
}

// run takes the deliveries from BEGIN to COMMIT in two round trips, unless a lock is contended or a handler needs more.
func (t *transaction) run(ctx context.Context, conn *pgx.Conn) error {
	if err := t.check(ctx, conn); err != nil { // BEGIN, locks, ledger, rows of projections
		return err
	}
	for i := range t.deliveries {
		if err := t.process(ctx, i); err != nil { // handlers
			return err
		}
	}
	return t.record(ctx) // rows, ledger, COMMIT
}

// check begins the transaction, looks the events up in the ledger, and reads what their projections need. Locks that are
// free are taken; a contended lock is waited for, but not in a batch.
func (t *transaction) check(ctx context.Context, conn *pgx.Conn) (err error) {
	queries := append(t.openingQueries(), t.lookUpErased()...)
	for _, d := range t.deliveries {
		for _, plan := range d.plans {
			if !d.follows {
				queries = append(queries, plan.Read...)
			}
		}
	}
	if t.pipe, err = pgpipe.Begin(ctx, conn, queries); err != nil {
		return err
	}
	switch {
	case t.hosts:
		t.pipe.ParseEarly()
	case t.batch:
		for _, d := range t.deliveries {
			d.refusing = t.pipe.Refuse(errBatch)
		}
	}
	if err := t.session.writable(); err != nil || t.batch {
		return err
	}
	return t.waitForLocks(ctx, t.deliveries[0])
}

// waitForLocks waits for the locks that check did not acquire, and repeats the lookup and the reads: the previous holder may
// have recorded the same event.
func (t *transaction) waitForLocks(ctx context.Context, d *delivery) error {
	if d.isDuplicate() {
		return nil
	}
	if d.hasLock() && !d.locked {
		var reads []pgpipe.Query
		for _, plan := range d.plans {
			if plan.Lock == d.lock {
				reads = append(reads, plan.Read...)
			}
		}
		if err := t.waitForLock(ctx, d, []string{d.customer, d.lock}, reads); err != nil {
			return err
		}
		d.locked = true
	}
	for _, plan := range d.plans {
		if plan.Lock == "" || plan.Lock == d.lock {
			continue
		}
		if err := t.waitForLock(ctx, d, []string{plan.Lock}, plan.Read); err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) waitForLock(ctx context.Context, d *delivery, objects []string, reads []pgpipe.Query) error {
	var queries []pgpipe.Query
	for _, object := range objects {
		if object != "" {
			queries = append(queries, func(ctx context.Context, db pgpipe.DBTX) error { return LockObject(ctx, db, object) })
		}
	}
	queries = append(append(queries, t.receiver.lookupQuery(d)), t.lookUpErased()...)
	return t.pipe.Send(ctx, append(queries, reads...))
}

// process runs the handlers of an event that is new, and notes what is to be recorded. Its error ends the transaction. In a
// batch no delivery does that: one that cannot go on leaves, without anything to be recorded.
func (t *transaction) process(ctx context.Context, i int) error {
	r, d := t.receiver, t.deliveries[i]
	r.sawFinal(d, d.ledger.final && d.ledger.other == nil)
	switch {
	case d.ledger.other != nil && t.batch: // it fails alone
		return nil
	case d.ledger.other != nil:
		return fault.InHandler(d.effective.Type, d.ledger.other)
	case d.isDuplicate():
		r.warnOfOtherType(d.ctx, d, d.ledger.eventType)
		d.outcome = OutcomeDuplicate
		t.answerEarly(i)
		return nil
	case t.batch && d.gaveUp():
		t.giveUp(i)
		return nil
	case t.leaves(d), !t.follow(d):
		return nil
	case t.hosts:
		return t.processInSavepoint(ctx, i)
	case d.reprocess != nil:
		return t.reprocess(ctx, d)
	}
	outcome, err := t.runHandlers(d.ctx, d)
	switch {
	case !t.batch:
		d.toRecord = outcome
		return err
	case errors.As(err, new(*fetchError)):
		d.err = err
	case err == nil && !d.refusing.Used():
		if d.toRecord = outcome; !d.erased {
			t.applied(d)
		}
	}
	return nil
}

// leaves reports whether a delivery leaves its batch before its handlers run: the ledger has a provisional row, whose update
// needs its result before COMMIT, or another process holds the lock of its object, for which a batch does not wait.
func (t *transaction) leaves(d *delivery) bool {
	return t.batch && (d.ledger.recorded || d.takesEffect() && !d.locked)
}

// answerEarly answers a duplicate before the batch ends. The next event of its object waits for that, since the
// transaction holds the object's lock.
func (t *transaction) answerEarly(i int) {
	if t.batch {
		ended := t.ended
		t.deliveries[i].pending = func() { <-ended }
		t.members[i].Finish()
	}
}

// giveUp answers a delivery of a batch whose time is up.
func (t *transaction) giveUp(i int) {
	d := t.deliveries[i]
	d.err = fault.Classify(d.ctx.Err(), fault.Circumstances{TimeUp: true})
	t.members[i].Finish()
}

// answered reports whether a delivery of a batch has been answered. Its caller goes on, so the batch must not touch it.
func (t *transaction) answered(i int) bool { return t.batch && t.members[i].Finished() }

// runHandlers returns the outcome that is to be recorded.
func (t *transaction) runHandlers(ctx context.Context, d *delivery) (Outcome, error) {
	if d.noteErased != nil {
		d.writes.Add(d.noteErased)
	}
	if !d.takesEffect() {
		return OutcomeIgnored, nil
	}
	outcome, waits := OutcomeStale, false
	for i, h := range d.handlers {
		if !d.runs(h) || d.erased && h.plan != nil {
			continue
		}
		if d.lacksObject() && !h.projection {
			waits = true
			continue
		}
		d.handling = true
		changed, err := t.call(ctx, d, i)
		if err != nil {
			return "", ofHandler(i, h, err)
		}
		if changed {
			outcome = OutcomeProcessed
		}
	}
	if d.parked != nil {
		return OutcomeParked, ctx.Err()
	}
	if waits {
		return "", &fetchError{handler: noHandler}
	}
	return outcome, ctx.Err()
}

// record writes what the handlers and the ledger have to write, and commits.
func (t *transaction) record(ctx context.Context) error {
	writers, ctx, cancel := t.writers(ctx)
	defer cancel()
	if len(writers) == 0 {
		return nil
	}
	for _, d := range writers {
		if d.parked != nil {
			d.writes.Add(t.receiver.parkedQuery(d))
		}
	}
	writes, needsResult := t.ledgerQueries(append(t.carried, writesOf(writers)...), writers)
	timeout := t.receiver.config.CommitTimeout
	if needsResult || !t.pipe.PipelinesCommit() {
		if err := t.pipe.Send(ctx, writes); err != nil {
			return err
		}
		writes = nil
	} else {
		timeout += t.lockTimeouts(ctx, len(writes))
	}
	t.committing = true
	if !t.lease.BeginCommit() {
		return errAbandoned
	}
	ctx = t.traceCommit(ctx)
	err := t.pipe.Commit(ctx, writes, timeout)
	if t.endCommit(ctx, err); err != nil {
		return err
	}
	for _, d := range writers {
		d.outcome = d.toRecord
		t.receiver.sawFinal(d, d.outcome != OutcomeIgnored)
	}
	return nil
}

// writers returns the deliveries that have something to be recorded, and the context of what is left to do.
func (t *transaction) writers(ctx context.Context) ([]*delivery, context.Context, context.CancelFunc) {
	if !t.batch {
		if t.deliveries[0].toRecord == "" {
			return nil, ctx, func() {}
		}
		return t.deliveries, ctx, func() {}
	}
	var writers []*delivery
	for i, d := range t.deliveries {
		switch {
		case t.answered(i), d.toRecord == "":
		case d.gaveUp() && !t.hosts && !t.isFollowed(d): // what a handler did in a savepoint can no longer be left out
			t.giveUp(i)
		default:
			writers = append(writers, d)
		}
	}
	if len(writers) == 0 {
		return nil, ctx, func() {}
	}
	ctx, cancel := batchContext(writers) // theirs alone: a delivery that has been answered ends its own
	return writers, t.inBatch(ctx), cancel
}

// lockTimeouts bounds the waits for locks of the writes that are sent with COMMIT.
func (t *transaction) lockTimeouts(ctx context.Context, writes int) time.Duration {
	if t.batch {
		return min(time.Duration(writes)*batchLockTimeout, t.receiver.config.LockTimeout)
	}
	return t.lockTimeout(ctx)
}

// lockTimeout caps each wait for a lock: at LockTimeout, or less if the deadline comes first, so that a wait ends with a
// 503 and not as a failure of the event.
func (t *transaction) lockTimeout(ctx context.Context) time.Duration {
	limit := t.receiver.config.LockTimeout
	if t.batch {
		limit = min(limit, batchLockTimeout)
	}
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)-lockMargin)
	}
	return max(limit, time.Millisecond)
}

// milliseconds is a duration as PostgreSQL's settings have it.
func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
