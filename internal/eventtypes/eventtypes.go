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

// text has the types that stripe-go v86 knows, sorted, one a line.
//
//go:embed event_types.txt
var text string

// thinOnly has types about v1 resources that are delivered only as thin events, so endpoints for snapshot events do not
// accept them.
var thinOnly = []string{"billing.meter.error_report_triggered", "billing.meter.no_meter_found"}

var list = sync.OnceValue(func() []string { return strings.Fields(text) })

// List returns the known types of snapshot events, sorted.
func List() []string { return slices.Clone(list()) }

// ThinList returns the known types about v1 resources that thin events have, without their prefix "v1.", sorted.
func ThinList() []string {
	all := append(List(), thinOnly...)
	slices.Sort(all)
	return all
}

// ThinOnly reports whether a type about a v1 resource is delivered only as thin events.
func ThinOnly(eventType string) bool { return slices.Contains(thinOnly, eventType) }

// Known reports whether a type is in the list or delivered only as thin events. It is also true for types that are not
// checked: types of v2 resources ("v2.…"), for which there is no list, and made-up types of tests ("test.…").
func Known(eventType string) bool {
	_, found := slices.BinarySearch(list(), eventType)
	return found || slices.Contains(thinOnly, eventType) || unchecked(eventType)
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
	begins := func(known string) bool { return strings.HasPrefix(known, prefix) }
	return unchecked(prefix) || slices.ContainsFunc(list(), begins) || slices.ContainsFunc(thinOnly, begins)
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
	candidates := list()
	if strings.HasSuffix(pattern, "*") {
		candidates = patterns()
	}
	// Such as "subscription.updated", for "customer.subscription.updated".
	if i := slices.IndexFunc(candidates, func(known string) bool { return strings.HasSuffix(known, "."+word) }); i >= 0 {
		return candidates[i]
	}
	return nearest.Of(word, candidates, min(len(word)/3, maxDistance)+1)
}

// patterns returns the patterns that match known types, such as "invoice.*".
func patterns() []string {
	var all []string
	for _, known := range list() {
		for i, letter := range known {
			if letter == '.' {
				all = append(all, known[:i]+".*")
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
