package compare

import (
	"slices"
	"strings"

	"github.com/pook/stripeonce/internal/objecttypes"
	"github.com/pook/stripeonce/mirror"
)

// Subscription is the type of subscriptions, which have tables of their own.
const Subscription = "subscription"

// Types are the types of objects to compare.
type Types struct {
	Subscriptions bool
	Mirrored      []string // the other types
}

// Of returns the types that a receiver stores and that can be compared: subscriptions, and what it mirrors, without the types that
// Stripe's API does not have.
func Of(projection *mirror.Projection) Types {
	return Types{true, slices.DeleteFunc(projection.Types(), func(object string) bool { return objecttypes.Comparable([]string{object}) != nil })}
}

// OfID returns the type that follows from an object's id, if one does.
func OfID(id string) (of Types, known bool) {
	switch object := objecttypes.OfID(id); {
	case object != "":
		return Types{Mirrored: []string{object}}, true
	case strings.HasPrefix(id, "sub_"):
		return Types{Subscriptions: true}, true
	}
	return Types{}, false
}

// One returns a single type.
func One(object string) Types {
	if object == Subscription {
		return Types{Subscriptions: true}
	}
	return Types{Mirrored: []string{object}}
}

// ByCustomer returns the types without those that cannot be compared for one customer.
func (t Types) ByCustomer() Types {
	t.Mirrored = slices.DeleteFunc(slices.Clone(t.Mirrored), func(object string) bool { return !objecttypes.ByCustomer(object) })
	return t
}

// Empty reports whether there is no type.
func (t Types) Empty() bool { return !t.Subscriptions && len(t.Mirrored) == 0 }

// Names lists the types in the order in which they are compared.
func (t Types) Names() []string {
	if t.Subscriptions {
		return append([]string{Subscription}, t.Mirrored...)
	}
	return t.Mirrored
}
