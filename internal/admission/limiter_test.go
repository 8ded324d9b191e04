package admission

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func acquire(t *testing.T, l *Limiter, times int) {
	t.Helper()
	for range times {
		if err := l.Acquire(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLimiterIsFull(t *testing.T) {
	t.Parallel()
	l := NewLimiter(2)
	acquire(t, l, 2)
	if err := l.Acquire(); !errors.Is(err, ErrFull) {
		t.Errorf("the third of two: %v", err)
	}
	if n := l.InFlight(); n != 2 {
		t.Errorf("in flight: %d, want 2", n)
	}
	l.Release()
	if n := l.InFlight(); n != 1 {
		t.Errorf("in flight after Release: %d, want 1", n)
	}
	acquire(t, l, 1)
}

func TestLimiterHoldsItsLimit(t *testing.T) {
	t.Parallel()
	const limit = 3
	l := NewLimiter(limit)
	var inFlight atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				if l.Acquire() != nil {
					continue
				}
				if n := inFlight.Add(1); n > limit {
					t.Errorf("%d in flight", n)
				}
				inFlight.Add(-1)
				l.Release()
			}
		})
	}
	wg.Wait()
	if n := l.InFlight(); n != 0 {
		t.Errorf("in flight at the end: %d", n)
	}
}

func TestLimiterCloseWhileEmpty(t *testing.T) {
	t.Parallel()
	l := NewLimiter(1)
	acquire(t, l, 1)
	l.Release()
	if l.Closed() {
		t.Error("closed before Close")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // of two ready channels, select takes either
		if err := l.Close(ended); err != nil {
			t.Fatalf("nothing is in flight: %v", err)
		}
	}
	if !l.Closed() {
		t.Error("not closed after Close")
	}
	if err := l.Acquire(); !errors.Is(err, ErrClosed) {
		t.Errorf("Acquire after Close: %v", err)
	}
}

// Several calls of Close wait for the last delivery, and meanwhile none is admitted.
func TestLimiterCloseWhileFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(2)
		acquire(t, l, 2)
		closed := make(chan error, 3)
		for range cap(closed) {
			go func() { closed <- l.Close(t.Context()) }()
		}
		synctest.Wait()
		if err := l.Acquire(); !errors.Is(err, ErrClosed) || !l.Closed() {
			t.Errorf("Acquire during Close: %v", err)
		}
		l.Release()
		synctest.Wait()
		if len(closed) > 0 {
			t.Fatal("Close returned while a delivery was in flight")
		}
		l.Release()
		for range cap(closed) {
			if err := <-closed; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestLimiterCloseRunsOutOfTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(2)
		acquire(t, l, 2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := l.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "in flight (2)") {
			t.Errorf("Close with two in flight: %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("Close took %s", took)
		}
		l.Release()
		if err := l.Close(ctx); err == nil || !strings.Contains(err.Error(), "in flight (1)") {
			t.Errorf("Close with one in flight: %v", err)
		}
		l.Release()
		if err := l.Close(t.Context()); err != nil {
			t.Errorf("Close after the last delivery: %v", err)
		}
	})
}

// A Release without Acquire is a bug of the caller. It must not make room for more deliveries than allowed.
func TestLimiterReleaseWithoutAcquire(t *testing.T) {
	t.Parallel()
	l := NewLimiter(1)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("Release without Acquire does not panic")
			}
		}()
		l.Release()
	}()
	acquire(t, l, 1)
	if err := l.Acquire(); !errors.Is(err, ErrFull) {
		t.Errorf("the second of one: %v", err)
	}
}
