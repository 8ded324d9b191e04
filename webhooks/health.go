package webhooks

import (
	"slices"

	"github.com/pook/stripeonce/internal/rawjson"
)

// HealthEvent is the type of the thin event with which Stripe says that it failed to generate an event, which it can neither
// deliver nor list: https://docs.stripe.com/webhooks/handle-irrecoverable-events. Its data names the object. Projections of
// the lost event's type run with the object as it is now; so do handlers that are registered for HealthEvent itself. Handlers
// of the lost event's type do not run: what happened is not known, only what it led to.
const HealthEvent = "v2.core.health.event_generation_failure.resolved"

// impact is the data.impact of a HealthEvent.
type impact struct {
	eventType string // of the event that was lost
	related   related
	account   string
}

// readImpact reads a HealthEvent's data. Stripe documents it as a member of the event, which the notification may lack.
func (ev *Event) readImpact(data []byte) {
	impact := member(data, "impact")
	ev.impact.eventType, _ = rawjson.String(member(impact, "event_type"))
	ev.impact.account, _ = rawjson.String(member(impact, "account"))
	about := member(impact, "related_object")
	ev.impact.related = readRelated(about)
	if ev.impact.related.url == "" {
		return
	}
	ev.related, ev.Object = ev.impact.related, nil
	if ev.Account == "" {
		ev.Account = ev.impact.account
	}
}

// healthHandlers are the handlers that run for a HealthEvent. While the lost event's type is not known, they are all that may.
func (h *Handlers) healthHandlers(ev *Event) []handler {
	list := h.exactly(ev.Type)
	of := h.list
	if ev.impact.eventType != "" {
		of = h.match(ev.impact.eventType)
	}
	return append(list, slices.DeleteFunc(slices.Clone(of), func(h handler) bool { return !h.projection || h.pattern == ev.Type })...)
}

// member returns a member of what may be an object.
func member(object []byte, name string) []byte {
	if !rawjson.IsObject(object) {
		return nil
	}
	return rawjson.Get(object, name)
}
