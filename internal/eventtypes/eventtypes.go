// Package eventtypes knows the types of Stripe's events, for what needs a list of them: an endpoint, which takes no
// patterns, and the warning of a misspelled type. Stripe adds types all the time, so one that is not in the list may be
// real: see https://docs.stripe.com/api/events/types.
package eventtypes

import (
	_ "embed"
	"slices"
	"strings"
	"sync"

	"github.com/pook/stripeonce/internal/nearest"
)

// maxDistance is how many letters apart a type may be from the one that was meant: "payment_success" is 4 from
// "payment_succeeded".
const maxDistance = 4

// text has the types that stripe-go v86 knows, sorted, one a line.
//
//go:embed event_types.txt
var text string

// thinOnly are types about v1 resources that are delivered in thin events alone, so that no endpoint for snapshots takes
// them.
var thinOnly = []string{"billing.meter.error_report_triggered", "billing.meter.no_meter_found"}

var list = sync.OnceValue(func() []string { return strings.Fields(text) })

// List returns the known types of snapshot events, sorted.
func List() []string { return slices.Clone(list()) }

// Known is true for a type in the list, for one that is delivered in thin events alone, and for every type that is not
// checked: one about a v2 resource ("v2.…"), of which there is no list, and one that a test made up ("test.…"), which
// Stripe sends none of.
func Known(eventType string) bool {
	_, found := slices.BinarySearch(list(), eventType)
	return found || slices.Contains(thinOnly, eventType) || unchecked(eventType)
}

func unchecked(pattern string) bool {
	return strings.HasPrefix(pattern, "v2.") || strings.HasPrefix(pattern, "test.")
}

// Matches is true if a registered type, or a pattern that ends in "*", matches a known type.
func Matches(pattern string) bool {
	prefix, wild := strings.CutSuffix(pattern, "*")
	if !wild {
		return Known(pattern)
	}
	begins := func(known string) bool { return strings.HasPrefix(known, prefix) }
	return unchecked(prefix) || slices.ContainsFunc(list(), begins) || slices.ContainsFunc(thinOnly, begins)
}

// PatternMatches reports whether a registered pattern matches an event's type: the same, "*", or one that ends in ".*" and
// has the type's beginning. A pattern also matches a narrower pattern.
func PatternMatches(pattern, eventType string) bool {
	if prefix, wild := strings.CutSuffix(pattern, "*"); wild {
		return strings.HasPrefix(eventType, prefix)
	}
	return pattern == eventType
}

// Nearest returns the known type or pattern that was probably meant by one that matches none, "" if none is near.
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

// patterns are those that match known types, such as "invoice.*".
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
