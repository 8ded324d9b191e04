package mirror_test

import (
	"time"

	"github.com/pook/stripeonce/stripesim"
)

// shortOfBilling are further histories of one object of up to eight events, most of them within one second.
var shortOfBilling = map[string]func(a *stripesim.Account) (id string){
	"payment intent: two attempts, and canceled in one second": func(a *stripesim.Account) string {
		p := a.AddCustomer(stripesim.VersionBeforeBasil).AddPaymentIntent(1000, false)
		p.RequireAction()
		p.Fail()
		p.Fail()
		p.Cancel()
		return p.ID()
	},
	"charge: captured and refunded twice": func(a *stripesim.Account) string {
		p := a.AddCustomer(stripesim.VersionBasil).AddPaymentIntent(1000, true)
		p.Succeed()
		p.Capture()
		p.Charge().Refund(400)
		p.Charge().Refund(600)
		p.Charge().SetMetadata("a", "1")
		return p.Charge().ID()
	},
	"refund: failed after it succeeded": func(a *stripesim.Account) string {
		p := a.AddCustomer(stripesim.VersionBasil).AddPaymentIntent(1000, false)
		p.Succeed()
		r := p.Charge().RefundLater(400)
		a.Wait(time.Second)
		r.Succeed()
		r.Fail()
		return r.ID()
	},
	"dispute: won in one second": func(a *stripesim.Account) string {
		p := a.AddCustomer(stripesim.VersionBasil).AddPaymentIntent(1000, false)
		p.Succeed()
		d := p.Charge().Dispute("fraudulent")
		d.Submit()
		d.Win()
		return d.ID()
	},
	"payment method: replaced and detached": func(a *stripesim.Account) string {
		p := a.AddCustomer(stripesim.VersionBasil).AttachPaymentMethod()
		p.SetName("Ada")
		p.Replace()
		p.SetMetadata("a", "1")
		p.Detach()
		return p.ID()
	},
	"setup intent: failed twice, then succeeded": func(a *stripesim.Account) string {
		s := a.AddCustomer(stripesim.VersionBasil).AddSetupIntent()
		s.Fail()
		s.RequireAction()
		s.Fail()
		s.Succeed()
		return s.ID()
	},
	"checkout session: paid days later": func(a *stripesim.Account) string {
		s := a.AddCustomer(stripesim.VersionBeforeBasil).AddCheckoutSession("payment")
		s.CompleteUnpaid()
		s.PaySucceeded()
		return s.ID()
	},
	"credit note: of twelve lines, voided": func(a *stripesim.Account) string {
		i := a.AddCustomer(stripesim.VersionBasil).AddInvoice(3)
		i.Finalize()
		n := i.AddCreditNote(12)
		n.SetMemo("Sorry")
		n.SetMetadata("a", "1")
		n.Void()
		return n.ID()
	},
	"subscription schedule: changed and canceled": func(a *stripesim.Account) string {
		s := a.AddCustomer(stripesim.VersionBeforeBasil).AddSchedule()
		s.SetQuantity(5)
		s.AddPhase()
		s.RemindOfEnd()
		s.Cancel()
		return s.ID()
	},
	"coupon: deleted, created again and deleted in one second": func(a *stripesim.Account) string {
		c := a.AddCoupon(stripesim.VersionBasil, "WELCOME", 10)
		c.SetName("Welcome")
		c.Delete()
		a.AddCoupon(stripesim.VersionBasil, "WELCOME", 20).Delete()
		return c.ID()
	},
	"coupon: changed and deleted in one second": func(a *stripesim.Account) string {
		c := a.AddCoupon(stripesim.VersionBasil, "WELCOME", 10)
		a.Wait(time.Second)
		c.SetName("Welcome")
		c.SetMetadata("a", "1")
		c.Delete()
		return c.ID()
	},
	"coupon: created again in the second of its deletion": func(a *stripesim.Account) string {
		c := a.AddCoupon(stripesim.VersionBasil, "WELCOME", 10)
		a.Wait(time.Second)
		c.SetName("Welcome")
		c.Delete()
		a.AddCoupon(stripesim.VersionBasil, "WELCOME", 20).SetName("Welcome back")
		return c.ID()
	},
	"promotion code: redeemed and deactivated": func(a *stripesim.Account) string {
		p := a.AddCoupon(stripesim.VersionBasil, "", 10).AddPromotionCode("HELLO")
		p.Redeem()
		p.Redeem()
		p.SetActive(false)
		return p.ID()
	},
	"tax id: verified and deleted": func(a *stripesim.Account) string {
		t := a.AddCustomer(stripesim.VersionBasil).AddTaxID("DE123456789")
		t.Verify("unverified", "")
		t.Verify("verified", "Ada")
		t.Delete()
		return t.ID()
	},
	"payout: failed after it was paid": func(a *stripesim.Account) string {
		p := a.AddPayout(stripesim.VersionBasil, 1000)
		p.Send()
		p.Pay()
		a.Wait(time.Second)
		p.Fail()
		return p.ID()
	},
}
