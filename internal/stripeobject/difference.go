package stripeobject

import "reflect"

// Difference returns Stripe's previous_attributes: the old value of every changed field, null for a field that was not set,
// only the changed keys of nested hashes, and complete arrays.
// See https://docs.stripe.com/api/events/object#event_object-data-previous_attributes.
func Difference(before, after Object) Object {
	previous := Object{}
	for key, old := range before {
		value, set := after[key]
		if set && reflect.DeepEqual(old, value) {
			continue
		}
		inBefore, ok1 := old.(Object)
		inAfter, ok2 := value.(Object)
		if ok1 && ok2 {
			previous[key] = Difference(inBefore, inAfter)
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
