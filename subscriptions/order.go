package subscriptions

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/rawjson"
)

const (
	createdType = "customer.subscription.created"
	// maxNewest bounds the events of one second that are kept: those with the greatest ids.
	maxNewest = 64
)

// occurrence is what the order rule keeps of an event of a subscription's newest second.
type occurrence struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	APIVersion string          `json:"api_version,omitempty"`
	Object     json.RawMessage `json:"object,omitempty"` // left out where it is the row's own
	Previous   json.RawMessage `json:"previous,omitempty"`
}

// appendJSON appends what json.Marshal makes of it, with the objects as they are: it is done for every event, and
// encoding/json would go through them.
func (o *occurrence) appendJSON(to []byte) []byte {
	to = rawjson.AppendString(append(to, `{"id":`...), o.ID)
	to = rawjson.AppendString(append(to, `,"type":`...), o.Type)
	if o.APIVersion != "" {
		to = rawjson.AppendString(append(to, `,"api_version":`...), o.APIVersion)
	}
	if len(o.Object) > 0 {
		to = append(append(to, `,"object":`...), o.Object...)
	}
	if len(o.Previous) > 0 {
		to = append(append(to, `,"previous":`...), o.Previous...)
	}
	return append(to, '}')
}

// ordering says how an event relates in time to what is stored.
type ordering int

const (
	orderOlder ordering = iota
	orderNewer
	orderSameSecond // the set of the second's events decides
	orderAmbiguous  // the event is of the time at which the stored object was fetched, before it or after
)

// compare orders an event by what both sides say of themselves. A terminal status is later than any
// other, whatever the clocks say: nothing brings a canceled subscription back. Otherwise the seconds
// decide. An answer of Stripe's is as of the second of its Date; an event of that second or, since the
// answer may have been on its way, the one before can be on either side of it.
func compare(incoming *Subscription, stored *storedRow) ordering {
	if incoming.Status.Terminal() != stored.Status.Terminal() {
		if incoming.Status.Terminal() {
			return orderNewer
		}
		return orderOlder
	}
	if stored.asOf != nil {
		return compareAsOf(incoming.LastEventCreatedAt, *stored.asOf)
	}
	switch at := stored.LastEventCreatedAt; {
	case at == nil && incoming.LastEventCreatedAt == nil:
		return orderSameSecond
	case at == nil:
		return orderNewer
	case incoming.LastEventCreatedAt == nil || incoming.LastEventCreatedAt.Before(*at):
		return orderOlder
	case incoming.LastEventCreatedAt.After(*at):
		return orderNewer
	}
	return orderSameSecond
}

func compareAsOf(created *time.Time, asOf time.Time) ordering {
	switch {
	case created == nil || created.Before(asOf.Add(-time.Second)):
		return orderOlder
	case created.After(asOf):
		return orderNewer
	default:
		return orderAmbiguous
	}
}

// with adds an event to a set, once, and keeps the set within its bound. The result does not depend on
// the order in which events are added.
func with(set []occurrence, one occurrence) []occurrence {
	if slices.ContainsFunc(set, func(o occurrence) bool { return o.ID == one.ID }) {
		return set
	}
	grown := append(slices.Clone(set), one)
	slices.SortFunc(grown, func(a, b occurrence) int { return strings.Compare(a.ID, b.ID) })
	return grown[max(0, len(grown)-maxNewest):]
}

// last finds the last of the events of one second. It is a function of the set alone, so every order of
// arrival ends the same.
//
// Each update leads from a state to a state: from its object with the previous attributes put back, to
// its object; the creation leads from nothing. Together they are a walk that takes each step once, and
// such a walk ends where it arrives once more often than it leaves. If there is exactly one such state,
// settled is true and the event is one that leads there. An event without previous attributes (a
// deletion, a pause) is a state and no step.
//
// Otherwise (a step is missing, or the walk ends where it began) settled is false, and the event is the
// one with the greatest id among those that no other is known to follow.
func last(set []occurrence) (event occurrence, settled bool) {
	steps := make([]step, len(set))
	for i, o := range set {
		steps[i] = stepOf(o)
	}
	end, verdict := walkEnd(steps)
	// No walk takes these steps, so one is missing. The creation comes first all the same: another event
	// is last, whatever led there.
	later := slices.DeleteFunc(slices.Clone(steps), func(s step) bool { return s.creation })
	if verdict == noWalk && 0 < len(later) && len(later) < len(steps) {
		end, verdict = walkEnd(later)
	}
	settled = verdict == oneEnd
	followed := map[string]bool{}
	for _, s := range steps {
		followed[s.from] = followed[s.from] || s.moves()
	}
	best := len(set) - 1
	for i, s := range steps { // by id, so the last that fits has the greatest
		if settled && s.to == end || !settled && !followed[s.to] && (!s.creation || len(later) == 0) {
			best = i
		}
	}
	return set[best], settled
}

// step is the change that an event tells of, between states in canonical form.
type step struct {
	from, to string
	known    bool // that there was a state before, or nothing
	creation bool
}

const nothing = "" // the state before the creation

func (s step) moves() bool { return s.known && s.from != s.to }

func stepOf(o occurrence) step {
	object := decodeAny(o.Object)
	s := step{to: canonicalState(object)}
	if o.Type == createdType {
		s.from, s.known, s.creation = nothing, true, true
	} else if previous, ok := decodeAny(o.Previous).(map[string]any); ok && len(previous) > 0 {
		s.from, s.known = canonicalState(restored(object, previous)), true
	}
	return s
}
