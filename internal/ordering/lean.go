package ordering

import "encoding/json"

// Lean returns a set as it is stored with the row, which has the object of the event own. An object is left out where Derive
// can derive it: from another event of the same state, or from the object of an event that followed, whose previous
// attributes lead back. In a chain of changes, that is every object.
func Lean(set []Occurrence, own string) []Occurrence {
	lean := make([]Occurrence, len(set))
	copy(lean, set)
	derivable := map[string]bool{}
	for _, o := range set {
		if o.ID == own && o.To != "" {
			derivable[o.To] = true
		}
	}
	spread(set, derivable)
	for i := range lean {
		o := &lean[i]
		switch {
		case o.ID == own, derivable[o.To]:
			o.Object = nil
		case o.Object != nil && o.To != "":
			derivable[o.To] = true
			spread(set, derivable)
		}
	}
	return lean
}

// spread adds the states that previous attributes lead back to.
func spread(set []Occurrence, states map[string]bool) {
	for grown := true; grown; {
		grown = false
		for _, o := range set {
			if states[o.To] && o.leadsBack() && !states[o.From] {
				states[o.From], grown = true, true
			}
		}
	}
}

// leadsBack reports whether the state before the event can be derived from its own.
func (o *Occurrence) leadsBack() bool { return o.From != "" && len(o.Previous) > 0 }

// Derive returns a set with the objects that Lean has left out. They are equal to Stripe's, but members that are null and the
// order of lists may differ. The set has the row's object.
func Derive(set []Occurrence) []Occurrence {
	objects := map[string]json.RawMessage{}
	for _, o := range set {
		if o.Object != nil && o.To != "" {
			objects[o.To] = o.Object
		}
	}
	for grown := true; grown; {
		grown = false
		for _, o := range set {
			if object := objects[o.To]; object != nil && o.leadsBack() && objects[o.From] == nil {
				objects[o.From], grown = before(object, o.Previous), true
			}
		}
	}
	full := make([]Occurrence, len(set))
	copy(full, set)
	for i := range full {
		if full[i].Object == nil {
			full[i].Object = objects[full[i].To]
		}
	}
	return full
}

// before returns an object with previous attributes put back.
func before(object, previous json.RawMessage) json.RawMessage {
	text, err := json.Marshal(restored(Decode(object), Decode(previous)))
	if err != nil {
		panic(err) // decoded JSON can be encoded
	}
	return text
}
