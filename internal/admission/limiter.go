package admission

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

var (
	// ErrFull reports that the Limiter has as many deliveries in flight as it allows.
	ErrFull = errors.New("too many deliveries are in flight (webhooks.Config.MaxInFlight)")
	// ErrClosed reports that the Limiter is closed.
	ErrClosed = errors.New("deliveries are no longer accepted: the receiver is shutting down")
)

// Limiter bounds the deliveries in flight, and lets a shutdown wait for them. It is safe for concurrent use.
type Limiter struct {
	mu       sync.Mutex
	inFlight int
	max      int
	closed   bool
	drained  chan struct{} // closed when the Limiter is closed and nothing is in flight
}

// NewLimiter returns a Limiter that allows max deliveries in flight.
func NewLimiter(max int) *Limiter { return &Limiter{max: max, drained: make(chan struct{})} }

// Acquire admits one delivery, or returns ErrFull or ErrClosed at once. The caller releases what it acquired.
func (l *Limiter) Acquire() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.inFlight >= l.max:
		return ErrFull
	}
	l.inFlight++
	return nil
}

// Release ends a delivery that Acquire admitted. It panics if none is in flight.
func (l *Limiter) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inFlight == 0 {
		panic("admission: Limiter.Release without Acquire")
	}
	l.inFlight--
	if l.closed && l.inFlight == 0 {
		close(l.drained)
	}
}

// InFlight returns the number of deliveries in flight.
func (l *Limiter) InFlight() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inFlight
}

// Closed reports whether Close was called.
func (l *Limiter) Closed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// Close refuses further deliveries and waits until none is in flight. If ctx ends first, the error says how many still
// are, and wraps ctx.Err(). Close may be called again, also concurrently: each call waits.
func (l *Limiter) Close(ctx context.Context) error {
	l.close()
	select {
	case <-l.drained:
		return nil
	case <-ctx.Done():
	}
	if n := l.InFlight(); n > 0 {
		return fmt.Errorf("deliveries are still in flight (%d): %w", n, ctx.Err())
	}
	return nil
}

func (l *Limiter) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && l.inFlight == 0 {
		close(l.drained)
	}
	l.closed = true
}
