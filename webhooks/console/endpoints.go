package console

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pook/stripeonce/webhooks/operations"
)

// endpointsAge is how long Stripe's answer is good for.
const endpointsAge = 5 * time.Minute

// endpoints is what Stripe delivers against what has handlers.
type endpoints struct {
	Types  []string // that have handlers
	List   []operations.Endpoint
	NoKey  bool
	Failed bool
	AsOf   time.Time
}

type endpointCache struct {
	mu   sync.Mutex
	last endpoints
}

func (e *endpointCache) look(ctx context.Context, c *Console) endpoints {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.last.AsOf) < endpointsAge {
		return e.last
	}
	now := endpoints{Types: c.receiver.Types(), AsOf: time.Now()}
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
	e.last = now
	return now
}
