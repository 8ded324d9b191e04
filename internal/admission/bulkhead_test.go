package admission

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// takes returns how many of n items of a kind get a place at once.
func takes(ctx context.Context, b *Bulkhead, kind string, n int) (taken int) {
	for range n {
		if b.Acquire(ctx, kind, 0) == nil {
			taken++
		}
	}
	return taken
}

// The table: places of the pool, how many are reserved, whether another kind arrived within the minute, and how many places
// one kind gets.
func TestBulkhead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		places, reserved int
		other            time.Duration // since the arrival of another kind; 0: none arrived
		want             int
	}{
		{4, 1, time.Second, 3},
		{4, 1, 0, 10},
		{4, 1, 59 * time.Second, 3},
		{4, 1, time.Minute, 10},
		{10, 2, time.Second, 8},
		{2, 1, time.Second, 1},
		{2, 5, time.Second, 1}, // it keeps one for every kind
		{1, 1, time.Second, 10},
		{4, 0, time.Second, 10},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := NewBulkhead(c.places, c.reserved)
			if c.other > 0 {
				b.Arrive("fast")
				time.Sleep(c.other)
			}
			for range 3 {
				b.Arrive("slow")
			}
			if got := takes(t.Context(), b, "slow", 10); got != c.want {
				t.Errorf("%+v: a kind gets %d places", c, got)
			}
			if b.max > 0 && takes(t.Context(), b, "fast", 1) != 1 {
				t.Errorf("%+v: the other kind gets none", c)
			}
		})
	}
}

// A kind that alternates with another is limited from both sides.
func TestBulkheadWithTwoKinds(t *testing.T) {
	t.Parallel()
	b := NewBulkhead(4, 1)
	b.Arrive("a")
	b.Arrive("b")
	b.Arrive("a")
	if a, other := takes(t.Context(), b, "a", 9), takes(t.Context(), b, "b", 9); a != 3 || other != 3 {
		t.Errorf("a gets %d places and b %d, want 3 each", a, other)
	}
}

// A place that is given back goes to the item that has waited longest. An item that gives up, or whose context ends, leaves
// nothing behind.
func TestBulkheadWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBulkhead(2, 1)
		b.Arrive("fast")
		b.Arrive("slow")
		ctx, cancel := context.WithCancel(t.Context())
		if takes(ctx, b, "slow", 1) != 1 {
			t.Fatal("the first gets no place")
		}
		var order []int
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				if err := b.Acquire(t.Context(), "slow", time.Minute); err != nil {
					t.Error(err)
				}
				order = append(order, i)
				b.Release("slow")
			})
			synctest.Wait()
		}
		wg.Go(func() {
			if err := b.Acquire(t.Context(), "slow", time.Second); !errors.Is(err, ErrBulkhead) {
				t.Errorf("after its limit: %v", err)
			}
		})
		wg.Go(func() {
			if err := b.Acquire(ctx, "slow", time.Minute); !errors.Is(err, ErrBulkhead) {
				t.Errorf("after its context: %v", err)
			}
		})
		time.Sleep(2 * time.Second)
		cancel()
		synctest.Wait()
		b.Release("slow")
		wg.Wait()
		if len(order) != 3 || order[0] != 0 || order[1] != 1 || order[2] != 2 {
			t.Errorf("the order is %d", order)
		}
		if len(b.holding) > 0 || len(b.waiting) > 0 {
			t.Errorf("left behind: %v, %v", b.holding, b.waiting)
		}
	})
}

// When no other kind has arrived for a minute, all that wait get a place with the next release.
func TestBulkheadOpens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBulkhead(2, 1)
		b.Arrive("fast")
		b.Arrive("slow")
		_ = takes(t.Context(), b, "slow", 1)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := b.Acquire(t.Context(), "slow", time.Hour); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(bulkheadWindow)
		b.Release("slow")
		wg.Wait()
	})
}

// No kind ever holds more than it may, whatever gives up.
func TestBulkheadHoldsItsLimit(t *testing.T) {
	t.Parallel()
	b := NewBulkhead(4, 1)
	b.Arrive("fast")
	b.Arrive("slow")
	var mu sync.Mutex
	holding := 0
	change := func(by int) int {
		mu.Lock()
		defer mu.Unlock()
		holding += by
		return holding
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 300 {
				if b.Acquire(t.Context(), "slow", time.Duration(i)*10*time.Microsecond) != nil {
					continue
				}
				if n := change(1); n > 3 {
					t.Errorf("%d are held", n)
				}
				change(-1)
				b.Release("slow")
			}
		})
	}
	wg.Wait()
	if len(b.holding) > 0 || len(b.waiting) > 0 {
		t.Errorf("left behind: %v, %v", b.holding, b.waiting)
	}
}

// A place that became free with the minute goes to those that wait, before newcomers.
func TestBulkheadOpensForNewcomers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBulkhead(2, 1)
		b.Arrive("fast")
		b.Arrive("slow")
		if n := takes(t.Context(), b, "slow", 2); n != 1 {
			t.Errorf("one kind gets %d places", n)
		}
		got := make(chan error, 1)
		go func() { got <- b.Acquire(t.Context(), "slow", time.Hour) }()
		synctest.Wait()
		time.Sleep(bulkheadWindow)
		if err := b.Acquire(t.Context(), "slow", 0); err != nil {
			t.Error(err)
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}
