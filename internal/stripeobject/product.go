package stripeobject

import (
	"maps"
	"slices"
	"strconv"
)

// Product is a product. Its shape is the same in both versions. See https://docs.stripe.com/api/products/object.
type Product struct {
	ID, Name, Description string
	Active                bool
	Created, Updated      int64
	DefaultPrice          string
	Images                []string
	Features              []string // the names of marketing_features
	UnitLabel             string
	Metadata              map[string]string
}

// Clone returns a deep copy.
func (p *Product) Clone() Product {
	copied := *p
	copied.Metadata = maps.Clone(p.Metadata)
	copied.Images, copied.Features = slices.Clone(p.Images), slices.Clone(p.Features)
	return copied
}

// Render renders the product.
func (p *Product) Render(string) Object {
	features := make([]any, len(p.Features))
	for i, name := range p.Features {
		features[i] = Object{"name": name}
	}
	return Object{
		"id": p.ID, "object": "product", "active": p.Active, "created": p.Created, "default_price": OrNull(p.DefaultPrice),
		"description": OrNull(p.Description), "images": list(p.Images), "livemode": false, "marketing_features": features,
		"metadata": texts(p.Metadata), "name": p.Name, "package_dimensions": nil, "shippable": nil, "statement_descriptor": nil,
		"tax_code": nil, "type": "service", "unit_label": OrNull(p.UnitLabel), "updated": p.Updated, "url": nil,
	}
}

// Price is a price. See https://docs.stripe.com/api/prices/object.
type Price struct {
	ID, Product         string
	Active              bool
	Amount              int64  // in cents
	Interval            string // month or year; empty: a one-time price
	Nickname, LookupKey string
	Created             int64
	Metadata            map[string]string
}

// Clone returns a deep copy.
func (p *Price) Clone() Price {
	copied := *p
	copied.Metadata = maps.Clone(p.Metadata)
	return copied
}

// Render renders the price in a version. Since basil there is no recurring.aggregate_usage.
func (p *Price) Render(version string) Object {
	o := Object{
		"id": p.ID, "object": "price", "active": p.Active, "billing_scheme": "per_unit", "created": p.Created, "currency": "usd",
		"custom_unit_amount": nil, "livemode": false, "lookup_key": OrNull(p.LookupKey), "metadata": texts(p.Metadata),
		"nickname": OrNull(p.Nickname), "product": p.Product, "recurring": nil, "tax_behavior": "unspecified", "tiers_mode": nil,
		"transform_quantity": nil, "type": "one_time", "unit_amount": p.Amount, "unit_amount_decimal": strconv.FormatInt(p.Amount, 10),
	}
	if p.Interval != "" {
		recurring := Object{"interval": p.Interval, "interval_count": 1, "meter": nil, "trial_period_days": nil, "usage_type": "licensed"}
		if beforeBasil(version) {
			recurring["aggregate_usage"] = nil
		}
		o["type"], o["recurring"] = "recurring", recurring
	}
	return o
}
