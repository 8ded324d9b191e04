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
	// maxNewest bounds how many events of one second are kept. Events with the smallest ids are dropped.
	maxNewest = 64
)

// occurrence is an event of a subscription's newest second, as it is kept to order later events of that second.
type occurrence struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	APIVersion string          `json:"api_version,omitempty"`
	Object     json.RawMessage `json:"object,omitempty"` // left out if it equals the row's object
	Previous   json.RawMessage `json:"previous,omitempty"`
}

// appendJSON appends the JSON that json.Marshal returns, but copies the objects as they are. It runs for every event, and
// encoding/json would parse the objects.
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

// ordering is an event's position in time relative to the stored row.
type ordering int

const (
	orderOlder ordering = iota
	orderNewer
	orderSameSecond // the events of that second decide together
	orderAmbiguous  // the event is from the second in which the stored object was fetched: before it or after
)

// compare orders an event relative to the stored row. A terminal status is newer than any other status, whatever the
// timestamps: no event brings a canceled subscription back. Otherwise the seconds decide.
//
// A fetched object is as of the second of the response's Date. An event of that second can be older or newer than the
// object. So can an event of the second before, since Stripe may have read the object before it dated the response.
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

// with adds an event to a set unless the set has it, and keeps at most maxNewest events. The result does not depend on
// the order in which events are added.
func with(set []occurrence, one occurrence) []occurrence {
	if slices.ContainsFunc(set, func(o occurrence) bool { return o.ID == one.ID }) {
		return set
	}
	grown := append(slices.Clone(set), one)
	slices.SortFunc(grown, func(a, b occurrence) int { return strings.Compare(a.ID, b.ID) })
	return grown[max(0, len(grown)-maxNewest):]
}

// last returns the last event of one second. It depends on the set alone, so every order of arrival gives the same result.
//
// Each update is a step from one state to another: from its object with the previous attributes put back, to its object.
// The creation is a step from nothing. The steps together are a walk that takes each step once. Such a walk ends in the
// one state that has one more arrival than departures. If there is exactly one such state, settled is true, and last
// returns an event that leads to it. An event without previous attributes (a deletion, a pause) is a state but no step.
//
// Otherwise settled is false: a step is missing, or the walk ends where it began. The tie-break is then the greatest id
// among the events that no other event is known to follow.
func last(set []occurrence) (event occurrence, settled bool) {
	steps := make([]step, len(set))
	for i, o := range set {
		steps[i] = stepOf(o)
	}
	end, ends := walkEnd(steps)
	// No walk takes these steps, so one is missing. The creation is the first event in any case, so the last event is
	// among the others.
	later := slices.DeleteFunc(slices.Clone(steps), func(s step) bool { return s.creation })
	if ends == noWalk && 0 < len(later) && len(later) < len(steps) {
		end, ends = walkEnd(later)
	}
	settled = ends == oneEnd
	followed := map[string]bool{}
	for _, s := range steps {
		followed[s.from] = followed[s.from] || s.moves()
	}
	best := len(set) - 1
	for i, s := range steps { // sorted by id, so the last match has the greatest
		if settled && s.to == end || !settled && !followed[s.to] && (!s.creation || len(later) == 0) {
			best = i
		}
	}
	return set[best], settled
}

// step is the change of an event, between states in canonical form.
type step struct {
	from, to string
	known    bool // from is known
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
