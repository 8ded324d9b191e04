package admission

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrQueueTimeout reports that a ticket did not get its turn in time.
var ErrQueueTimeout = errors.New("other events of the object or its customer are still in progress (webhooks.Config.LockTimeout, or Timeout)")

// Queues holds one first-in, first-out queue per key. A key without tickets takes no memory. The zero value of Queues is
// ready to use, and it is safe for concurrent use.
//
//	ticket := queues.Join(objectID)
//	defer ticket.Release()
//	if !ticket.TryAcquire() {
//		if err := ticket.Acquire(ctx, limit); err != nil {
//			return err
//		}
//	}
type Queues struct {
	mu    sync.Mutex
	byKey map[string]*queue
}

// queue is the queue of one key. Sends to turn wait in order: the runtime serves the senders of a channel first come,
// first served, and hands the place to the next one before any other ticket can take it.
type queue struct {
	turn    chan struct{} // of capacity 1: full while a ticket has the turn
	tickets int           // joined and not released
}

// Ticket is a place in the queue of one key. It is for one goroutine at a time.
type Ticket struct {
	queues   *Queues
	key      string
	queue    *queue
	acquired bool
	released bool
}

// Join returns a ticket for the queue of the key. It does not wait. The caller must release the ticket. Tickets wait in
// the order in which Acquire is called.
func (q *Queues) Join(key string) *Ticket {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.byKey == nil {
		q.byKey = make(map[string]*queue)
	}
	one := q.byKey[key]
	if one == nil {
		one = &queue{turn: make(chan struct{}, 1)}
		q.byKey[key] = one
	}
	one.tickets++
	return &Ticket{queues: q, key: key, queue: one}
}

// TryAcquire acquires the turn if it is free, and reports whether the ticket has it.
func (t *Ticket) TryAcquire() bool {
	if t.released {
		return false
	}
	select {
	case t.queue.turn <- struct{}{}:
		t.acquired = true
	default:
	}
	return t.acquired
}

// Acquire waits for the turn. It returns ErrQueueTimeout if the limit passes or ctx ends first. It acquires a free turn
// even if ctx has ended.
func (t *Ticket) Acquire(ctx context.Context, limit time.Duration) error {
	if t.TryAcquire() {
		return nil
	}
	if t.released {
		return ErrQueueTimeout
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case t.queue.turn <- struct{}{}:
		t.acquired = true
		return nil
	case <-timeout.C:
	case <-ctx.Done():
	}
	return ErrQueueTimeout
}

// Release leaves the queue, and ends the turn if the ticket has it. A second call does nothing.
func (t *Ticket) Release() {
	if t.released {
		return
	}
	t.released = true
	if t.acquired {
		<-t.queue.turn
	}
	t.queues.leave(t.key, t.queue)
}

func (q *Queues) leave(key string, one *queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if one.tickets--; one.tickets == 0 {
		delete(q.byKey, key)
	}
}
