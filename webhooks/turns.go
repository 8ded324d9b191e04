package webhooks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// turns let the events about one Stripe object follow one another within this process. Otherwise they
// would wait for each other in PostgreSQL, each with a connection of the pool.
type turns struct {
	mu    sync.Mutex
	byKey map[string]*turn
}

type turn struct {
	token   chan struct{} // holds one while an event has its turn; who waits to put one in waits in order
	members int           // who has the turn or waits for it
}

func newTurns() *turns { return &turns{byKey: map[string]*turn{}} }

func (t *turns) join(key string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.byKey[key]
	if one == nil {
		one = &turn{token: make(chan struct{}, 1)}
		t.byKey[key] = one
	}
	one.members++
	return one
}

func (t *turns) leave(key string, one *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one.members--; one.members == 0 {
		delete(t.byKey, key)
	}
}

// try takes the turn if nobody has it.
func (t *turn) try() bool {
	select {
	case t.token <- struct{}{}:
		return true
	default:
		return false
	}
}

// wait waits for the turn.
func (t *turn) wait(ctx context.Context, limit time.Duration) error {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case t.token <- struct{}{}:
		return nil
	case <-timeout.C:
	case <-ctx.Done():
	}
	return fmt.Errorf("%w: other events of the object are still being worked on", ErrUnavailable)
}

func (t *turn) end() { <-t.token }

// applyInTurn applies an event when those before it that are about the same object are done, and their transactions
// ended. One that is known already does not wait for them.
func (r *Receiver) applyInTurn(ctx context.Context, w *work) (Outcome, error) {
	if !w.replaysParked && r.recent.has(w.delivered.ID) {
		if known, err := r.look(ctx, w); known || errors.Is(err, ErrUnavailable) {
			return OutcomeDuplicate, err
		}
	}
	object := w.delivered.ObjectID()
	if object == "" || len(w.handlers) == 0 {
		return r.applyWithRetries(ctx, w)
	}
	turn := r.turns.join(object)
	w.endTurn = func() { r.turns.leave(object, turn) }
	if !turn.try() {
		if known, err := r.look(ctx, w); err != nil || known {
			return OutcomeDuplicate, err
		}
		if err := turn.wait(ctx, r.config.LockTimeout); err != nil {
			return "", err
		}
	}
	w.endTurn = func() {
		turn.end()
		r.turns.leave(object, turn)
	}
	return r.applyWithRetries(ctx, w)
}

// look says whether the ledger has the event's final outcome.
func (r *Receiver) look(ctx context.Context, w *work) (found bool, err error) {
	if err := r.ensureReady(ctx); err != nil {
		return false, err
	}
	var k known
	err = r.onLiveConn(ctx, func(conn *pgxpool.Conn) error {
		k = known{}
		return r.lookup(w, &k)(ctx, conn)
	})
	if k.final {
		r.warnOfOtherType(ctx, w, k.eventType)
	}
	return k.final, err
}
