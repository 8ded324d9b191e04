package webhooks_test

import (
	"github.com/pook/stripeonce/internal/projection"
	"github.com/pook/stripeonce/webhooks"
)

// project registers a projection as stripeonce's own packages do.
func project(h *webhooks.Handlers, events string, honorsContext bool, plan func(ev *webhooks.Event) projection.Plan) {
	projection.Register(h, projection.Projection{
		Events: events, HonorsContext: honorsContext, Plan: func(ev any) projection.Plan { return plan(ev.(*webhooks.Event)) },
	})
}
