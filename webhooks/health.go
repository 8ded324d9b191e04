package webhooks

import (
	"slices"
	"strings"

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
	context   string // the account's path; empty: the platform's own
}

// readImpact reads a HealthEvent's data. Stripe documents it as a member of the event, which the notification may lack.
func (ev *Event) readImpact(data []byte) {
	impact := member(data, "impact")
	ev.impact.eventType, _ = rawjson.String(member(impact, "event_type"))
	if ev.impact.context, _ = rawjson.String(member(impact, "context")); ev.impact.context == "" {
		ev.impact.context, _ = rawjson.String(member(impact, "account")) // in early previews
	}
	about := member(impact, "related_object")
	ev.impact.related = readRelated(about)
	if ev.impact.related.url == "" {
		return
	}
	ev.related, ev.Object = ev.impact.related, nil
	if ev.Account == "" {
		ev.setContext(ev.impact.context)
	}
}

// healthHandlers are the handlers that run for a HealthEvent. Until the event is whole, they are all that may.
func (h *Handlers) healthHandlers(ev *Event) []handler {
	list := h.exactly(ev.Type)
	of := h.list
	switch {
	case ev.impact.eventType != "":
		of = h.match(strings.TrimPrefix(ev.impact.eventType, thinPrefix), ev)
	case ev.whole: // it does not say
		of = nil
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
