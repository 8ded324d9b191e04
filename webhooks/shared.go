package webhooks

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pook/stripeonce/internal/fault"
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

// member is an event on its way through a shared transaction.
type member struct {
	ctx     context.Context
	t       *transaction
	k       known
	outcome Outcome // once it is processed
	// question is what it asks Stripe, when the transaction has ended.
	question error
	settled  bool      // it has its verdict
	news     chan news // one verdict, and before it, for one of those that share, the call to lead
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
		return news{verdict: verdict{err: fault.Classify(err, fault.Circumstances{TimeUp: true})}}
	}
	return news{verdict: verdict{alone: true}}
}

// member is nil for an event that shares no transaction. Its locks must be of the object that it has the turn for, so
// that no two members want the same.
func (r *Receiver) member(ctx context.Context, w *work) *member {
	if r.config.MaxShared == 1 || w.replaysParked || !r.prepares || w.delivered.thin || w.runsHost() {
		return nil
	}
	if deadline, limited := ctx.Deadline(); !limited || time.Until(deadline) < sharedMargin {
		return nil
	}
	t := r.newTransaction(w, nil)
	t.patience = sharedPatience
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
