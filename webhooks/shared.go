package webhooks

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// sharedPatience bounds each wait for a lock in a shared transaction. It is short, so that one event's wait is not
// that of all; and less than PostgreSQL's deadlock_timeout, so that who waits for a lock of one of the events while
// another waits for his does not come to be the victim. The event then waits in a transaction of its own.
const sharedPatience = 50 * time.Millisecond

// sharedWait bounds the wait for a shared transaction to end. After it an event has one of its own: where those that
// are under way hang, as over a dead connection, not everything does.
const sharedWait = 500 * time.Millisecond

// shared lets events that come at the same time share transactions: one BEGIN, one COMMIT, and two trips to
// PostgreSQL for all of them. It is for those that run no function of the host's, and find the lock of their object
// free; whatever goes wrong for one of them, nothing of any is kept, and each goes on in a transaction of its own.
//
// Nobody waits for company: while fewer than Config.SharedTransactions are under way, an event begins one by itself.
// Those that come meanwhile wait for one of them to end, for a limited time, and then go together.
type shared struct {
	mu      sync.Mutex
	free    int       // how many more may be under way
	waiting []*member // empty while there is a free one
	max     int       // how many events share one
}

// member is an event on its way through a shared transaction.
type member struct {
	ctx     context.Context
	t       *transaction
	k       known
	outcome Outcome   // once it is processed
	news    chan news // one answer, and before it, of one of those that share, the call to lead
}

type news struct {
	lead []*member // those that are to share the next transaction, who is told among them
	verdict
}

// verdict is what came of a member.
type verdict struct {
	outcome Outcome
	err     error
	alone   bool // nothing: it needs a transaction of its own
}

func newShared(config *Config) *shared {
	return &shared{free: config.SharedTransactions, max: config.MaxShared}
}

// join returns the members that the caller is to lead, none if they are to wait.
func (s *shared) join(m *member) []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		s.waiting = append(s.waiting, m)
		return nil
	}
	s.free--
	return []*member{m}
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
	group := slices.Clone(s.waiting[:n])
	s.waiting = slices.Delete(s.waiting, 0, n)
	group[0].news <- news{lead: group}
}

// share applies an event together with others.
func (r *Receiver) share(ctx context.Context, w *work) verdict {
	m := r.member(ctx, w)
	if m == nil {
		return verdict{alone: true}
	}
	if group := r.shared.join(m); group != nil {
		r.leadShared(group)
		return (<-m.news).verdict
	}
	n := r.awaitNews(m)
	if n.lead != nil {
		r.leadShared(n.lead)
		n = <-m.news
	}
	return n.verdict
}

func (r *Receiver) awaitNews(m *member) news {
	timeout := time.NewTimer(sharedWait)
	defer timeout.Stop()
	select {
	case n := <-m.news:
		return n
	case <-timeout.C:
	case <-m.ctx.Done():
	}
	if !r.shared.leave(m) { // it is under way
		return <-m.news
	}
	if err := m.ctx.Err(); err != nil {
		return news{verdict: verdict{err: classify(m.ctx, err, false)}}
	}
	return news{verdict: verdict{alone: true}}
}

// member is nil for an event that cannot share a transaction: a function of the host's may do what it likes with its
// own, and what is locked must be what nobody else in this process has a turn for.
func (r *Receiver) member(ctx context.Context, w *work) *member {
	if r.config.MaxShared == 1 || !r.prepares || w.plain != nil || w.delivered.thin || w.asked.times > 0 || !w.heedsContext() {
		return nil
	}
	t := &transaction{receiver: r, work: w, patience: sharedPatience}
	t.prepare(w.delivered)
	for i := range t.trips {
		if t.trips[i].Apply == nil || t.trips[i].Lock == "" || t.trips[i].Lock != w.delivered.ObjectID() {
			return nil
		}
	}
	for i := range t.trips {
		if prepare := t.trips[i].Prepare; prepare != nil {
			prepare()
		}
	}
	return &member{ctx: ctx, t: t, news: make(chan news, 2)}
}

// leadShared takes members through a transaction that they share, of which the caller is one. Each gets its verdict.
func (r *Receiver) leadShared(members []*member) {
	s := &sharing{receiver: r, leader: members[0], open: slices.Clone(members)}
	defer s.end()
	ctx, cancel := s.context()
	defer cancel()
	conn, err := r.acquire(ctx)
	if err != nil {
		s.fail(ctx, s.open, err, false)
		return
	}
	s.run(ctx, conn)
}

// sharing is one shared transaction.
type sharing struct {
	receiver *Receiver
	leader   *member
	open     []*member // those without a verdict
}

// end also comes when a panic or a Goexit passes.
func (s *sharing) end() {
	s.receiver.shared.pass()
	s.settle(s.open, func(*member) verdict { return verdict{alone: true} })
}

// settle gives some members their verdicts.
func (s *sharing) settle(some []*member, of func(*member) verdict) {
	for _, m := range slices.Clone(some) {
		s.open = slices.DeleteFunc(s.open, func(o *member) bool { return o == m })
		m.news <- news{verdict: of(m)}
	}
}

// context ends when those of all members have.
func (s *sharing) context() (context.Context, context.CancelFunc) {
	if len(s.open) == 1 {
		return s.leader.ctx, func() {}
	}
	latest, _ := s.leader.ctx.Deadline()
	for _, m := range s.open {
		if deadline, _ := m.ctx.Deadline(); deadline.After(latest) {
			latest = deadline
		}
	}
	return context.WithDeadline(context.WithoutCancel(s.leader.ctx), latest)
}

func (s *sharing) run(ctx context.Context, conn *pgxpool.Conn) {
	held := true
	defer func() {
		if held {
			conn.Release()
		}
	}()
	var first []Statement
	for _, m := range s.open {
		m.t.conn = conn.Conn()
		first = append(first, m.t.firstTrip(&m.k)...)
	}
	tx, err := s.receiver.beginWith(ctx, conn.Conn(), first)
	if err != nil {
		undo(ctx, conn.Conn(), tx, err)
		s.fail(ctx, s.open, err, conn.Conn().IsClosed())
		return
	}
	writers, last := s.process(ctx, tx)
	switch {
	case len(writers) > 0:
	case len(s.open) > 0: // which are going to want their locks
		rollback(ctx, tx)
		return
	default:
		held = false
		s.leader.t.work.cleanUp = func() { // for which no answer waits
			rollback(ctx, tx)
			conn.Release()
		}
		return
	}
	err = lastTrip(ctx, conn.Conn(), last, s.receiver.config.CommitTimeout+time.Duration(len(last))*sharedPatience)
	if err != nil {
		closed := conn.Conn().IsClosed()
		undo(ctx, conn.Conn(), tx, err)
		s.fail(ctx, writers, err, closed)
		return
	}
	s.receiver.lastCommit.Store(time.Now().UnixNano())
	s.settle(writers, func(m *member) verdict {
		m.t.remember(m.outcome != OutcomeIgnored)
		return verdict{outcome: m.outcome}
	})
}

// process has the members do their work, and returns those that have something to be written, and that.
func (s *sharing) process(ctx context.Context, tx pgx.Tx) (writers []*member, last []Statement) {
	for _, m := range slices.Clone(s.open) {
		handlers := len(m.t.work.handlers)
		switch {
		case m.k.final || m.k.here && handlers == 0:
			m.t.remember(m.k.final)
			s.settle([]*member{m}, func(*member) verdict { return verdict{outcome: OutcomeDuplicate} })
			continue
		case m.ctx.Err() != nil:
			s.settle([]*member{m}, func(*member) verdict { return verdict{err: classify(m.ctx, m.ctx.Err(), false)} })
			continue
		case m.k.here || handlers > 0 && !m.t.locked:
			continue
		}
		m.t.tx = refusingTx{errShared, tx.Conn()}
		m.t.later.tx = m.t.tx
		var err error
		if m.outcome, err = m.t.process(ctx, m.t.work.delivered); err != nil {
			continue
		}
		writers = append(writers, m)
		last = append(append(last, m.t.later.list...), m.t.insert(m.t.work.delivered, m.outcome))
	}
	return writers, last
}

// fail is for an error of what members share, of which nothing is left. If it can be that of one of them, each goes on
// by itself.
func (s *sharing) fail(ctx context.Context, some []*member, err error, closed bool) {
	alone := !errors.Is(err, ErrUnavailable) && !closed && ctx.Err() == nil
	lost := len(some) == 1 && errors.Is(err, errDuplicate)
	s.settle(some, func(m *member) verdict {
		if lost {
			return verdict{outcome: OutcomeDuplicate}
		}
		return verdict{err: classify(m.ctx, err, closed), alone: alone}
	})
}

// errShared is what a projection gets that asks more in a shared transaction than what it has said beforehand.
var errShared = errors.New("the transaction is shared")
