package webhooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

var (
	errTooMany   = errors.New("too many deliveries are in flight")
	errTooLittle = fmt.Errorf("%w: the bodies under way take up too much memory", ErrUnavailable)
)

// gate counts the deliveries under way, bounds them, and lets Shutdown wait for them.
type gate struct {
	mu     sync.Mutex
	inside int
	max    int
	closed bool
	empty  chan struct{} // closed when the gate is closed and nobody is inside
}

func newGate(maximum int) *gate { return &gate{max: maximum, empty: make(chan struct{})} }

// enter takes a place in flight, which the caller leaves.
func (g *gate) enter() (*place, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ErrShutdown)
	}
	if g.inside >= g.max {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errTooMany)
	}
	g.inside++
	p := &place{gate: g}
	p.hold()
	return p, nil
}

// place is that of one delivery in flight. It is given back when all who hold it have left it: the caller, who also
// records a failure, and the work, which may outlast the reply.
type place struct {
	gate    *gate
	holders atomic.Int32
}

func (p *place) hold() { p.holders.Add(1) }

func (p *place) leave() {
	if p.holders.Add(-1) == 0 {
		p.gate.leave()
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.closed && g.inside == 0 {
		close(g.empty)
	}
}

func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		if g.inside == 0 {
			close(g.empty)
		}
	}
	g.mu.Unlock()
	select {
	case <-g.empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d deliveries are still under way: %w", g.count(), ctx.Err())
	}
}

func (g *gate) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside
}

// buffer counts the bytes of all bodies under way.
type buffer struct {
	used atomic.Int64
	max  int64
}

// metered reads a body, and fails when there is no room for more of it.
type metered struct {
	from  io.Reader
	into  *buffer
	taken int64
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.from.Read(p)
	m.taken += int64(n)
	if m.into.used.Add(int64(n)) > m.into.max {
		return n, errTooLittle
	}
	return n, err
}

func (m *metered) giveBack() { m.into.used.Add(-m.taken) }
