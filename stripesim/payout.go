package stripesim

import "github.com/pook/stripeonce/internal/stripeobject"

// Payout is a payout of the account. Its methods change it and create the events of the change. They do nothing where Stripe would
// refuse the change: https://docs.stripe.com/payouts.
type Payout struct {
	payoutResource
}

type payoutResource struct {
	resource[stripeobject.Payout, *stripeobject.Payout]
}

// AddPayout creates a payout, in cents, whose events have an API version: status pending.
func (a *Account) AddPayout(version string, amount int64) *Payout {
	return a.addPayout(a.ID, version, amount)
}

func (a *Account) addPayout(accountID, version string, amount int64) *Payout {
	id := newID(a.others, "po_1", 23)
	p := &Payout{payoutResource{newResource(a, Object{AccountID: accountID, Type: "payout", ID: id, Created: a.Now}, version, stripeobject.Payout{
		ID: id, Status: "pending", Amount: amount, Arrival: a.Now + 2*24*hour, BalanceTransaction: newID(a.others, "txn_1", 23), Created: a.Now,
		Metadata: map[string]string{},
	})}}
	a.Payouts = append(a.Payouts, p)
	a.keep(p)
	p.event(a.others, "payout.created")
	return p
}

// Status returns the current status: pending, in_transit, paid, failed or canceled.
func (p *Payout) Status() string { return p.state.Status }

func (p *Payout) update(change func(*stripeobject.Payout)) { p.happen("payout.updated", change) }

// SetMetadata sets a key. An empty value removes it.
func (p *Payout) SetMetadata(key, value string) {
	p.update(func(st *stripeobject.Payout) { setText(st.Metadata, key, value) })
}

// Send submits a pending payout to the bank: payout.updated, status in_transit.
func (p *Payout) Send() {
	if p.state.Status == "pending" {
		p.update(func(st *stripeobject.Payout) { st.Status = "in_transit" })
	}
}

// Pay completes a payout: payout.updated and payout.paid.
func (p *Payout) Pay() {
	if p.state.Status == "pending" || p.state.Status == "in_transit" {
		p.changeAs(p.account.others, func(st *stripeobject.Payout) { st.Status = "paid" }, "payout.updated", "payout.paid")
	}
}

// Reconcile ends the reconciliation of a payout's transactions: payout.reconciliation_completed.
func (p *Payout) Reconcile() {
	if p.state.Status == "paid" && !p.state.Reconciled {
		p.happen("payout.reconciliation_completed", func(st *stripeobject.Payout) { st.Reconciled = true })
	}
}

// Fail fails a payout, even one that was paid: banks return payouts days later. payout.updated and payout.failed.
func (p *Payout) Fail() {
	if p.state.Status != "in_transit" && p.state.Status != "paid" {
		return
	}
	transaction := newID(p.account.others, "txn_1", 23)
	p.changeAs(p.account.others, func(st *stripeobject.Payout) {
		st.Status, st.FailureCode, st.FailureBalanceTransaction = "failed", "account_closed", transaction
	}, "payout.updated", "payout.failed")
}

// Cancel cancels a pending payout: payout.updated and payout.canceled.
func (p *Payout) Cancel() {
	if p.state.Status == "pending" {
		p.changeAs(p.account.others, func(st *stripeobject.Payout) { st.Status = "canceled" }, "payout.updated", "payout.canceled")
	}
}

// TaxID is a tax id of a customer. Its methods change it and create the events of the change.
type TaxID struct {
	taxIDResource
}

type taxIDResource struct {
	resource[stripeobject.TaxID, *stripeobject.TaxID]
}

// AddTaxID adds a European VAT number to the customer. Its verification is pending.
func (c *Customer) AddTaxID(value string) *TaxID {
	a := c.account
	id := newID(a.others, "txi_1", 23)
	t := &TaxID{taxIDResource{newResource(a, c.owns("tax_id", id), c.version, stripeobject.TaxID{
		ID: id, Customer: c.about.ID, Kind: "eu_vat", Value: value, Country: "DE", Verification: "pending", Created: a.Now,
	})}}
	a.TaxIDs = append(a.TaxIDs, t)
	a.keep(t)
	t.event(a.others, "customer.tax_id.created")
	return t
}

// Verify sets the result of the verification: verified, unverified or unavailable. customer.tax_id.updated.
func (t *TaxID) Verify(status, name string) {
	if !t.about.Deleted {
		t.happen("customer.tax_id.updated", func(st *stripeobject.TaxID) { st.Verification, st.VerifiedName = status, name })
	}
}

// Delete deletes the tax id.
func (t *TaxID) Delete() {
	if !t.about.Deleted {
		t.deleteBy(t.account.others, "customer.tax_id.deleted")
	}
}
