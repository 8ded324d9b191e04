package webhooks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/fault"
)

const (
	rollbackTimeout = 5 * time.Second
	// timeoutGrace is how long work that ran out of time has to say so itself. A handler that does not
	// honor its context is then left behind: its event is answered 500, and undone when it returns.
	timeoutGrace = time.Second
	// lockMargin is how long before its deadline work stops waiting for a lock.
	lockMargin = 200 * time.Millisecond
	// retryPause is the mean pause before the second try; it doubles from try to try.
	retryPause = 10 * time.Millisecond
)

// Outcome is the result of an event.
type Outcome string

const (
	// OutcomeProcessed is the outcome of an event that took effect. Final.
	OutcomeProcessed Outcome = "processed"
	// OutcomeStale is that of an event for which only projections ran, and changed nothing. Final.
	OutcomeStale Outcome = "stale"
	// OutcomeIgnored is that of an event that nothing is registered for, or of the other mode.
	// Provisional: if it comes again and would now be applied, it is.
	OutcomeIgnored Outcome = "ignored"
	// OutcomeParked is that of an event that waits for a person, since a handler returned Park. Only Replay applies it.
	OutcomeParked Outcome = "parked"
	// OutcomeDuplicate is that of an event that is in the ledger already: nothing was written. It is
	// never in the ledger itself.
	OutcomeDuplicate Outcome = "duplicate"
)

// Result is the result of one event.
type Result struct {
	EventID string  `json:"event_id"`
	Outcome Outcome `json:"outcome"`
}

// Apply makes an event from a trusted source, such as Stripe's Events API, take effect exactly as a
// delivery of it would, and under the same limits. When ctx ends before COMMIT, the work is undone.
func (r *Receiver) Apply(ctx context.Context, ev *Event) (Result, error) {
	return r.applyEvent(ctx, ev, false)
}

// Replay is Apply on behalf of a person: it also applies an event that is parked. See Park.
func (r *Receiver) Replay(ctx context.Context, ev *Event) (Result, error) {
	return r.applyEvent(ctx, ev, true)
}

func (r *Receiver) applyEvent(ctx context.Context, ev *Event, replaysParked bool) (Result, error) {
	if err := ev.validate(); err != nil {
		return Result{}, err
	}
	place, err := r.gate.enter()
	if err != nil {
		return Result{}, err
	}
	defer place.leave() // when a failure is recorded
	work := r.newWork(ev)
	work.replaysParked = replaysParked
	limited, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	leads := false
	done := r.once(limited, work, func() result {
		leads = true
		applied, err := r.await(limited, work, place)
		return result{applied, err, err != nil && ctx.Err() != nil}
	})
	if leads && done.err != nil && !done.abandoned { // to be interrupted is no failure of the event
		r.recordFailure(ctx, work, done.err)
	}
	return done.Result, done.err
}

// InTx runs fn in a transaction as an event's handlers run: under the same limits, tried again after a
// serialization failure or a deadlock, and committed in the same way. It is for work that no event brings,
// such as an import; name stands for the event's type in errors.
func (r *Receiver) InTx(ctx context.Context, name string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	place, err := r.gate.enter()
	if err != nil {
		return err
	}
	defer place.leave()
	w := &work{delivered: &Event{Type: name}, plain: func(ctx context.Context, tx pgx.Tx, _ *Event) (bool, error) {
		return true, fn(ctx, tx)
	}}
	limited, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	_, err = r.await(limited, w, place)
	return err
}

// applied is the result of the work.
type applied struct {
	outcome Outcome
	err     error
}

// await runs the work, which holds its place in flight until all of it is done. Work that may outlast its context runs
// in another goroutine, so that a handler that never returns holds back neither the reply nor anything else but its own
// connection and its place.
func (r *Receiver) await(ctx context.Context, w *work, place *place) (Result, error) {
	place.hold()
	if !w.runsHost() {
		defer func() { // also when a hook of the pool ends the goroutine
			if w.rollBack == nil {
				w.finish(place)
			} else {
				r.workers.do(func() { w.finish(place) })
			}
		}()
		a := r.apply(ctx, w)
		return w.result(a.outcome), a.err
	}
	done := make(chan applied, 1)
	r.workers.do(func() {
		a := applied{err: fault.InHandler(w.delivered.Type, errHandlerGoexits)}
		defer func() {
			done <- a
			w.finish(place)
		}()
		a = r.apply(ctx, w)
	})
	select {
	case a := <-done:
		return w.result(a.outcome), a.err
	case <-ctx.Done():
	}
	select {
	case a := <-done:
		return w.result(a.outcome), a.err
	case <-time.After(timeoutGrace):
	}
	if !w.committing.Load() {
		return Result{}, fmt.Errorf("%w: the handler of %s does not return", ErrTimeout, w.delivered.Type)
	}
	a := <-done // COMMIT has a deadline of its own
	return w.result(a.outcome), a.err
}

// apply does the work. The handlers' own panics are caught where they are called. Here are caught those of what they
// leave behind: an error whose Unwrap panics, a hook of the pool.
func (r *Receiver) apply(ctx context.Context, w *work) (a applied) {
	defer func() {
		if value := recover(); value != nil {
			a = applied{err: &PanicError{Value: value, Stack: debug.Stack()}}
		}
	}()
	a.outcome, a.err = r.applyInTurn(ctx, w)
	return a
}

// finish does what is left when the reply is out: the rollback of a duplicate's transaction, which holds the lock of its
// object, and only then the next event of that object.
func (w *work) finish(place *place) {
	defer place.leave()
	if w.endTurn != nil {
		defer w.endTurn()
	}
	if w.rollBack != nil {
		w.rollBack()
	}
}

func (r *Receiver) applyWithRetries(ctx context.Context, w *work) (Outcome, error) {
	if err := r.ensureReady(ctx); err != nil {
		return "", err
	}
	attempt, so := r.firstAttempt, attempts{tries: 1}
	for {
		outcome, err := attempt(ctx, w)
		if err == nil {
			if outcome == OutcomeParked {
				r.config.Logger.WarnContext(ctx, "a handler parked the event: it waits for 'stripeonce replay EVENT'",
					"event_id", w.recordedID, "event_type", w.snapshotType(), "error", errorText(w.parked))
			}
			return outcome, nil
		}
		again, failure := r.again(ctx, w, &so, err)
		switch {
		case again:
		case w.parked != nil: // it neither takes effect nor waits for a person: that is a failure, whatever kept it from it
			return "", fmt.Errorf("%w; it could not be parked: %w", w.parked, failure)
		default:
			return "", failure
		}
		attempt = r.attempt
	}
}

// attempts counts the attempts of one delivery by what each ended with.
type attempts struct {
	tries     int // bounded by Config.MaxAttempts
	lostRaces int // to a concurrent duplicate
	deadConns int // before anything was sent that matters
	doubts    int // whether the tables are there and may be written
}

// maxLostRaces bounds the attempts that end with the ledger's unique index. After a lost race the other duplicate's row
// is there to be seen, so that a second one is rare, and more say that the row is hidden from the receiver's role.
const maxLostRaces = 4

var errHiddenRow = errors.New("the ledger has a row of the event that the receiver does not see: is there a row level security policy?")

// again says whether an attempt that failed is followed by another, else with what the delivery fails. Its transaction
// is rolled back and its connection released. Only what PostgreSQL wants tried again counts against MaxAttempts.
func (r *Receiver) again(ctx context.Context, w *work, so *attempts, err error) (again bool, failure error) {
	var question *askError
	switch {
	case errors.As(err, &question):
		failure := r.ask(ctx, w, question)
		return failure == nil, failure
	case w.park(err):
		return true, nil
	case errors.Is(err, errLostRace):
		so.lostRaces++
		if so.lostRaces > maxLostRaces {
			return false, fmt.Errorf("%w: %w", ErrUnavailable, errHiddenRow)
		}
		return true, nil
	case errors.Is(err, errDeadConn):
		so.deadConns++
		return so.deadConns <= r.maxDeadConns(), err
	case fault.IsDoubtful(err):
		return r.doubt(ctx, w, so, err)
	case errors.Is(err, fault.ErrSession) && fault.LacksMigration(err) && so.doubts == 0:
		// pgx may have forgotten a statement and had it parsed by the search_path of a handler's: not on another connection.
		so.doubts++
		return true, nil
	case fault.IsRetryable(err) && so.tries < r.config.MaxAttempts && pause(ctx, so.tries):
		so.tries++
		return true, nil
	case fault.IsInfrastructure(err) && fault.Code(err) == fault.DiskFull, fault.IsUnreadable(err) && !fault.IsHandler(err):
		r.unready() // a trial, before any handler runs, finds out when there is room again, or what cannot be read
	}
	return false, err
}

// doubt looks whether the tables are there and may be written. If so, it was the session that a handler of an earlier
// event, or other code of the host's, has spoilt (a temporary table of the same name, SET ROLE): its connection is closed,
// and the event has another attempt on the next one, down to a new one.
func (r *Receiver) doubt(ctx context.Context, w *work, so *attempts, err error) (again bool, failure error) {
	if errors.Is(err, ErrNotPermitted) || !r.config.AssumeMigrated {
		r.unready()
	}
	if lacks := r.ensureReady(ctx); lacks != nil {
		return false, errors.Join(lacks, err)
	}
	so.doubts++
	return !w.newConn && so.doubts <= r.maxDeadConns(), err
}

// pause waits before the next try; false if ctx ends first.
func pause(ctx context.Context, try int) bool {
	select {
	case <-time.After(rand.N(2 * retryPause << (try - 1))):
		return true
	case <-ctx.Done():
		return false
	}
}

// firstAttempt is in a transaction that the event shares, if it can.
func (r *Receiver) firstAttempt(ctx context.Context, w *work) (Outcome, error) {
	if v := r.share(ctx, w); !v.alone {
		return v.outcome, v.err
	}
	return r.attempt(ctx, w)
}

// attempt is one transaction of the event's own. READ COMMITTED: the ledger's unique index is what makes events take
// effect once, and needs no more.
func (r *Receiver) attempt(ctx context.Context, w *work) (Outcome, error) {
	conn, opened, err := r.acquireBy(ctx, r.acquire)
	if err != nil {
		return "", err
	}
	w.newConn = opened
	w.committing.Store(false)
	held := true
	defer func() { // also when a handler's panic or Goexit passes
		if held {
			conn.Release()
		}
	}()
	t := r.newTransaction(w, conn.Conn())
	outcome, err := t.run(ctx)
	if t.known {
		held = false
		w.rollBack = rollBackLater(ctx, conn, t.tx)
		return OutcomeDuplicate, nil
	}
	if err == nil {
		r.lastCommit.Store(time.Now().UnixNano())
		return outcome, nil
	}
	closed := conn.Conn().IsClosed()
	err = fault.Classify(err, fault.Circumstances{
		HandlerRan: t.handlerRan, HandlersTookMost: t.handlersTook > r.config.Timeout/2, TimeUp: ctx.Err() != nil, ConnClosed: closed,
	})
	if closed && !t.handling && !w.committing.Load() && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", errDeadConn, err)
	}
	undo(ctx, conn.Conn(), t.tx, err)
	return "", err
}

// rollBackLater has the rollback of a transaction in which nothing was written wait for the reply, not the other way
// round.
func rollBackLater(ctx context.Context, conn *pgxpool.Conn, tx pgx.Tx) func() {
	return func() {
		defer conn.Release()
		rollback(ctx, tx)
	}
}

// undo rolls back what has failed. It closes a connection that is no good for the next event: to a server that has become
// read-only, so that the pool looks for the new primary; with statements that it prepared before the tables were changed;
// with a session that a handler has spoilt.
func undo(ctx context.Context, conn *pgx.Conn, tx pgx.Tx, err error) {
	if tx != nil {
		rollback(ctx, tx)
	}
	if fault.SpoilsConnection(err) || errors.Is(err, errRawCommit) || errors.Is(err, errChained) {
		_ = conn.Close(ctx)
	}
}

// lockTimeout is the limit on waiting for locks: LockTimeout, or less if the work's deadline comes first, so
// that a wait ends with a 503 and not as a failure of the event.
func (r *Receiver) lockTimeout(ctx context.Context) time.Duration {
	limit := r.config.LockTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)-lockMargin)
	}
	return max(limit, time.Millisecond)
}

// milliseconds is a setting of PostgreSQL's.
func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// rollback runs on a deadline of its own: the work's has often ended. It is no later than the reply may wait. If it
// fails, pgx closes the connection, and PostgreSQL rolls back by itself.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackLimit(ctx))
	defer cancel()
	defer func() { _ = recover() }() // of a hook of the pool's: the pool closes a connection whose transaction is open
	_ = tx.Rollback(ctx)
}

// rollbackLimit is how long a rollback may take after the work that ctx is of.
func rollbackLimit(ctx context.Context) time.Duration {
	deadline, limited := ctx.Deadline()
	if !limited {
		return rollbackTimeout
	}
	return min(rollbackTimeout, max(time.Until(deadline), 0)+timeoutGrace)
}

func nilIfZero[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}
