package stripeobject

import "maps"

// Coupon is a coupon. Its shape is the same in both versions. See https://docs.stripe.com/api/coupons/object.
type Coupon struct {
	ID, Name   string
	PercentOff float64
	Redeemed   int64
	Created    int64
	Metadata   map[string]string
}

// Clone returns a deep copy.
func (c *Coupon) Clone() Coupon {
	copied := *c
	copied.Metadata = maps.Clone(c.Metadata)
	return copied
}

// Render renders the coupon.
func (c *Coupon) Render(string) Object {
	return Object{
		"id": c.ID, "object": "coupon", "amount_off": nil, "created": c.Created, "currency": nil, "duration": "once", "duration_in_months": nil,
		"livemode": false, "max_redemptions": nil, "metadata": texts(c.Metadata), "name": OrNull(c.Name), "percent_off": c.PercentOff,
		"redeem_by": nil, "times_redeemed": c.Redeemed, "valid": true,
	}
}

// PromotionCode is a promotion code. Its shape is the same in both versions. See https://docs.stripe.com/api/promotion_codes/object.
type PromotionCode struct {
	ID, Code, Customer string
	Active             bool
	Coupon             Coupon
	Redeemed           int64
	Created            int64
	Metadata           map[string]string
}

// Clone returns a deep copy.
func (p *PromotionCode) Clone() PromotionCode {
	copied := *p
	copied.Metadata, copied.Coupon = maps.Clone(p.Metadata), p.Coupon.Clone()
	return copied
}

// Of returns the customer.
func (p *PromotionCode) Of() (customer, subscription string) { return p.Customer, "" }

// Render renders the promotion code with its coupon.
func (p *PromotionCode) Render(version string) Object {
	return Object{
		"id": p.ID, "object": "promotion_code", "active": p.Active, "code": p.Code, "coupon": p.Coupon.Render(version), "created": p.Created,
		"customer": OrNull(p.Customer), "expires_at": nil, "livemode": false, "max_redemptions": nil, "metadata": texts(p.Metadata),
		"restrictions":   Object{"first_time_transaction": true, "minimum_amount": nil, "minimum_amount_currency": nil},
		"times_redeemed": p.Redeemed,
	}
}
