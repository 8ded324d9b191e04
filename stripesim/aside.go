package stripesim

import (
	"fmt"
	"strconv"
	"time"
)

// aside changes other objects between two steps of a subscription: its customer, an invoice of no subscription, or the products
// and prices.
func (a *Account) aside(s *Subscription) {
	for range 1 + a.billing.IntN(2) { // two are of the same second
		switch n := a.billing.IntN(100); {
		case n < 30:
			a.changeCustomer(s)
		case n < 55:
			a.changeInvoice(s.payer())
		case n < 65:
			a.changeProduct(s.AccountID, s.version)
		case n < 72:
			a.changePrice(s.AccountID)
		}
	}
}

func (a *Account) changeCustomer(s *Subscription) {
	c := s.payer()
	switch n := a.billing.IntN(16); n {
	case 0, 1:
		name := a.fullName()
		c.SetName(name, newID(a.billing, "", 8)+"@example.com")
	case 2, 3:
		c.SetMetadata([]string{"tier", "note"}[a.billing.IntN(2)], []string{"", "gold", newID(a.billing, "", 5)}[a.billing.IntN(3)])
	case 4, 5:
		c.SetBalance(100 * (a.billing.Int64N(40) - 30))
	case 6, 7, 8:
		c.SetAddress(append(cities, Address{})[a.billing.IntN(len(cities)+1)])
	case 9, 10:
		c.SetPaymentMethod()
	case 11, 12:
		c.SetInvoiceFooter([]string{"", "Thank you", "VAT 19 %"}[a.billing.IntN(3)])
	case 13:
		c.SetLocales([][]string{nil, {"en"}, {"de", "en"}}[a.billing.IntN(3)]...)
	default:
		if s.ended() {
			c.Delete()
		}
	}
}

// changeInvoice moves the customer's newest invoice of no subscription on, or creates one if it has come to its end.
func (a *Account) changeInvoice(c *Customer) {
	if c.Deleted() {
		return
	}
	i, n := c.oneOff, a.billing.IntN(10)
	if i == nil || i.Deleted() || i.hasStatus("paid", "void") {
		c.oneOff = c.AddInvoice([]int{1, 3, 10, 11, 25}[a.billing.IntN(5)])
		return
	}
	switch i.Status() {
	case "draft":
		pick(n, i.Finalize, i.Finalize, i.Finalize, i.AddLine, i.AddLine, i.Pay, i.FailPayment, i.Delete, func() { i.SetMetadata("po", fmt.Sprint(n, a.Now)) })
	case "open":
		pick(n, i.Pay, i.Pay, i.FailPayment, i.FailPayment, i.Void, i.MarkUncollectible, i.MarkUncollectible)
	case "uncollectible":
		pick(n, i.Pay, i.Pay, i.Void)
	}
}

func pick(n int, actions ...func()) { actions[n%len(actions)]() }

// changeProduct changes a product. One with an id of the caller's choice is deleted and created again.
func (a *Account) changeProduct(accountID, version string) {
	const chosen = "starter-kit"
	var own []*Product
	for _, p := range a.Products {
		if p.about.AccountID == accountID && p.about.ID != chosen {
			own = append(own, p)
		}
	}
	p, n := own[a.billing.IntN(len(own))], a.billing.IntN(7)
	switch n {
	case 0:
		p.SetName(fmt.Sprint(p.state.Name, "+"), "As of "+time.Unix(a.Now, 0).UTC().Format(time.DateOnly))
	case 1:
		p.SetFeatures([][]string{nil, {"Support"}, {"Support", "Audit log"}}[a.billing.IntN(3)]...)
	case 2:
		p.SetActive(!p.state.Active)
	case 3:
		p.SetMetadata("rank", strconv.Itoa(a.billing.IntN(5)))
	default:
		kit := a.addProduct(accountID, version, chosen, "Starter kit "+newID(a.billing, "", 3))
		if kit.about.Created < a.Now || n == 4 {
			kit.Delete()
		}
		if n == 4 { // within the second
			a.addProduct(accountID, version, chosen, "Starter kit "+newID(a.billing, "", 3))
		}
	}
}

func (a *Account) changePrice(accountID string) {
	var own []*Price
	for _, p := range a.Prices {
		if p.about.AccountID == accountID {
			own = append(own, p)
		}
	}
	p := own[a.billing.IntN(len(own))]
	switch a.billing.IntN(6) {
	case 0:
		p.SetNickname("Since " + time.Unix(a.Now, 0).UTC().Format(time.DateOnly))
	case 1, 2:
		p.SetLookupKey([]string{"standard", "promoted"}[a.billing.IntN(2)])
	case 3:
		p.SetMetadata("rank", strconv.Itoa(a.billing.IntN(5)))
	case 4:
		p.SetActive(!p.state.Active)
	default:
		if product := a.product(accountID, p.state.Product); len(own) < 20 {
			product.AddPrice(100*(1+a.billing.Int64N(50)), "year")
		}
	}
}
