package subscriptions

import (
	"encoding/json"
	"time"

	"github.com/pook/stripeonce/internal/rawjson"
	"github.com/pook/stripeonce/webhooks"
)

// isStub reports whether an object only says that Stripe does not have it any more: {"id", "object", "deleted": true}.
func isStub(object []byte) bool {
	return rawjson.IsObject(object) && string(rawjson.Get(object, "deleted")) == "true" && rawjson.Get(object, "status") == nil
}

// goneAsOf returns the version of a row whose subscription Stripe does not have any more: canceled, and otherwise as it was.
// Nil if there is no row, or if it has ended already. Ev is nil where no event says so.
func goneAsOf(stored *storedRow, ev *webhooks.Event, asOf time.Time) (*version, error) {
	if stored == nil || stored.Status.Terminal() {
		return nil, nil
	}
	sub := stored.clone()
	sub.Status = StatusCanceled
	if sub.CanceledAt == nil {
		sub.CanceledAt = &asOf
	}
	if sub.EndedAt == nil {
		sub.EndedAt = &asOf
	}
	sub.LastEventID, sub.LastEventCreatedAt = "", nil
	if ev != nil {
		sub.LastEventID, sub.LastEventCreatedAt = ev.ID, createdAt(ev)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(stored.Object, &members); err != nil {
		return nil, err
	}
	for name, value := range map[string]any{"status": sub.Status, "canceled_at": sub.CanceledAt.Unix(), "ended_at": sub.EndedAt.Unix()} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		members[name] = text
	}
	object, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	sub.Object = object
	return &version{sub: sub, asOf: &asOf, apiVersion: stored.apiVersion}, nil
}
