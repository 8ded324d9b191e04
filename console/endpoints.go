package console

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pook/stripeonce/operations"
)

const (
	// endpointsAge is how long Stripe's answer is good for.
	endpointsAge = 5 * time.Minute
	// endpointsPatience is how long a page waits for it. The next page has it.
	endpointsPatience = time.Second
)

// endpoints is what Stripe delivers against what has handlers.
type endpoints struct {
	Types   []string // that have handlers
	List    []operations.Endpoint
	NoKey   bool
	Failed  bool
	Waiting bool
	asOf    time.Time
}

// endpointCache has Stripe's last answer, and asks again beside the pages.
type endpointCache struct {
	mu     sync.Mutex
	last   endpoints
	asking chan struct{} // closed when the answer is there; nil: nobody asks
}

func (e *endpointCache) look(ctx context.Context, c *Console) endpoints {
	e.mu.Lock()
	if time.Since(e.last.asOf) < endpointsAge {
		defer e.mu.Unlock()
		return e.last
	}
	if e.asking == nil {
		e.asking = make(chan struct{})
		go e.ask(context.WithoutCancel(ctx), c)
	}
	asking := e.asking
	e.mu.Unlock()
	select {
	case <-asking:
	case <-ctx.Done():
	case <-time.After(endpointsPatience):
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last.asOf.IsZero() {
		return endpoints{Types: c.receiver.Types(), Waiting: true}
	}
	return e.last
}

func (e *endpointCache) ask(ctx context.Context, c *Console) {
	ctx, cancel := context.WithTimeout(ctx, patientTimeout)
	defer cancel()
	now := endpoints{Types: c.receiver.Types()}
	list, err := c.operator.Endpoints(ctx, now.Types, "")
	switch {
	case errors.Is(err, operations.ErrNoAPIKey):
		now.NoKey = true
	case err != nil:
		c.config.Logger.WarnContext(ctx, "console: Stripe's endpoints", "error", err)
		now.Failed = true
	default:
		now.List = list
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now.asOf = time.Now()
	e.last = now
	close(e.asking)
	e.asking = nil
}
