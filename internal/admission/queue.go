package admission

import (
	"context"
	"errors"
	"slices"
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
//
// What waits can offer a rider instead: the ticket that has the turn may take it along, as a batch takes further events of
// its objects.
type Queues[R any] struct {
	mu    sync.Mutex
	byKey map[string]*queue[R]
}

// queue is the queue of one key.
type queue[R any] struct {
	holder  *Ticket[R]   // it has the turn; nil: the turn is free, and no ticket waits
	waiting []*Ticket[R] // in the order in which they will have it
	tickets int          // joined and not released
}

// Ticket is a place in the queue of one key. Its methods are for one goroutine at a time.
type Ticket[R any] struct {
	queues   *Queues[R]
	key      string
	queue    *queue[R]
	released bool

	// While the ticket waits:
	wake  chan struct{} // it has the turn, or its rider was taken along
	rider *R            // nil: none is offered, or it was taken along
}

// Join returns a ticket for the queue of the key. It does not wait. The caller must release the ticket. Tickets wait in
// the order in which Acquire is called.
func (q *Queues[R]) Join(key string) *Ticket[R] {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.byKey == nil {
		q.byKey = make(map[string]*queue[R])
	}
	one := q.byKey[key]
	if one == nil {
		one = &queue[R]{}
		q.byKey[key] = one
	}
	one.tickets++
	return &Ticket[R]{queues: q, key: key, queue: one}
}

// Waiting returns how many tickets wait for a turn.
func (q *Queues[R]) Waiting() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, one := range q.byKey {
		n += len(one.waiting)
	}
	return n
}

// TryAcquire acquires the turn if it is free, and reports whether the ticket has it.
func (t *Ticket[R]) TryAcquire() bool {
	t.queues.mu.Lock()
	defer t.queues.mu.Unlock()
	if !t.released && t.queue.holder == nil {
		t.queue.holder = t
	}
	return t.acquired()
}

func (t *Ticket[R]) acquired() bool { return t.queue.holder == t }

// Acquire waits for the turn. It returns ErrQueueTimeout if the limit passes or ctx ends first. It acquires a free turn
// even if ctx has ended.
func (t *Ticket[R]) Acquire(ctx context.Context, limit time.Duration) error {
	_, err := t.wait(ctx, limit, nil)
	return err
}

// AcquireOrRide waits for the turn, or until the ticket that has it takes the rider along, and reports which. A rider that
// was taken along is not offered any more: the ticket waits again if Acquire is called.
func (t *Ticket[R]) AcquireOrRide(ctx context.Context, limit time.Duration, rider R) (rides bool, err error) {
	return t.wait(ctx, limit, &rider)
}

func (t *Ticket[R]) wait(ctx context.Context, limit time.Duration, rider *R) (rides bool, err error) {
	switch acquired, err := t.enqueue(rider); {
	case acquired, err != nil:
		return false, err
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-t.wake:
	case <-timeout.C:
		err = ErrQueueTimeout
	case <-ctx.Done():
		err = ErrQueueTimeout
	}
	t.queues.mu.Lock()
	defer t.queues.mu.Unlock()
	if i := slices.Index(t.queue.waiting, t); i >= 0 {
		t.queue.waiting = slices.Delete(t.queue.waiting, i, i+1)
		t.rider = nil
		return false, err
	}
	return !t.acquired(), nil // also if the time passed at the same moment
}

// enqueue acquires the turn if it is free. Else the ticket waits behind the others.
func (t *Ticket[R]) enqueue(rider *R) (acquired bool, err error) {
	t.queues.mu.Lock()
	defer t.queues.mu.Unlock()
	switch {
	case t.released:
		return false, ErrQueueTimeout
	case t.queue.holder == nil:
		t.queue.holder = t
	}
	if !t.acquired() {
		t.wake, t.rider = make(chan struct{}, 1), rider
		t.queue.waiting = append(t.queue.waiting, t)
	}
	return t.acquired(), nil
}

// Riders returns the riders of the next tickets, of at most a number and as long as they fit, in order. Their tickets no longer
// wait. It returns none if the ticket does not have the turn. Other than the other methods, it may be called by a goroutine that
// acts for the ticket's own while that waits for it.
func (t *Ticket[R]) Riders(most int, fits func(R) bool) (riders []R) {
	t.queues.mu.Lock()
	defer t.queues.mu.Unlock()
	if !t.acquired() {
		return nil
	}
	for len(t.queue.waiting) > 0 && len(riders) < most {
		next := t.queue.waiting[0]
		if next.rider == nil || !fits(*next.rider) {
			break
		}
		riders = append(riders, *next.rider)
		t.queue.waiting = t.queue.waiting[1:]
		next.rider = nil
		next.wake <- struct{}{}
	}
	return riders
}

// Release leaves the queue, and ends the turn if the ticket has it. A second call does nothing.
func (t *Ticket[R]) Release() {
	t.queues.mu.Lock()
	defer t.queues.mu.Unlock()
	if t.released {
		return
	}
	t.released = true
	if t.acquired() {
		t.queue.holder = nil
		if len(t.queue.waiting) > 0 {
			next := t.queue.waiting[0]
			t.queue.waiting = t.queue.waiting[1:]
			t.queue.holder, next.rider = next, nil
			next.wake <- struct{}{}
		}
	}
	if t.queue.tickets--; t.queue.tickets == 0 {
		delete(t.queues.byKey, t.key)
	}
}
