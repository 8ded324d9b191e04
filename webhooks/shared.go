package webhooks

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
)

// sharedPatience bounds each wait for a lock in a shared transaction. It is short, so that one event's wait is not
// that of all; and less than PostgreSQL's deadlock_timeout, so that who waits for a lock of one of the events while
// another waits for his does not come to be the victim. The event then waits in a transaction of its own.
const sharedPatience = 50 * time.Millisecond

// sharedWait bounds the wait for a shared transaction to end. After it an event has one of its own: where those that
// are under way hang, as over a dead connection, not everything does.
const sharedWait = 500 * time.Millisecond

// sharedMargin is how much time an event must have to share a transaction, which ends when the time of one member does.
const sharedMargin = time.Second

// shared lets events that come at the same time share transactions: one BEGIN, one COMMIT, and two trips to
// PostgreSQL for all of them. It is for those that run no function of the host's. One whose object's lock is held, or
// that cannot be written, leaves the others and goes on in a transaction of its own; if PostgreSQL refuses what one of
// them writes, nothing of any is kept, and all go on so.
//
// Nobody waits for company: while fewer than Config.SharedTransactions are under way, an event begins one by itself.
// Those that come meanwhile wait for one of them to end, for a limited time, and then go together.
type shared struct {
	mu      sync.Mutex
	free    int   // how many more may be under way
	waiting group // empty while there is a free one
	max     int   // how many events share one
	wait    time.Duration
}

// group are members that share a transaction.
type group []*member

// member is an event on its way through a shared transaction.
type member struct {
	ctx     context.Context
	t       *transaction
	k       known
	outcome Outcome   // once it is processed
	settled bool      // it has its verdict
	news    chan news // one verdict, and before it, for one of those that share, the call to lead
}

type news struct {
	lead group // those that are to share the next transaction; the first is who is told
	verdict
}

// verdict is what came of a member.
type verdict struct {
	outcome Outcome
	err     error
	alone   bool // nothing: it needs a transaction of its own
}

func newShared(config *Config) *shared {
	return &shared{free: config.SharedTransactions, max: config.MaxShared, wait: sharedWait}
}

// join returns the members that the caller is to lead, none if they are to wait.
func (s *shared) join(m *member) group {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		s.waiting = append(s.waiting, m)
		return nil
	}
	s.free--
	return group{m}
}

// leave is for who waits no longer. It is too late for it when false.
func (s *shared) leave(m *member) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, m)
	if i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	return i >= 0
}

// pass is called when a transaction has ended. The first of those that wait leads the next one.
func (s *shared) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.waiting), s.max)
	if n == 0 {
		s.free++
		return
	}
	next := slices.Clone(s.waiting[:n])
	s.waiting = slices.Delete(s.waiting, 0, n)
	next[0].news <- news{lead: next}
}

// share applies an event together with others.
func (r *Receiver) share(ctx context.Context, w *work) verdict {
	m := r.member(ctx, w)
	if m == nil {
		return verdict{alone: true}
	}
	if alone := r.shared.join(m); alone != nil {
		r.leadShared(alone)
		return (<-m.news).verdict
	}
	n := r.shared.await(m)
	if n.lead != nil {
		r.leadShared(n.lead)
		n = <-m.news
	}
	return n.verdict
}

func (s *shared) await(m *member) news {
	timeout := time.NewTimer(s.wait)
	defer timeout.Stop()
	select {
	case n := <-m.news:
		return n
	case <-timeout.C:
	case <-m.ctx.Done():
	}
	if !s.leave(m) { // it is under way
		return <-m.news
	}
	if err := m.ctx.Err(); err != nil {
		return news{verdict: verdict{err: classify(m.ctx, err, false)}}
	}
	return news{verdict: verdict{alone: true}}
}

// member is nil for an event that shares no transaction. Its locks must be of the object that it has the turn for, so
// that no two members want the same.
func (r *Receiver) member(ctx context.Context, w *work) *member {
	if r.config.MaxShared == 1 || !r.prepares || w.delivered.thin || !w.heedsContext() {
		return nil
	}
	if deadline, limited := ctx.Deadline(); limited && time.Until(deadline) < sharedMargin {
		return nil
	}
	t := &transaction{receiver: r, work: w, patience: sharedPatience}
	t.prepare(w.delivered)
	for i := range t.trips {
		if trips := &t.trips[i]; !trips.Shareable || trips.Lock == "" || trips.Lock != w.delivered.ObjectID() || !prepared(trips) {
			return nil
		}
	}
	return &member{ctx: ctx, t: t, news: make(chan news, 2)}
}

// prepared is false if it panics, as it then will where the panic is that of a function.
func prepared(trips *Trips) (ok bool) {
	defer func() { _ = recover() }()
	if trips.Prepare != nil {
		trips.Prepare()
	}
	return true
}

// leadShared takes a group through its transaction. The first member is the caller's own. Each gets its verdict.
func (r *Receiver) leadShared(g group) {
	defer func() {
		_ = recover() // one member's panic is not the leader's: by itself it panics once more. A Goexit passes.
		r.shared.pass()
		g.settle(verdict{alone: true})
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
		r.failShared(g, err, closed, len(g) > 1 || !closed && !errors.Is(err, ErrUnavailable))
		return
	}
	writers, last := g.process(tx)
	if len(writers) > 0 {
		r.lastTripOf(ctx, conn.Conn(), tx, writers, last)
		return
	}
	if slices.ContainsFunc(g, func(m *member) bool { return !m.settled }) { // who is going to want its lock
		rollback(ctx, tx)
		return
	}
	held = false
	g[0].t.work.cleanUp = func() { // for which no answer waits
		rollback(ctx, tx)
		conn.Release()
	}
}

// context ends when that of any member does.
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
	ctx, cancel := context.WithDeadline(context.WithoutCancel(g[0].ctx), earliest)
	stops := make([]func() bool, len(g))
	for i, m := range g {
		stops[i] = context.AfterFunc(m.ctx, cancel)
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
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
		return r.ledgerError("lock the objects of events", err)
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
			k := &g[slices.Index(ids, row.EventID)].k
			k.here, k.final = true, Outcome(row.Outcome) != OutcomeIgnored
		}
		return r.ledgerError("look up events", err)
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
		return r.ledgerError("record events", r.queries.StripeWebhookEventInsertAll(ctx, db, p))
	}
}

// process has the members do their work, and returns those that have something to be written, and that.
func (g group) process(tx pgx.Tx) (writers group, last []Statement) {
	for _, m := range g {
		w := m.t.work
		if m.k.final || m.k.here && len(w.handlers) == 0 {
			m.t.remember(m.k.final)
			m.settle(verdict{outcome: OutcomeDuplicate})
			continue
		}
		if err := m.ctx.Err(); err != nil {
			m.settle(verdict{err: classify(m.ctx, err, false)})
			continue
		}
		if m.k.here || len(w.handlers) > 0 && !m.t.locked {
			continue
		}
		own := &refusingTx{err: errShared, conn: tx.Conn()}
		m.t.tx, m.t.later.tx = own, own
		var err error
		m.outcome, err = m.t.process(m.ctx, w.delivered)
		var question *askError
		switch {
		case errors.As(err, &question):
			m.settle(verdict{err: err})
		case err == nil && !own.asked:
			writers = append(writers, m)
			last = append(last, m.t.later.list...)
		}
	}
	return writers, last
}

// lastTripOf writes what there is and commits.
func (r *Receiver) lastTripOf(ctx context.Context, conn *pgx.Conn, tx pgx.Tx, writers group, last []Statement) {
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
	if len(g) == 1 && errors.Is(err, errDuplicate) {
		g.settle(verdict{outcome: OutcomeDuplicate})
		return
	}
	if alone {
		r.config.Logger.DebugContext(g[0].ctx, "events go on in transactions of their own", "events", len(g), "error", safeError(err))
	}
	for _, m := range g {
		m.settle(verdict{err: classify(m.ctx, err, closed), alone: alone && m.ctx.Err() == nil})
	}
}

// errShared is what a projection gets that asks more in a shared transaction than what it has said beforehand.
var errShared = errors.New("the transaction is shared")
