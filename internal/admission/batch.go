package admission

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Batches is a group commit: items that arrive at the same time share a batch, such as a transaction.
//
// No item waits for others to arrive. While fewer batches are in progress than allowed, an item is a batch of one at
// once. Items that arrive meanwhile wait until a batch ends, and then form the next one. Batches is safe for concurrent
// use.
type Batches[T any] struct {
	mu      sync.Mutex
	free    int          // how many more batches may begin
	waiting []*Member[T] // in order of arrival; empty while free > 0
	maxSize int
	wait    time.Duration
}

// NewBatches returns a Batches that allows concurrent batches in progress, of at most maxSize items each. Both are at
// least 1. An item waits at most wait for its batch to begin, so that a batch that hangs does not block it forever.
func NewBatches[T any](concurrent, maxSize int, wait time.Duration) *Batches[T] {
	return &Batches[T]{free: concurrent, maxSize: maxSize, wait: wait}
}

// Waiting returns how many items wait for a batch to begin.
func (b *Batches[T]) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// Member is an item in a batch.
type Member[T any] struct {
	Item     T
	finished atomic.Bool
	// news wakes a caller that waits: with the batch that it leads, or with nil when the member is finished. A batch is
	// received before the member is finished, so that one place is enough. There is no channel if the caller never waits.
	news chan []*Member[T]
	pass func() // of the member that leads: see Pass
}

// NewRider returns a member that joins no batch by itself: a member of one takes it along, if it does.
func NewRider[T any](item T) *Member[T] {
	return &Member[T]{Item: item, news: make(chan []*Member[T], 1)}
}

// AwaitFinish waits until the rider is finished, by the batch that has taken it along.
func (m *Member[T]) AwaitFinish() { <-m.news }

// Pass lets the next batch begin although this one has not ended, since it may never. A second call does nothing. It is
// called on the first member of a batch, from any goroutine.
func (m *Member[T]) Pass() { m.pass() }

// Finish releases the member's caller before the batch ends. run must not use the member's Item afterwards. A second call
// does nothing. The caller that leads the batch stays until run has returned.
func (m *Member[T]) Finish() {
	if !m.finished.Swap(true) && m.news != nil {
		m.news <- nil
	}
}

// Finished reports whether Finish was called.
func (m *Member[T]) Finished() bool { return m.finished.Load() }

// Carry puts the item into a batch, waits for that batch, and reports whether a batch took the item. If this caller leads
// the batch, run is called with its members, the caller's own first. Otherwise another caller's run receives the item.
//
// Carry returns true when the member is finished, which is at the latest when run has returned. It returns false if no
// batch took the item within the wait or before ctx ended. Once a batch has taken the item, Carry ignores ctx. So it does
// while fewer batches are in progress than allowed, since then it does not wait.
//
// The result is in the item, so T is a pointer. If run panics or calls runtime.Goexit, the unfinished members are
// released, and Carry returns true to their callers, so an item must show by itself that nothing was done. The panic goes
// on to the caller that leads. run must not change the slice.
func (b *Batches[T]) Carry(ctx context.Context, item T, run func(batch []*Member[T])) (carried bool) {
	m := &Member[T]{Item: item}
	batch := b.join(m)
	if batch == nil {
		batch, carried = b.await(ctx, m)
	}
	if batch == nil {
		return carried
	}
	b.lead(batch, run)
	return true
}

// join returns the batch that the caller leads, or nil if the member is to wait.
func (b *Batches[T]) join(m *Member[T]) []*Member[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free == 0 {
		m.news = make(chan []*Member[T], 1)
		b.waiting = append(b.waiting, m)
		return nil
	}
	b.free--
	return []*Member[T]{m}
}

// await waits until the member is to lead a batch, or another caller's batch has finished it.
func (b *Batches[T]) await(ctx context.Context, m *Member[T]) (lead []*Member[T], carried bool) {
	timeout := time.NewTimer(b.wait)
	defer timeout.Stop()
	select {
	case lead = <-m.news:
		return lead, true
	case <-timeout.C:
	case <-ctx.Done():
	}
	if b.leave(m) {
		return nil, false
	}
	return <-m.news, true // a batch has taken the member at the same moment
}

// leave removes the member from the waiting ones. It returns false if a batch has taken the member.
func (b *Batches[T]) leave(m *Member[T]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, m)
	if i < 0 {
		return false
	}
	b.waiting = slices.Delete(b.waiting, i, i+1)
	return true
}

// lead runs the batch. At its end the next batch begins before the callers of this one are released.
func (b *Batches[T]) lead(batch []*Member[T], run func(batch []*Member[T])) {
	var once sync.Once
	batch[0].pass = func() { once.Do(b.pass) }
	defer finish(batch)
	defer batch[0].pass()
	run(batch)
}

func finish[T any](batch []*Member[T]) {
	for _, m := range batch {
		m.Finish()
	}
}

// pass gives the slot of a batch that has ended to the first waiting member, which leads the next one.
func (b *Batches[T]) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), b.maxSize)
	if n == 0 {
		b.free++
		return
	}
	next := slices.Clone(b.waiting[:n])
	b.waiting = slices.Delete(b.waiting, 0, n)
	next[0].news <- next
}
