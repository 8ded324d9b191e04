package subscriptions

import (
	"encoding/json"
	"time"

	"github.com/pook/stripeonce/internal/rawjson"
)

// PauseCollection says what happens to a subscription's invoices while the collection of payments is paused. The
// status stays as it is, mostly active: who acts on money looks here.
// See https://docs.stripe.com/billing/subscriptions/pause-payment.
type PauseCollection struct {
	// Behavior is keep_as_draft, mark_uncollectible or void, and whatever Stripe adds.
	Behavior string
	// ResumesAt is when the collection resumes by itself. Nil: not before somebody resumes it.
	ResumesAt *time.Time
	// Object is Stripe's whole pause_collection, as the column has it. Before and After of a Change may write
	// the same one in different ways: the column, being jsonb, orders the members anew.
	Object json.RawMessage
}

// readPause reads a pause_collection. It is nil for anything but an object with members.
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

// canonical is the same text for two that are the same to Stripe, empty for none.
func (p *PauseCollection) canonical() string {
	if p == nil {
		return ""
	}
	return canonical(decodeAny(p.Object))
}

// value is p as a Difference has it.
func (p *PauseCollection) value() any {
	if p == nil {
		return nil
	}
	return plain(decodeAny(p.Object))
}

// comparable is p with its object in canonical form.
func (p *PauseCollection) comparable() *PauseCollection {
	if p == nil {
		return nil
	}
	return &PauseCollection{p.Behavior, p.ResumesAt, json.RawMessage(p.canonical())}
}
