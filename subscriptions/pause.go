package subscriptions

import (
	"encoding/json"
	"time"

	"github.com/pook/stripeonce/internal/ordering"
	"github.com/pook/stripeonce/internal/rawjson"
)

// PauseCollection is Stripe's pause_collection: how a subscription's invoices are treated while payment collection is
// paused. The status does not show the pause; it usually stays active.
// See https://docs.stripe.com/billing/subscriptions/pause-payment.
type PauseCollection struct {
	// Behavior is keep_as_draft, mark_uncollectible, void, or a value that Stripe adds later.
	Behavior string
	// ResumesAt is when the collection resumes automatically. Nil means that it must be resumed manually.
	ResumesAt *time.Time
	// Object is Stripe's whole pause_collection. Equal values in Before and After of a Change may have different
	// texts: jsonb orders the members anew.
	Object json.RawMessage
}

// readPause reads a pause_collection. It returns nil for anything but an object with members.
func readPause(raw []byte) *PauseCollection {
	if !rawjson.IsObject(raw) {
		return nil
	}
	members := 0
	rawjson.Members(raw, func([]byte, []byte) { members++ })
	if members == 0 {
		return nil
	}
	p := &PauseCollection{Behavior: textOrMember(raw, "behavior"), Object: raw}
	var at unixTime
	if at.read(rawjson.Get(raw, "resumes_at")) == nil {
		p.ResumesAt = at.at
	}
	return p
}

// canonical returns the same text for values that are equal to Stripe, and "" for nil.
func (p *PauseCollection) canonical() string {
	if p == nil {
		return ""
	}
	return ordering.Canonical(ordering.Decode(p.Object))
}

// value returns the value of a Difference.
func (p *PauseCollection) value() any {
	if p == nil {
		return nil
	}
	return ordering.Plain(ordering.Decode(p.Object))
}

// comparable returns a copy with the object in canonical form.
func (p *PauseCollection) comparable() *PauseCollection {
	if p == nil {
		return nil
	}
	return &PauseCollection{p.Behavior, p.ResumesAt, json.RawMessage(p.canonical())}
}
