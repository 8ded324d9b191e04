package stripesim

import (
	"slices"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// summaryUpdated is the type of the only event of entitlements. It has no previous attributes.
const summaryUpdated = "entitlements.active_entitlement_summary.updated"

// Feature is a feature of the account, which products can have. There are no events of features. See
// https://docs.stripe.com/billing/entitlements.
type Feature struct {
	featureResource
}

type featureResource struct {
	resource[stripeobject.Feature, *stripeobject.Feature]
}

// Entitlement is an active entitlement of a customer.
type Entitlement struct {
	ID        string // ent_…, a new one each time that the customer gets the feature
	FeatureID string // feat_…
	LookupKey string
}

// AddFeature creates a feature that no product has yet. Its lookup key cannot change. It returns the feature that has the key
// already, if there is one.
func (a *Account) AddFeature(lookupKey, name string) *Feature {
	return a.addFeature(a.ID, lookupKey, name)
}

func (a *Account) addFeature(accountID, lookupKey, name string) *Feature {
	for _, f := range a.Features {
		if f.about.AccountID == accountID && f.state.LookupKey == lookupKey {
			return f
		}
	}
	id := newID(a.others, "feat_1", 23)
	f := &Feature{featureResource{newResource(a, Object{AccountID: accountID, Type: "entitlements.feature", ID: id, Created: a.Now}, VersionBasil, stripeobject.Feature{
		ID: id, Name: name, LookupKey: lookupKey, Active: true, Metadata: map[string]string{},
	})}}
	a.Features = append(a.Features, f)
	a.keep(f)
	return f
}

// LookupKey returns the feature's lookup key.
func (f *Feature) LookupKey() string { return f.state.LookupKey }

// SetName sets the name.
func (f *Feature) SetName(name string) {
	f.set(func(st *stripeobject.Feature) { st.Name = name })
}

// SetActive archives the feature, so that it cannot be attached to further products, or makes it active again. Products that
// have it keep it.
func (f *Feature) SetActive(active bool) {
	f.set(func(st *stripeobject.Feature) { st.Active = active })
}

// AttachFeature adds a feature to a product of the same account. Customers with a subscription to the product are entitled to it at
// once, of which there is no event.
func (a *Account) AttachFeature(p *Product, f *Feature) {
	if !f.state.Active || p.about.Deleted || p.about.AccountID != f.about.AccountID || slices.Contains(p.features, f) {
		return
	}
	p.features = append(p.features, f)
	a.entitleAll(p.about.AccountID)
}

// DetachFeature removes a feature from a product. Customers who have it by no other product lose it at once, of which there is no
// event.
func (a *Account) DetachFeature(p *Product, f *Feature) {
	p.features = slices.DeleteFunc(slices.Clone(p.features), func(other *Feature) bool { return other == f })
	a.entitleAll(p.about.AccountID)
}

func (a *Account) entitleAll(accountID string) {
	for _, c := range a.Customers {
		if c.about.AccountID == accountID {
			c.summary.set(c.entitled())
		}
	}
}

// Entitlements returns the customer's active entitlements: those to the features of the products of the subscriptions that are
// active, trialing or past_due. A summary's event lists the first ten of them.
func (c *Customer) Entitlements() []Entitlement {
	all := make([]Entitlement, len(c.summary.state.Entitlements))
	for i, e := range c.summary.state.Entitlements {
		all[i] = Entitlement{e.ID, e.Feature, e.LookupKey}
	}
	return all
}

// summary is the summary of a customer's entitlements.
type summary struct {
	resource[stripeobject.EntitlementSummary, *stripeobject.EntitlementSummary]
}

func (a *Account) newSummary(c *Customer) *summary {
	about := Object{AccountID: c.about.AccountID, Type: "entitlements.active_entitlement_summary", ID: c.about.ID, CustomerID: c.about.ID, Created: a.Now}
	s := &summary{newResource(a, about, c.version, stripeobject.EntitlementSummary{Customer: c.about.ID})}
	a.keep(s)
	return s
}

// entitle creates the event of a change of the customer's entitlements, if a subscription has changed them.
func (c *Customer) entitle() {
	before := c.summary.state.Entitlements
	change := c.entitled()
	after := c.summary.state.Clone()
	if change(&after); !slices.Equal(before, after.Entitlements) {
		c.summary.changeBy(c.account.others, summaryUpdated, func(st *stripeobject.EntitlementSummary) { *st = after })
	}
}

// entitled returns a change to the entitlements that the customer should have. Those that remain keep their ids and their order.
func (c *Customer) entitled() func(*stripeobject.EntitlementSummary) {
	var features []*Feature
	for _, s := range c.subscriptions {
		if !slices.Contains([]string{"active", "trialing", "past_due"}, s.state.Status) {
			continue
		}
		for i := range s.state.Items {
			if p := c.account.product(c.about.AccountID, s.state.Items[i].Product); p != nil {
				features = append(features, p.features...)
			}
		}
	}
	return func(st *stripeobject.EntitlementSummary) {
		st.Entitlements = slices.DeleteFunc(st.Entitlements, func(e stripeobject.Entitlement) bool {
			return !slices.ContainsFunc(features, func(f *Feature) bool { return f.about.ID == e.Feature })
		})
		for _, f := range features {
			if !slices.ContainsFunc(st.Entitlements, func(e stripeobject.Entitlement) bool { return e.Feature == f.about.ID }) {
				st.Entitlements = append(st.Entitlements, stripeobject.Entitlement{
					ID: newID(c.account.others, "ent_1", 23), Feature: f.about.ID, LookupKey: f.state.LookupKey,
				})
			}
		}
	}
}

// catalogFeatures are the lookup keys of the features of each product of the catalog. The second product has more than a summary
// lists.
var catalogFeatures = [][]string{
	{"projects", "exports", "email-support"},
	{"projects", "exports", "email-support", "api-access", "single-sign-on", "roles", "webhooks", "backups", "custom-domain", "chat-support", "analytics", "priority-queue"},
	{"audit-log", "audit-export"},
	{"guest-seats"},
}
