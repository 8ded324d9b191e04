package admission

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrBulkhead reports that items of one kind hold all places that they may.
var ErrBulkhead = errors.New("events of this type use all connections that one type may use (webhooks.Config.ReservedConnections)")

// bulkheadWindow is how long the arrival of another kind keeps the last places free for it.
const bulkheadWindow = time.Minute

// Bulkhead keeps one kind of items, such as the events of a slow type, from holding all places of a pool. A kind may hold all
// of them unless an item of another kind arrived within the last minute. It is safe for concurrent use.
//
//	bulkhead.Arrive(kind)
//	…
//	if err := bulkhead.Acquire(ctx, kind, limit); err != nil {
//		return err
//	}
//	defer bulkhead.Release(kind)
type Bulkhead struct {
	mu      sync.Mutex
	max     int // that one kind may hold; 0: no limit
	holding map[string]int
	waiting map[string][]chan struct{} // of each kind, in order of arrival; a place is handed over by closing

	newest   string // the kind that arrived last
	newestAt time.Time
	otherAt  time.Time // when the last other kind did
}

// NewBulkhead returns a Bulkhead for a pool of so many places, of which reserved are kept for other kinds. With no place
// reserved, or with a pool of one, it never refuses.
func NewBulkhead(places, reserved int) *Bulkhead {
	b := &Bulkhead{holding: map[string]int{}, waiting: map[string][]chan struct{}{}}
	if reserved > 0 && places > 1 {
		b.max = max(places-reserved, 1)
	}
	return b
}

// Arrive notes that an item of a kind has arrived.
func (b *Bulkhead) Arrive(kind string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if kind != b.newest {
		b.newest, b.otherAt = kind, b.newestAt
	}
	b.newestAt = time.Now()
}

// Acquire waits for a place, in order of arrival within the kind. It returns ErrBulkhead if the limit passes or ctx ends
// first. With a limit of 0 it does not wait.
func (b *Bulkhead) Acquire(ctx context.Context, kind string, limit time.Duration) error {
	turn := b.join(kind)
	if turn == nil {
		return nil
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-turn:
		return nil
	case <-timeout.C:
	case <-ctx.Done():
	}
	if b.leave(kind, turn) {
		return ErrBulkhead
	}
	return nil // the place was handed over at the same moment
}

// Holding returns how many places a kind holds.
func (b *Bulkhead) Holding(kind string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.holding[kind]
}

// join takes a place, or returns the channel to wait on.
func (b *Bulkhead) join(kind string) chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handOver(kind) // a minute may have passed
	if len(b.waiting[kind]) == 0 && b.mayTake(kind) {
		b.holding[kind]++
		return nil
	}
	turn := make(chan struct{})
	b.waiting[kind] = append(b.waiting[kind], turn)
	return turn
}

func (b *Bulkhead) mayTake(kind string) bool {
	return b.max == 0 || b.holding[kind] < b.max || !b.othersArrive(kind)
}

// othersArrive reports whether an item of another kind arrived within the window.
func (b *Bulkhead) othersArrive(kind string) bool {
	at := b.newestAt
	if kind == b.newest {
		at = b.otherAt
	}
	return !at.IsZero() && time.Since(at) < bulkheadWindow
}

// leave removes a waiting item. It returns false if the item has been given a place.
func (b *Bulkhead) leave(kind string, turn chan struct{}) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting[kind], turn)
	if i < 0 {
		return false
	}
	b.setWaiting(kind, slices.Delete(b.waiting[kind], i, i+1))
	return true
}

// Release gives back a place, and hands over to those that wait for it.
func (b *Bulkhead) Release(kind string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holding[kind]--; b.holding[kind] == 0 {
		delete(b.holding, kind)
	}
	b.handOver(kind)
}

// handOver gives free places to those that wait for them.
func (b *Bulkhead) handOver(kind string) {
	waiting := b.waiting[kind]
	for len(waiting) > 0 && b.mayTake(kind) {
		b.holding[kind]++
		close(waiting[0])
		waiting = waiting[1:]
	}
	b.setWaiting(kind, waiting)
}

func (b *Bulkhead) setWaiting(kind string, waiting []chan struct{}) {
	if len(waiting) == 0 {
		delete(b.waiting, kind)
		return
	}
	b.waiting[kind] = waiting
}
