package webhooks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pook/stripeonce/internal/fault"
)

// retryPause is the mean pause before the second attempt; it doubles from attempt to attempt.
const retryPause = 10 * time.Millisecond

// maxLostRaces bounds the attempts that lose to a concurrent duplicate. The next attempt normally finds the duplicate's
// row. Repeated losses mean that the receiver's role cannot see the row (row level security).
const maxLostRaces = 4

var (
	// errLostRace reports that the ledger's unique index, or an update of no row, found a concurrent duplicate: see lostRace. No rule of
	// fault.Classify changes it, so that retry sees it.
	errLostRace  = errors.New("a concurrent duplicate of the event was recorded first")
	errHiddenRow = errors.New("the ledger has a row of the event that the receiver cannot see: check the row level security policies of stripe_webhook_events")
	// errDeadConn is wrapped where a connection of the pool turned out to have died before anything that matters was sent.
	errDeadConn = errors.New("the pooled connection was closed")
)

// attempts counts the attempts of one delivery by how each ended.
type attempts struct {
	tries     int // bounded by Config.MaxAttempts
	lostRaces int // to a concurrent duplicate
	deadConns int
	doubts    int // whether the tables are there and may be written
}

// attemptUntilDone attempts the delivery until it has an outcome or fails.
func (r *Receiver) attemptUntilDone(ctx context.Context, d *delivery) (Outcome, error) {
	if err := r.readiness.Ensure(ctx); err != nil {
		return "", err
	}
	counts := attempts{tries: 1}
	for first := true; ; first = false {
		err := r.attemptOnce(ctx, d, first)
		if err == nil {
			return d.outcome, nil
		}
		again, failure := r.retry(ctx, d, &counts, err)
		switch {
		case again:
		case d.parked != nil: // it neither takes effect nor waits for a person: that is a failure, whatever kept it from it
			return "", fmt.Errorf("%w; it could not be parked: %w", d.parked, failure)
		default:
			return "", failure
		}
	}
}

// attemptOnce takes the delivery through one transaction: the first time in a batch, if it may be in one and the batch
// keeps it, else in a transaction of its own. A rider has had its first time.
func (r *Receiver) attemptOnce(ctx context.Context, d *delivery, first bool) error {
	if first && d.rode && d.err != nil {
		return d.err
	}
	if !first || d.rode || d.plans == nil { // one that may ride has begun it
		d.begin(ctx)
	}
	if first && !d.rode && r.batchable(d) {
		batches := r.batches
		if d.runsHost() {
			batches = r.hostBatches
		}
		waiting := r.shedder.Wait()
		defer waiting.End(false) // if a hook of the pool panics
		d.waiting = waiting
		carried := batches.Carry(ctx, d, r.runBatch)
		waiting.End(false) // unless the batch has acquired a connection
		switch {
		case d.outcome != "" || d.err != nil:
			return d.err
		case !carried && d.gaveUp():
			return fault.Classify(ctx.Err(), fault.Circumstances{TimeUp: true})
		}
		d.begin(ctx)
	}
	r.runTransaction(ctx, &transaction{receiver: r, deliveries: []*delivery{d}})
	return d.err
}

// retry decides whether a failed attempt is followed by another; if not, failure is the delivery's error. The
// transaction has been rolled back and its connection released. Only serialization failures and deadlocks count against
// MaxAttempts.
func (r *Receiver) retry(ctx context.Context, d *delivery, counts *attempts, err error) (again bool, failure error) {
	var request *fetchError
	lostRace, failure := r.lostRace(ctx, err)
	switch {
	case failure != nil:
		return false, failure
	case errors.As(err, &request):
		failure := r.fetch(ctx, d, request)
		return failure == nil, failure
	case d.park(err):
		return true, nil
	case lostRace:
		counts.lostRaces++
		if counts.lostRaces > maxLostRaces {
			return false, fault.Unavailable(errHiddenRow)
		}
		return true, nil
	case errors.Is(err, errDeadConn):
		counts.deadConns++
		return counts.deadConns <= r.pool.MaxUnfit(), err
	case fault.IsDoubtful(err):
		return r.doubt(ctx, d, counts, err)
	case fault.IsRetryable(err) && counts.tries < r.config.MaxAttempts && pause(ctx, counts.tries):
		counts.tries++
		return true, nil
	case fault.IsInfrastructure(err) && fault.Code(err) == fault.DiskFull, fault.IsUnreadable(err) && !fault.IsHandler(err):
		r.readiness.Doubt() // a trial, before any handler runs, finds out when there is room again, or what cannot be read
	}
	return false, err
}

// doubt checks whether the tables exist and may be written. If they do, the session of the connection was changed by a
// handler of an earlier event, or by other code of the host's (a temporary table of the same name, SET ROLE): the connection
// is closed, and the event is retried on another one, until a new connection fails too.
func (r *Receiver) doubt(ctx context.Context, d *delivery, counts *attempts, err error) (again bool, failure error) {
	if errors.Is(err, ErrNotPermitted) || !r.config.AssumeMigrated {
		r.readiness.Doubt()
	}
	if lacks := r.readiness.Ensure(ctx); lacks != nil {
		return false, errors.Join(lacks, err)
	}
	counts.doubts++
	return !d.freshConn && counts.doubts <= r.pool.MaxUnfit(), err
}

// pause waits before the next attempt; false if ctx ends first.
func pause(ctx context.Context, try int) bool {
	select {
	case <-time.After(rand.N(2 * retryPause << (try - 1))):
		return true
	case <-ctx.Done():
		return false
	}
}
