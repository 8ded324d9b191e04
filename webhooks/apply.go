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
)

const (
	rollbackTimeout = 5 * time.Second
	// timeoutGrace is how long work that ran out of time has to say so itself. A function that does not
	// heed its context is then left behind: its event is answered 500, and undone when it returns.
	timeoutGrace = time.Second
	// lockMargin is how long before its deadline work stops waiting for a lock.
	lockMargin = 200 * time.Millisecond
	// retryPause is the mean pause before the second try; it doubles from try to try.
	retryPause = 10 * time.Millisecond
)

// Outcome is what came of an event.
type Outcome string

const (
	// OutcomeProcessed is the outcome of an event that took effect. Final.
	OutcomeProcessed Outcome = "processed"
	// OutcomeStale is that of an event for which only projections ran, and changed nothing. Final.
	OutcomeStale Outcome = "stale"
	// OutcomeIgnored is that of an event that nothing is registered for, or of the other mode.
	// Provisional: if it comes again and would now be applied, it is.
	OutcomeIgnored Outcome = "ignored"
	// OutcomeDuplicate is that of an event that is in the ledger already: nothing was written. It is
	// never in the ledger itself.
	OutcomeDuplicate Outcome = "duplicate"
)

// Result tells what came of an event.
type Result struct {
	EventID string  `json:"event_id"`
	Outcome Outcome `json:"outcome"`
}

// Apply makes an event from a trusted source, such as Stripe's Events API, take effect exactly as a
// delivery of it would, and under the same limits. When ctx ends before COMMIT, the work is undone.
func (r *Receiver) Apply(ctx context.Context, ev *Event) (Result, error) {
	if err := ev.validate(); err != nil {
		return Result{}, err
	}
	if err := r.gate.enter(); err != nil {
		return Result{}, err
	}
	work := r.newWork(ev)
	limited, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	leads := false
	done := r.once(limited, work, func() result {
		leads = true
		applied, err := r.await(limited, work) // which leaves the gate
		return result{applied, err, err != nil && ctx.Err() != nil}
	})
	if !leads {
		r.gate.leave()
	} else if done.err != nil && !done.abandoned { // to be interrupted is no failure of the event
		r.noteFailure(ctx, work, done.err)
	}
	return done.Result, done.err
}

// InTx runs fn in a transaction as an event's functions run: under the same limits, tried again after a
// serialization failure or a deadlock, and committed in the same way. It is for work that no event brings,
// such as an import; name stands for the event's type in errors.
func (r *Receiver) InTx(ctx context.Context, name string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if err := r.gate.enter(); err != nil {
		return err
	}
	w := &work{delivered: &Event{Type: name}, plain: func(ctx context.Context, tx pgx.Tx, _ *Event) (bool, error) {
		return true, fn(ctx, tx)
	}}
	limited, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	_, err := r.await(limited, w)
	return err
}

// applied is what came of the work.
type applied struct {
	outcome Outcome
	err     error
}

// await runs the work, and leaves the gate when all of it is done. Work that may outlast its context runs in another
// goroutine, so that a function that never returns holds back neither the reply nor anything else but its own
// connection and its place in the gate.
func (r *Receiver) await(ctx context.Context, w *work) (Result, error) {
	if w.heedsContext() {
		defer func() { // also when a hook of the pool ends the goroutine
			if w.cleanUp == nil {
				r.gate.leave()
			} else {
				r.workers.do(func() { r.finish(w) })
			}
		}()
		a := r.apply(ctx, w)
		return w.result(a.outcome), a.err
	}
	done := make(chan applied, 1)
	r.workers.do(func() {
		a := applied{err: &HandlerError{w.delivered.Type, errHandlerGoexits}}
		defer func() {
			done <- a
			r.finish(w)
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

// apply does the work. The functions' own panics are caught where they are called. Here are caught those of what they
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

// finish does what is left to be done, and leaves the gate.
func (r *Receiver) finish(w *work) {
	defer r.gate.leave()
	if w.cleanUp != nil {
		w.cleanUp()
	}
}

func (r *Receiver) applyWithRetries(ctx context.Context, w *work) (Outcome, error) {
	if err := r.ensureReady(ctx); err != nil {
		return "", err
	}
	attempt := r.firstAttempt
	for try := 1; ; {
		outcome, err := attempt(ctx, w)
		attempt = r.attempt
		var question *askError
		switch {
		case errors.As(err, &question):
			// The attempt is rolled back and its connection released.
			if err := r.ask(ctx, w, question); err != nil {
				return "", err
			}
		case LacksMigration(err) && !r.config.AssumeMigrated:
			r.ready.Store(false)
			return "", errors.Join(r.ensureReady(ctx), err)
		case !isRetryable(err) || try >= r.config.MaxAttempts || !pause(ctx, try):
			return outcome, err
		default:
			try++
		}
	}
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
	conn, err := r.acquire(ctx)
	if err != nil {
		return "", err
	}
	w.committing.Store(false)
	held := true
	defer func() { // also when a function's panic or Goexit passes
		if held {
			conn.Release()
		}
	}()
	t := &transaction{receiver: r, work: w, conn: conn.Conn()}
	outcome, err := t.run(ctx)
	if t.known {
		held = false
		w.rollBackLater(ctx, conn, t.tx)
		return OutcomeDuplicate, nil
	}
	if err == nil {
		r.lastCommit.Store(time.Now().UnixNano())
		return outcome, nil
	}
	err = classify(ctx, err, conn.Conn().IsClosed())
	undo(ctx, conn.Conn(), t.tx, err)
	if errors.Is(err, errDuplicate) {
		return OutcomeDuplicate, nil
	}
	return "", err
}

// rollBackLater has the rollback of a transaction in which nothing was written wait for the answer, not the other way
// round.
func (w *work) rollBackLater(ctx context.Context, conn *pgxpool.Conn, tx pgx.Tx) {
	w.cleanUp = func() {
		rollback(ctx, tx)
		conn.Release()
	}
}

// undo rolls back what has failed.
func undo(ctx context.Context, conn *pgx.Conn, tx pgx.Tx, err error) {
	if tx != nil {
		rollback(ctx, tx)
	}
	if code := pgCode(err); code == codeReadOnlyTransaction || code == codeStalePlan || code == codeNoSuchPrepared {
		// A demoted primary: the pool is to look for the new one. Or statements that the connection prepared
		// before the tables were changed.
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

func (r *Receiver) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	return r.acquireWithin(ctx, r.config.AcquireTimeout)
}

func (r *Receiver) acquireWithin(ctx context.Context, limit time.Duration) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: no connection to PostgreSQL was to be had: %w", ErrUnavailable, err)
	}
	return conn, nil
}

// rollback runs on a deadline of its own: the work's has often ended. It is no later than the reply may wait. If it
// fails, pgx closes the connection, and PostgreSQL rolls back by itself.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackLimit(ctx))
	defer cancel()
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
