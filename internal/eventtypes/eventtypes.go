// Package eventtypes has the known types of Stripe's events. They are used for endpoints, which take no patterns, and to
// warn of a misspelled type. Stripe keeps adding types, so a type that is not in the list may exist:
// see https://docs.stripe.com/api/events/types.
package eventtypes

import (
	_ "embed"
	"slices"
	"strings"
	"sync"

	"github.com/pook/stripeonce/internal/nearest"
)

// maxDistance is the largest edit distance of a suggested type: "payment_success" is 4 from
// "payment_succeeded".
const maxDistance = 4

// text has the types that the newest stripe-go knows, sorted, one a line. Those that are delivered only as thin events begin
// with "v1.": endpoints for snapshot events do not accept them. make generate writes it (tools/eventtypes).
//
//go:embed event_types.txt
var text string

const thinPrefix = "v1."

type types struct{ snapshot, thinOnly []string }

var known = sync.OnceValue(func() (t types) {
	for _, one := range strings.Fields(text) {
		if v1, thin := strings.CutPrefix(one, thinPrefix); thin {
			t.thinOnly = append(t.thinOnly, v1)
		} else {
			t.snapshot = append(t.snapshot, one)
		}
	}
	return t
})

// List returns the known types of snapshot events, sorted.
func List() []string { return slices.Clone(known().snapshot) }

// ThinList returns the known types about v1 resources that thin events have, without their prefix "v1.", sorted.
func ThinList() []string {
	all := append(List(), known().thinOnly...)
	slices.Sort(all)
	return all
}

// ThinOnly reports whether a type about a v1 resource is delivered only as thin events.
func ThinOnly(eventType string) bool { return slices.Contains(known().thinOnly, eventType) }

// Known reports whether a type is in the list or delivered only as thin events. It is also true for types that are not
// checked: types of v2 resources ("v2.…"), for which there is no list, and made-up types of tests ("test.…").
func Known(eventType string) bool {
	_, found := slices.BinarySearch(known().snapshot, eventType)
	return found || ThinOnly(eventType) || unchecked(eventType)
}

func unchecked(pattern string) bool {
	return strings.HasPrefix(pattern, "v2.") || strings.HasPrefix(pattern, "test.")
}

// Matches reports whether a registered type, or a pattern that ends in "*", matches a known type.
func Matches(pattern string) bool {
	prefix, wild := strings.CutSuffix(pattern, "*")
	if !wild {
		return Known(pattern)
	}
	begins := func(one string) bool { return strings.HasPrefix(one, prefix) }
	return unchecked(prefix) || slices.ContainsFunc(known().snapshot, begins) || slices.ContainsFunc(known().thinOnly, begins)
}

// PatternMatches reports whether a registered pattern matches an event's type: an equal type, "*", or a prefix that ends in
// ".*". A pattern also matches a narrower pattern.
func PatternMatches(pattern, eventType string) bool {
	if prefix, wild := strings.CutSuffix(pattern, "*"); wild {
		return strings.HasPrefix(eventType, prefix)
	}
	return pattern == eventType
}

// Nearest returns the known type or pattern that is most similar to an unknown one, or "" if none is similar.
func Nearest(pattern string) string {
	word := strings.ToLower(strings.TrimPrefix(pattern, "v1."))
	candidates := known().snapshot
	if strings.HasSuffix(pattern, "*") {
		candidates = patterns()
	}
	// Such as "subscription.updated", for "customer.subscription.updated".
	if i := slices.IndexFunc(candidates, func(one string) bool { return strings.HasSuffix(one, "."+word) }); i >= 0 {
		return candidates[i]
	}
	return nearest.Of(word, candidates, min(len(word)/3, maxDistance)+1)
}

// Meant returns a question for the end of a text about an unknown type or pattern: the most similar known one. "" if none is similar.
func Meant(pattern string) string {
	if near := Nearest(pattern); near != "" {
		return ": did you mean " + near + "?"
	}
	return ""
}

// patterns returns the patterns that match known types, such as "invoice.*".
func patterns() []string {
	var all []string
	for _, one := range known().snapshot {
		for i, letter := range one {
			if letter == '.' {
				all = append(all, one[:i]+".*")
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
