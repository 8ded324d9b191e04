// Package ordering decides which state of a Stripe object is the newest: by the seconds of its events, and within one second
// by what each event changed. It knows JSON, and neither deliveries nor tables.
package ordering

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/rawjson"
)

// maxNewest bounds how many events of one second are kept. Events with the smallest ids are dropped.
const maxNewest = 64

// Rules are what ordering needs to know of an object type.
type Rules struct {
	// Created is the type of the event of an object's creation, which is the first event in any case. Empty: an object can be
	// created again after its deletion, under its id.
	Created string
	// Lists are the members that are lists of Stripe's, such as "items". The order of their elements makes no difference.
	Lists []string
}

// Occurrence is an event of an object's newest second, as it is kept to order later events of that second.
type Occurrence struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	APIVersion string          `json:"api_version,omitempty"`
	Object     json.RawMessage `json:"object,omitempty"` // left out if it can be derived: see Lean
	Previous   json.RawMessage `json:"previous,omitempty"`
	// To and From are digests of the state that the event led to, and of that before, so that a set can be ordered without
	// reading its objects. They are empty until Stepped has computed them; From stays empty if Previous does not say it.
	To   string `json:"to,omitempty"`
	From string `json:"from,omitempty"`
}

// AppendJSON appends the JSON that json.Marshal returns, but copies the objects as they are. It runs for every event, and
// encoding/json would parse the objects.
func (o *Occurrence) AppendJSON(to []byte) []byte {
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
	if o.To != "" {
		to = rawjson.AppendString(append(to, `,"to":`...), o.To)
	}
	if o.From != "" {
		to = rawjson.AppendString(append(to, `,"from":`...), o.From)
	}
	return append(to, '}')
}

// Position is an event's position in time relative to a stored state.
type Position int

// The positions of an event.
const (
	Older Position = iota
	Newer
	SameSecond // the events of that second decide together
	Ambiguous  // the event is from the second in which the stored object was fetched: before it or after
)

// State is what is compared of an event's state, or of the stored one.
type State struct {
	// Terminal reports that the object has ended: no later state of it is any other than a terminal one.
	Terminal bool
	// Created is when Stripe created the state's event. Nil: not known.
	Created *time.Time
	// AsOf is set instead if the state was fetched: the second of the response's Date.
	AsOf *time.Time
}

// Compare orders an event relative to the stored state. A terminal state is newer than any other, whatever the timestamps: no
// event brings a canceled subscription back. Otherwise the seconds decide.
func Compare(event, stored State) Position {
	if event.Terminal != stored.Terminal {
		if event.Terminal {
			return Newer
		}
		return Older
	}
	if stored.AsOf != nil {
		return CompareAsOf(event.Created, *stored.AsOf)
	}
	switch at := stored.Created; {
	case at == nil && event.Created == nil:
		return SameSecond
	case at == nil:
		return Newer
	case event.Created == nil || event.Created.Before(*at):
		return Older
	case event.Created.After(*at):
		return Newer
	}
	return SameSecond
}

// CompareAsOf orders an event relative to a fetched object. The object is as of the second of the response's Date. An event of
// that second can be older or newer than the object. So can an event of the second before, since Stripe may have read the
// object before it dated the response.
func CompareAsOf(created *time.Time, asOf time.Time) Position {
	switch {
	case created == nil || created.Before(asOf.Add(-time.Second)):
		return Older
	case created.After(asOf):
		return Newer
	default:
		return Ambiguous
	}
}

// With adds an event to a set unless the set has it, and keeps at most maxNewest events. The result does not depend on
// the order in which events are added.
func With(set []Occurrence, one Occurrence) []Occurrence {
	if slices.ContainsFunc(set, func(o Occurrence) bool { return o.ID == one.ID }) {
		return set
	}
	grown := append(slices.Clone(set), one)
	slices.SortFunc(grown, func(a, b Occurrence) int { return strings.Compare(a.ID, b.ID) })
	if len(grown) > maxNewest { // the objects of others may be derived from that of the event that is dropped
		grown = Derive(grown)[len(grown)-maxNewest:]
	}
	return grown
}

// Last returns the last event of one second. It depends on the set alone, so every order of arrival gives the same result.
//
// Each update is a step from one state to another: from its object with the previous attributes put back, to its object.
// The creation is a step from nothing. The steps together are a walk that takes each step once. Such a walk ends in the
// one state that has one more arrival than departures. If there is exactly one such state, settled is true, and Last
// returns an event that leads to it. An event without previous attributes (a deletion, a pause) is a state but no step.
//
// The deletion of an object that can be created again is the last event if no event of the second creates it. If one does, which of
// them was the last is not settled.
//
// Otherwise settled is false: a step is missing, or the walk ends where it began. The tie-break is then the greatest id
// among the events that no other event is known to follow.
func (r Rules) Last(set []Occurrence) (event Occurrence, settled bool) {
	set = r.Stepped(set)
	steps := make([]step, len(set))
	for i, o := range set {
		steps[i] = r.stepOf(o)
	}
	end, ends := walkEnd(steps)
	// No walk takes these steps, so one is missing. The creation is the first event in any case, so the last event is
	// among the others.
	later := slices.DeleteFunc(slices.Clone(steps), func(s step) bool { return s.creation })
	if ends == noWalk && 0 < len(later) && len(later) < len(steps) {
		end, ends = walkEnd(later)
	}
	settled = ends == oneEnd
	if deletion, found := Deletion(set); found && r.Created == "" {
		if !slices.ContainsFunc(set, func(o Occurrence) bool { return strings.HasSuffix(o.Type, ".created") }) {
			return deletion, true
		}
		settled = false
	}
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
	if set[best].Object == nil {
		set = Derive(set)
	}
	return set[best], settled
}

// Deletion returns the deletion in a set, with its object. If there are several, it is the one with the greatest id.
func Deletion(set []Occurrence) (event Occurrence, found bool) {
	for i, o := range slices.Backward(set) { // sorted by id
		if strings.HasSuffix(o.Type, ".deleted") {
			if o.Object == nil {
				o = Derive(set)[i]
			}
			return o, true
		}
	}
	return event, false
}

// step is the change of an event, between digests of states.
type step struct {
	from, to string
	known    bool // from is known
	creation bool
}

const nothing = "" // the state before the creation

func (s step) moves() bool { return s.known && s.from != s.to }

func (r Rules) stepOf(o Occurrence) step {
	if r.Created != "" && o.Type == r.Created {
		return step{from: nothing, to: o.To, known: true, creation: true}
	}
	return step{from: o.From, to: o.To, known: o.From != ""}
}

// Stepped returns a set whose events have To and From.
func (r Rules) Stepped(set []Occurrence) []Occurrence {
	set = slices.Clone(set)
	for i := range set {
		o := &set[i]
		if o.To == "" {
			o.To = r.Digest(o.Object)
		}
		if o.From == "" {
			o.From = r.digestBefore(o.Object, o.Previous)
		}
	}
	return set
}

// Digest returns a digest of an object that is the same for objects that are equal to Stripe. The object must be valid JSON, or
// empty.
func (r Rules) Digest(object json.RawMessage) string {
	object = orNull(object)
	return digest(r.AppendCanonical(make([]byte, 0, len(object)), object))
}

// digestBefore returns the digest of an object before an update, or "" if the previous attributes do not say it.
func (r Rules) digestBefore(object, previous json.RawMessage) string {
	previous = bytes.TrimSpace(previous)
	if !rawjson.IsObject(previous) || !rawjson.Valid(previous) || len(membersOf(previous)) == 0 {
		return ""
	}
	object = orNull(object)
	return digest(r.appendBefore(make([]byte, 0, len(object)), object, previous))
}

func orNull(object json.RawMessage) json.RawMessage {
	if object = bytes.TrimSpace(object); len(object) > 0 {
		return object
	}
	return json.RawMessage("null")
}

func digest(canonical []byte) string {
	sum := sha256.Sum256(canonical)
	return base64.RawStdEncoding.EncodeToString(sum[:16])
}
