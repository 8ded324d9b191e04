package admission

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// item counts how often a batch carries it.
type item struct {
	name    int
	carried atomic.Int32
}

type members = []*Member[*item]

// fixture runs batches that take as long as the test lets them.
type fixture struct {
	*Batches[*item]
	began chan members
	end   chan func(members) // called at the end of a batch
}

func newFixture(concurrent, maxSize int, wait time.Duration) *fixture {
	return &fixture{NewBatches[*item](concurrent, maxSize, wait), make(chan members, 100), make(chan func(members))}
}

func (f *fixture) run(batch members) {
	for _, m := range batch {
		m.Item.carried.Add(1)
	}
	f.began <- batch
	(<-f.end)(batch)
}

func done(members) {}

// carry calls Carry in a goroutine, and returns once the item is in a batch or waits for one.
func (f *fixture) carry(ctx context.Context, name int) (*item, chan bool) {
	one, carried := &item{name: name}, make(chan bool, 1)
	go func() { carried <- f.Carry(ctx, one, f.run) }()
	synctest.Wait()
	return one, carried
}

func (f *fixture) check(t *testing.T, free int) {
	t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.free != free || len(f.waiting) > 0 {
		t.Errorf("%d batches are free and %d items wait, want %d and 0", f.free, len(f.waiting), free)
	}
}

func names(batch members) (names []int) {
	for _, m := range batch {
		names = append(names, m.Item.name)
	}
	return names
}

func expectBegan(t *testing.T, f *fixture, want ...int) {
	t.Helper()
	synctest.Wait()
	select {
	case batch := <-f.began:
		if got := names(batch); !slices.Equal(got, want) {
			t.Fatalf("the batch has %v, want %v", got, want)
		}
	default:
		t.Fatalf("no batch began, want %v", want)
	}
}

func expectNone(t *testing.T, f *fixture) {
	t.Helper()
	synctest.Wait()
	if len(f.began) > 0 {
		t.Fatalf("a batch of %v began", names(<-f.began))
	}
}

func expectCarried(t *testing.T, carried ...chan bool) {
	t.Helper()
	synctest.Wait()
	for i, c := range carried {
		if len(c) == 0 || !<-c {
			t.Errorf("item %d of these is not carried", i)
		}
	}
}

func expectWaiting(t *testing.T, carried ...chan bool) {
	t.Helper()
	synctest.Wait()
	for i, c := range carried {
		if len(c) > 0 {
			t.Errorf("Carry of item %d of these returned %t", i, <-c)
		}
	}
}
