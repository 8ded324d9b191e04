package stripesim

import (
	"slices"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// Coupon is a coupon of the account. Its methods change it and create the events of the change. They do nothing once it is deleted.
type Coupon struct {
	couponResource
}

type couponResource struct {
	resource[stripeobject.Coupon, *stripeobject.Coupon]
}

// AddCoupon creates a coupon, whose events have an API version. An empty id is drawn. Another id is the caller's choice, as at Stripe:
// it may be that of a deleted coupon. If the coupon exists, AddCoupon returns it.
func (a *Account) AddCoupon(version, id string, percentOff float64) *Coupon {
	if id == "" {
		id = newID(a.others, "", 8)
	}
	return a.addCoupon(a.ID, version, id, percentOff)
}

func (a *Account) addCoupon(accountID, version, id string, percentOff float64) *Coupon {
	for _, old := range a.Coupons {
		if old.about.AccountID != accountID || old.about.ID != id {
			continue
		}
		if !old.about.Deleted {
			return old
		}
		a.Coupons = slices.DeleteFunc(a.Coupons, func(c *Coupon) bool { return c == old })
		a.replaceStored(old)
		break
	}
	c := &Coupon{couponResource{newResource(a, Object{AccountID: accountID, Type: "coupon", ID: id, Created: a.Now}, version, stripeobject.Coupon{
		ID: id, PercentOff: percentOff, Created: a.Now, Metadata: map[string]string{},
	})}}
	a.Coupons = append(a.Coupons, c)
	a.keep(c)
	c.event(a.others, "coupon.created")
	return c
}

// replaceStored removes a deleted object whose id another one takes.
func (a *Account) replaceStored(old stored) {
	a.stored = slices.DeleteFunc(a.stored, func(st stored) bool { return st == old })
	a.replaced = append(a.replaced, old)
	old.replace()
}

func (c *Coupon) update(change func(*stripeobject.Coupon)) {
	if !c.about.Deleted {
		c.happen("coupon.updated", change)
	}
}

// SetName sets the name.
func (c *Coupon) SetName(name string) { c.update(func(st *stripeobject.Coupon) { st.Name = name }) }

// SetMetadata sets a key. An empty value removes it.
func (c *Coupon) SetMetadata(key, value string) {
	c.update(func(st *stripeobject.Coupon) { setText(st.Metadata, key, value) })
}

// Delete deletes the coupon. Its promotion codes become inactive.
func (c *Coupon) Delete() {
	if c.about.Deleted {
		return
	}
	c.deleteBy(c.account.others, "coupon.deleted")
	for _, p := range c.account.PromotionCodes {
		if p.coupon == c {
			p.update(func(st *stripeobject.PromotionCode) { st.Active = false })
		}
	}
}

// PromotionCode is a promotion code of a coupon. Its methods change it and create the events of the change.
type PromotionCode struct {
	promotionCodeResource

	coupon *Coupon
}

type promotionCodeResource struct {
	resource[stripeobject.PromotionCode, *stripeobject.PromotionCode]
}

// AddPromotionCode creates a promotion code. It holds the coupon as it is now: a later change of the coupon does not change it.
func (c *Coupon) AddPromotionCode(code string) *PromotionCode {
	if c.about.Deleted {
		return nil
	}
	a := c.account
	id := newID(a.others, "promo_1", 23)
	p := &PromotionCode{coupon: c, promotionCodeResource: promotionCodeResource{newResource(a, Object{AccountID: c.about.AccountID, Type: "promotion_code", ID: id, Created: a.Now}, c.version, stripeobject.PromotionCode{
		ID: id, Code: code, Active: true, Coupon: c.state.Clone(), Created: a.Now, Metadata: map[string]string{},
	})}}
	a.PromotionCodes = append(a.PromotionCodes, p)
	a.keep(p)
	p.event(a.others, "promotion_code.created")
	return p
}

func (p *PromotionCode) update(change func(*stripeobject.PromotionCode)) {
	p.happen("promotion_code.updated", change)
}

// SetActive deactivates the code, or makes it active again unless its coupon is deleted.
func (p *PromotionCode) SetActive(active bool) {
	if !active || !p.coupon.about.Deleted {
		p.update(func(st *stripeobject.PromotionCode) { st.Active = active })
	}
}

// SetMetadata sets a key. An empty value removes it.
func (p *PromotionCode) SetMetadata(key, value string) {
	p.update(func(st *stripeobject.PromotionCode) { setText(st.Metadata, key, value) })
}

// Redeem counts a redemption.
func (p *PromotionCode) Redeem() {
	if p.state.Active {
		p.update(func(st *stripeobject.PromotionCode) { st.Redeemed++ })
	}
}
