package admission

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestQueuesAtRandom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q Queues[int]
		keys := []string{"a", "b", "c"}
		turns := make([]atomic.Int32, len(keys))
		acquired := 0
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 300 {
			wg.Go(func() {
				time.Sleep(milliseconds(20))
				k := rand.IntN(len(keys))
				ctx, cancel := context.WithTimeout(t.Context(), milliseconds(20))
				defer cancel()
				ticket := q.Join(keys[k])
				defer ticket.Release()
				if ticket.Acquire(ctx, milliseconds(20)) != nil {
					return
				}
				if turns[k].Add(1) != 1 {
					t.Error("two tickets have the turn")
				}
				mu.Lock()
				acquired++
				mu.Unlock()
				time.Sleep(milliseconds(2))
				turns[k].Add(-1)
			})
		}
		wg.Wait()
		checkEmpty(t, &q)
		if acquired == 0 || acquired == 300 {
			t.Errorf("%d of 300 have had their turn: the test is to have both", acquired)
		}
	})
}

// milliseconds returns a random whole number of them, so that events of synctest's clock coincide.
func milliseconds(limit int) time.Duration {
	return time.Duration(rand.IntN(limit+1)) * time.Millisecond
}

// Items arrive, give up and finish early at random, and batches panic. Each item is carried once, or Carry returns false.
func TestBatchesAtRandom(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			const items = 200
			concurrent, maxSize := 1+rand.IntN(3), 1+rand.IntN(5)
			b := NewBatches[*item](concurrent, maxSize, milliseconds(10))
			var running atomic.Int32
			var wg sync.WaitGroup
			for name := range items {
				wg.Go(func() {
					time.Sleep(milliseconds(items / 2))
					ctx, cancel := context.WithTimeout(t.Context(), milliseconds(10))
					defer cancel()
					one := &item{name: name}
					carried := b.carryOrPanic(ctx, one, func(batch members) {
						defer running.Add(-1)
						if n := int(running.Add(1)); n > concurrent || len(batch) > maxSize || batch[0].Item != one {
							t.Errorf("batch %d of %d at once has %v", n, concurrent, names(batch))
						}
						for _, m := range batch {
							m.Item.carried.Add(1)
						}
						time.Sleep(milliseconds(5))
						for range rand.IntN(3) {
							batch[rand.IntN(len(batch))].Finish()
						}
						time.Sleep(milliseconds(5))
						if rand.IntN(4) == 0 {
							panic("at random")
						}
					})
					if got := one.carried.Load(); carried && got != 1 || !carried && got != 0 {
						t.Errorf("item %d: carried is %t, and it was carried %d times", name, carried, got)
					}
				})
			}
			wg.Wait()
			if b.free != concurrent || len(b.waiting) > 0 {
				t.Errorf("%d batches of %d are free and %d items wait", b.free, concurrent, len(b.waiting))
			}
		})
	}
}

// carryOrPanic is Carry, where a panic of run counts as carried.
func (b *Batches[T]) carryOrPanic(ctx context.Context, item T, run func([]*Member[T])) (carried bool) {
	defer func() {
		if recover() != nil {
			carried = true
		}
	}()
	return b.Carry(ctx, item, run)
}
