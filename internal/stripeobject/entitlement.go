package stripeobject

import (
	"maps"
	"slices"
)

// Feature is a feature that products can have. See https://docs.stripe.com/api/entitlements/feature/object.
type Feature struct {
	ID, Name, LookupKey string
	Active              bool
	Metadata            map[string]string
}

// Clone returns a deep copy.
func (f *Feature) Clone() Feature {
	copied := *f
	copied.Metadata = maps.Clone(f.Metadata)
	return copied
}

// Render renders the feature.
func (f *Feature) Render(string) Object {
	return Object{
		"id": f.ID, "object": "entitlements.feature", "active": f.Active, "livemode": false, "lookup_key": f.LookupKey,
		"metadata": texts(f.Metadata), "name": f.Name,
	}
}

// Entitlement is a customer's active entitlement to a feature. See https://docs.stripe.com/api/entitlements/active-entitlement/object.
type Entitlement struct {
	ID, Feature, LookupKey string
}

// Render renders the entitlement.
func (e Entitlement) Render() Object {
	return Object{
		"id": e.ID, "object": "entitlements.active_entitlement", "feature": e.Feature, "livemode": false, "lookup_key": e.LookupKey,
	}
}

// EntitlementsListed is the maximum number of entitlements in a summary's list. has_more is true if there are more.
const EntitlementsListed = 10

// EntitlementSummary are all active entitlements of a customer. It has no id. See
// https://docs.stripe.com/api/events/types#active_entitlement_summary_object.
type EntitlementSummary struct {
	Customer     string
	Entitlements []Entitlement
}

// Clone returns a deep copy.
func (s *EntitlementSummary) Clone() EntitlementSummary {
	return EntitlementSummary{s.Customer, slices.Clone(s.Entitlements)}
}

// Render renders the summary as its events have it: a list of up to EntitlementsListed entitlements.
func (s *EntitlementSummary) Render(string) Object {
	return s.render(min(len(s.Entitlements), EntitlementsListed))
}

// Whole renders the summary with all entitlements.
func (s *EntitlementSummary) Whole(string) Object { return s.render(len(s.Entitlements)) }

func (s *EntitlementSummary) render(n int) Object {
	data := make([]any, n)
	for at := range data {
		data[at] = s.Entitlements[at].Render()
	}
	return Object{
		"object": "entitlements.active_entitlement_summary", "customer": s.Customer, "livemode": false,
		"entitlements": Object{
			"object": "list", "data": data, "has_more": n < len(s.Entitlements), "url": "/v1/customer/" + s.Customer + "/entitlements",
		},
	}
}
