// Package stripeobject renders Stripe's objects as its API does, in the shapes of its versions.
package stripeobject

// The API versions of the two shapes of subscriptions and invoices. Before 2025-03-31.basil a subscription has its period at the
// top level, since then on each item; an invoice names its subscription at the top level, since then in parent. See
// https://docs.stripe.com/changelog/basil.
const (
	VersionBeforeBasil = "2024-06-20"
	VersionBasil       = "2025-03-31.basil"
)

// beforeBasil compares the dates that versions begin with.
func beforeBasil(version string) bool { return version < VersionBasil[:len("2025-03-31")] }

// Shape returns VersionBeforeBasil or VersionBasil, whichever has the shapes of a version.
func Shape(version string) string {
	if beforeBasil(version) {
		return VersionBeforeBasil
	}
	return VersionBasil
}

// Object is a Stripe object as JSON decodes it.
type Object = map[string]any

// OrNull returns a value, or null for the zero value.
func OrNull[T comparable](value T) any {
	var zero T
	if value == zero {
		return nil
	}
	return value
}

func texts(m map[string]string) Object {
	o := Object{}
	for key, value := range m {
		o[key] = value
	}
	return o
}
