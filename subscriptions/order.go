package subscriptions

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
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

// place says how an event stands to what is stored.
type place int

const (
	placeStale     place = iota // older
	placeNewer                  // later, whatever else is known
	placeBurst                  // of the same second: the set of its events decides
	placeAmbiguous              // of the time at which Stripe was asked, before its answer or after
)

// compare places an event by what both sides say of themselves. A terminal status is later than any
// other, whatever the clocks say: nothing brings a canceled subscription back. Otherwise the seconds
// decide. An answer of Stripe's is as of the second of its Date; an event of that second or, since the
// answer may have been on its way, the one before can be on either side of it.
func compare(incoming *Subscription, stored *storedRow) place {
	if incoming.Status.Terminal() != stored.Status.Terminal() {
		if incoming.Status.Terminal() {
			return placeNewer
		}
		return placeStale
	}
	if stored.asOf != nil {
		return compareAsOf(incoming.LastEventCreatedAt, *stored.asOf)
	}
	switch at := stored.LastEventCreatedAt; {
	case at == nil && incoming.LastEventCreatedAt == nil:
		return placeBurst
	case at == nil:
		return placeNewer
	case incoming.LastEventCreatedAt == nil || incoming.LastEventCreatedAt.Before(*at):
		return placeStale
	case incoming.LastEventCreatedAt.After(*at):
		return placeNewer
	}
	return placeBurst
}

func compareAsOf(created *time.Time, asOf time.Time) place {
	switch {
	case created == nil || created.Before(asOf.Add(-time.Second)):
		return placeStale
	case created.After(asOf):
		return placeNewer
	default:
		return placeAmbiguous
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
	end, ok := certainEnd(steps)
	// The creation comes first, so another event is last, whatever leads there.
	later := slices.DeleteFunc(slices.Clone(steps), func(s step) bool { return s.creation })
	if !ok && 0 < len(later) && len(later) < len(steps) {
		end, ok = certainEnd(later)
	}
	followed := map[string]bool{}
	for _, s := range steps {
		followed[s.from] = followed[s.from] || s.moves()
	}
	best := len(set) - 1
	for i, s := range steps { // by id, so the last that fits has the greatest
		if ok && s.to == end || !ok && !followed[s.to] && (!s.creation || len(later) == 0) {
			best = i
		}
	}
	return set[best], ok
}

// certainEnd is where a walk over all steps ends. Steps that are alike may be copies of one change or
// one change made twice, so they count once, and if counting them all ends elsewhere nothing is certain.
func certainEnd(steps []step) (end string, ok bool) {
	end, ok = walkEnd(unique(steps))
	if all, both := walkEnd(steps); ok && both && all != end {
		return "", false
	}
	return end, ok
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
	s := step{to: canonical(object)}
	if o.Type == createdType {
		s.from, s.known, s.creation = nothing, true, true
	} else if previous, ok := decodeAny(o.Previous).(map[string]any); ok && len(previous) > 0 {
		s.from, s.known = canonical(restored(object, previous)), true
	}
	return s
}

func unique(steps []step) []step {
	seen := map[step]bool{}
	var once []step
	for _, s := range steps {
		if !seen[s] {
			seen[s] = true
			once = append(once, s)
		}
	}
	return once
}

// walkEnd returns the state in which a walk over all steps ends, if that is certain.
func walkEnd(steps []step) (end string, ok bool) {
	arrivals := map[string]int{} // less departures
	mentioned := map[string]bool{}
	moves := 0
	for _, s := range steps {
		mentioned[s.to] = true
		if !s.moves() {
			continue
		}
		moves++
		arrivals[s.to]++
		arrivals[s.from]--
	}
	if moves == 0 {
		return steps[0].to, len(mentioned) == 1
	}
	ends, starts := 0, 0
	for state, n := range arrivals {
		switch {
		case n == 1:
			end = state
			ends++
		case n == -1:
			starts++
		case n != 0:
			return "", false
		}
	}
	for state := range mentioned {
		if _, onTheWay := arrivals[state]; !onTheWay {
			return "", false
		}
	}
	return end, ends == 1 && starts == 1 && connected(steps)
}

// connected is true if the steps hang together, whichever way they lead.
func connected(steps []step) bool {
	group := map[string]string{}
	var root func(string) string
	root = func(state string) string {
		if group[state] == "" || group[state] == state {
			return state
		}
		return root(group[state])
	}
	// The state before the creation is the empty text, which group cannot hold.
	name := func(state string) string { return "=" + state }
	for _, s := range steps {
		if s.moves() {
			group[root(name(s.from))] = root(name(s.to))
		}
	}
	roots := map[string]bool{}
	for _, s := range steps {
		if s.moves() {
			roots[root(name(s.to))] = true
		}
	}
	return len(roots) == 1
}
