package webhooks

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
)

// group are members that share a transaction.
type group []*member

// leadShared takes a group through its transaction. The first member is the caller's own. Each gets its verdict.
func (r *Receiver) leadShared(g group) {
	ended := make(chan struct{}) // when the transaction is
	end := func() { close(ended) }
	defer func() { end() }()
	defer func() {
		// One member's panic is not the leader's: by itself it panics once more. A Goexit passes.
		if value := recover(); value != nil {
			r.config.Logger.Warn("a panic in a shared transaction, whose events go on by themselves", "panic", value, "stack", string(debug.Stack()))
		}
		r.shared.pass()
		for _, m := range g { // of which nothing has been written, and whose locks nobody holds any more
			m.settle(verdict{err: m.question, alone: m.question == nil})
		}
	}()
	ctx, cancel := g.context()
	defer cancel()
	conn, err := r.acquire(ctx)
	if err != nil {
		r.failShared(g, err, false, ctx.Err() != nil)
		return
	}
	held := true
	defer func() {
		if held {
			conn.Release()
		}
	}()
	tx, err := r.firstTripOf(ctx, conn.Conn(), g)
	if err != nil {
		closed := conn.Conn().IsClosed()
		undo(ctx, conn.Conn(), tx, err)
		r.failShared(g, err, closed, true)
		return
	}
	writers := g.process(tx, ended)
	if len(writers) > 0 {
		ctx, cancel := writers.context() // theirs alone: a member that has its verdict ends its own
		defer cancel()
		r.lastTripOf(ctx, conn.Conn(), tx, writers)
		return
	}
	if slices.ContainsFunc(g, func(m *member) bool { return !m.settled }) { // who is going to want its lock
		rollback(ctx, tx)
		return
	}
	g[0].t.work.rollBack = inOrder(rollBackLater(ctx, conn, tx), end)
	held, end = false, func() {}
}

// inOrder does one after the other, the second also if the first panics.
func inOrder(first, second func()) func() {
	return func() {
		defer second()
		first()
	}
}

// context has the earliest deadline of the members. A member whose caller gives up leaves the batch alone.
func (g group) context() (context.Context, context.CancelFunc) {
	if len(g) == 1 {
		return g[0].ctx, func() {}
	}
	earliest, _ := g[0].ctx.Deadline()
	for _, m := range g {
		if deadline, _ := m.ctx.Deadline(); deadline.Before(earliest) {
			earliest = deadline
		}
	}
	return context.WithDeadline(context.WithoutCancel(g[0].ctx), earliest)
}

// settle gives a verdict to those that have none.
func (g group) settle(v verdict) {
	for _, m := range g {
		if !m.settled {
			m.settled = true
			m.news <- news{verdict: v}
		}
	}
}

func (m *member) settle(v verdict) { group{m}.settle(v) }

// firstTripOf begins the transaction, and looks all members up.
func (r *Receiver) firstTripOf(ctx context.Context, conn *pgx.Conn, g group) (pgx.Tx, error) {
	if len(g) == 1 {
		return r.beginWith(ctx, conn, g[0].t.firstTrip(&g[0].k))
	}
	first := []Statement{g[0].t.limitLocks, r.lockAll(g), r.lookUpAll(g)}
	for _, m := range g {
		for _, trips := range m.t.trips {
			first = append(first, trips.Read...)
		}
	}
	return r.beginWith(ctx, conn, first)
}

// lockAll takes the members' locks where they are free.
func (r *Receiver) lockAll(g group) Statement {
	var objects []string
	for _, m := range g {
		if len(m.t.trips) > 0 {
			objects = append(objects, m.t.trips[0].Lock)
		}
	}
	return func(ctx context.Context, db db.DBTX) error {
		taken, err := r.queries.ObjectLockTryAll(ctx, db, objects)
		for _, m := range g {
			m.t.locked = len(m.t.trips) > 0 && slices.Contains(taken, m.t.trips[0].Lock)
		}
		return ledgerError("lock the objects of events", err)
	}
}

// lookUpAll looks the members up in the ledger.
func (r *Receiver) lookUpAll(g group) Statement {
	ids := make([]string, len(g))
	for i, m := range g {
		ids[i] = m.t.work.delivered.ID
	}
	return func(ctx context.Context, db db.DBTX) error {
		rows, err := r.queries.StripeWebhookEventOutcomes(ctx, db, ids)
		for _, row := range rows {
			m := g[slices.Index(ids, row.EventID)]
			m.k.here = true
			m.k.note(m.t.work, row.Outcome, row.EventType)
		}
		return ledgerError("look up events", err)
	}
}

// record records the members.
func (g group) record(r *Receiver) Statement {
	if len(g) == 1 {
		return g[0].t.insert(g[0].t.work.delivered, g[0].outcome)
	}
	var p db.StripeWebhookEventInsertAllParams
	for _, m := range g {
		ev := m.t.work.delivered
		p.EventIds, p.EventTypes, p.Outcomes = append(p.EventIds, ev.ID), append(p.EventTypes, ev.Type), append(p.Outcomes, string(m.outcome))
		p.EventCreatedAts, p.Livemodes = append(p.EventCreatedAts, ev.Created), append(p.Livemodes, ev.Livemode)
		p.AccountIds, p.ApiVersions, p.ObjectIds = append(p.AccountIds, ev.Account), append(p.ApiVersions, ev.APIVersion), append(p.ObjectIds, ev.ObjectID())
	}
	return func(ctx context.Context, db db.DBTX) error {
		return ledgerError("record events", r.queries.StripeWebhookEventInsertAll(ctx, db, p))
	}
}

// process has the members do their work, and returns those that have something to be written. A duplicate is answered at
// once, and has the next event of its object wait until ended, since the transaction holds that object's lock.
func (g group) process(tx pgx.Tx, ended <-chan struct{}) (writers group) {
	for _, m := range g {
		w := m.t.work
		if m.t.isKnown(m.k) {
			m.t.receiver.warnOfOtherType(m.ctx, w, m.k.eventType)
			w.rollBack = func() { <-ended }
			m.settle(verdict{outcome: OutcomeDuplicate})
			continue
		}
		if m.gaveUp() {
			continue
		}
		if m.k.here || len(w.handlers) > 0 && !m.t.locked {
			continue
		}
		own := &refusingTx{err: errShared, conn: tx.Conn()}
		m.t.tx, m.t.conn = own, tx.Conn()
		m.t.later.send = func(context.Context, []Statement) error { return own.refuse() }
		var err error
		m.outcome, err = m.t.process(m.ctx, w.delivered)
		switch {
		case errors.As(err, new(*askError)):
			m.question = err
		case err == nil && !own.asked:
			writers = append(writers, m)
		}
	}
	return slices.DeleteFunc(writers, (*member).gaveUp)
}

// gaveUp is true, with a verdict, for a member whose context has ended.
func (m *member) gaveUp() bool {
	err := m.ctx.Err()
	if err != nil {
		m.settle(verdict{err: fault.Classify(err, fault.Circumstances{TimeUp: true})})
	}
	return err != nil
}

// lastTripOf writes what there is and commits.
func (r *Receiver) lastTripOf(ctx context.Context, conn *pgx.Conn, tx pgx.Tx, writers group) {
	var last []Statement
	for _, m := range writers {
		last = append(last, m.t.later.list...)
	}
	last = append(last, writers.record(r))
	locks := min(time.Duration(len(last))*sharedPatience, r.config.LockTimeout)
	if err := lastTrip(ctx, conn, last, r.config.CommitTimeout+locks); err != nil {
		closed := conn.IsClosed()
		undo(ctx, conn, tx, err)
		r.failShared(writers, err, closed, !errors.Is(err, ErrUnavailable)) // which it is where COMMIT may have succeeded
		return
	}
	r.lastCommit.Store(time.Now().UnixNano())
	for _, m := range writers {
		m.t.remember(m.outcome != OutcomeIgnored)
		m.settle(verdict{outcome: m.outcome})
	}
}

// failShared is for an error of what a group shares, of which nothing is left. Unless it is that of all, each of those
// who have time goes on by itself.
func (r *Receiver) failShared(g group, err error, closed, alone bool) {
	if alone {
		r.config.Logger.DebugContext(g[0].ctx, "events go on in transactions of their own", "events", len(g), "error", safeError(err))
	}
	for _, m := range g {
		timeUp := m.ctx.Err() != nil
		m.settle(verdict{err: fault.Classify(err, fault.Circumstances{TimeUp: timeUp, ConnClosed: closed}), alone: alone && !timeUp})
	}
}

// errShared is what a projection gets that asks more in a shared transaction than what it has said beforehand.
var errShared = errors.New("the transaction is shared")
