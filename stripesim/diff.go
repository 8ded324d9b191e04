package stripesim

import "reflect"

// difference returns Stripe's previous_attributes: the old value of every changed field, null for a field that was not set,
// only the changed keys of nested hashes, and complete arrays.
// See https://docs.stripe.com/api/events/object#event_object-data-previous_attributes.
func difference(before, after object) object {
	previous := object{}
	for key, old := range before {
		value, set := after[key]
		if set && reflect.DeepEqual(old, value) {
			continue
		}
		inBefore, ok1 := old.(object)
		inAfter, ok2 := value.(object)
		if ok1 && ok2 {
			previous[key] = difference(inBefore, inAfter)
			continue
		}
		previous[key] = old
	}
	for key := range after {
		if _, was := before[key]; !was {
			previous[key] = nil
		}
	}
	return previous
}
