package console

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pook/stripeonce/operations"
)

const (
	// endpointsAge is how long Stripe's response is cached.
	endpointsAge = 5 * time.Minute
	// endpointsWait is how long a page waits for the response. If it arrives later, the next page shows it.
	endpointsWait = time.Second
)

// endpoints compares the types that Stripe delivers with those that have handlers.
type endpoints struct {
	Types   []string // that have handlers
	List    []operations.Endpoint
	NoKey   bool
	Failed  bool
	Waiting bool
	asOf    time.Time
}

// endpointCache has Stripe's last response, and refreshes it in the background.
type endpointCache struct {
	mu       sync.Mutex
	last     endpoints
	fetching chan struct{} // closed when the response has arrived; nil: no request is in flight
}

func (e *endpointCache) look(ctx context.Context, c *Console) endpoints {
	e.mu.Lock()
	if time.Since(e.last.asOf) < endpointsAge {
		defer e.mu.Unlock()
		return e.last
	}
	if e.fetching == nil {
		e.fetching = make(chan struct{})
		go e.fetch(context.WithoutCancel(ctx), c)
	}
	fetching := e.fetching
	e.mu.Unlock()
	select {
	case <-fetching:
	case <-ctx.Done():
	case <-time.After(endpointsWait):
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last.asOf.IsZero() {
		return endpoints{Types: c.receiver.Types(), Waiting: true}
	}
	return e.last
}

func (e *endpointCache) fetch(ctx context.Context, c *Console) {
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	now := endpoints{Types: c.receiver.Types()}
	list, err := c.operator.Endpoints(ctx, now.Types, "")
	switch {
	case errors.Is(err, operations.ErrNoAPIKey):
		now.NoKey = true
	case err != nil:
		c.config.Logger.WarnContext(ctx, "console: could not list Stripe's endpoints", "error", err)
		now.Failed = true
	default:
		now.List = list
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now.asOf = time.Now()
	e.last = now
	close(e.fetching)
	e.fetching = nil
}
