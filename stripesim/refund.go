package stripesim

import "github.com/pook/stripeonce/internal/stripeobject"

// Refund is a refund of a charge. Its methods change it and create the events of the change, also those of the charge. They do nothing
// where Stripe would refuse the change: https://docs.stripe.com/refunds.
type Refund struct {
	refundResource

	charge *Charge
}

type refundResource struct {
	resource[stripeobject.Refund, *stripeobject.Refund]
}

// Refund refunds so much of a charge, in cents: charge.refunded and refund.created, status succeeded. It returns nil where Stripe would
// refuse it: more than is left, or a disputed charge.
func (c *Charge) Refund(amount int64) *Refund { return c.refund(amount, "succeeded") }

// RefundLater is Refund for a refund that takes days, as those of bank debits do: status pending.
func (c *Charge) RefundLater(amount int64) *Refund { return c.refund(amount, "pending") }

func (c *Charge) refund(amount int64, status string) *Refund {
	if c.state.Status != "succeeded" || c.state.Disputed || amount < 1 || amount > c.Refundable() {
		return nil
	}
	a := c.account
	id := newID(a.others, "re_3", 23)
	r := &Refund{charge: c, refundResource: refundResource{newResource(a, Object{AccountID: c.about.AccountID, Type: "refund", ID: id, Created: a.Now}, c.version, stripeobject.Refund{
		ID: id, Charge: c.about.ID, PaymentIntent: c.state.PaymentIntent, Status: status, Amount: amount, Reason: "requested_by_customer",
		BalanceTransaction: newID(a.others, "txn_3", 23), Created: a.Now, Metadata: map[string]string{},
	})}}
	a.Refunds = append(a.Refunds, r)
	a.keep(r)
	c.happen("charge.refunded", func(st *stripeobject.Charge) { st.Refunded += amount })
	r.event(a.others, "refund.created")
	return r
}

// Status returns the current status: pending, succeeded, failed or canceled.
func (r *Refund) Status() string { return r.state.Status }

// update creates two events of one change, as Stripe does.
func (r *Refund) update(change func(*stripeobject.Refund), also ...string) {
	r.changeAs(r.account.others, change, append([]string{"refund.updated", "charge.refund.updated"}, also...)...)
}

// Succeed completes a pending refund.
func (r *Refund) Succeed() {
	if r.state.Status == "pending" {
		r.update(func(st *stripeobject.Refund) { st.Status = "succeeded" })
	}
}

// Fail fails a refund, even one that has succeeded: the bank sends it back. The charge is updated.
func (r *Refund) Fail() {
	if r.state.Status != "pending" && r.state.Status != "succeeded" {
		return
	}
	transaction := newID(r.account.others, "txn_3", 23)
	r.update(func(st *stripeobject.Refund) {
		st.Status, st.FailureReason, st.FailureBalanceTransaction = "failed", "expired_or_canceled_card", transaction
	}, "refund.failed")
	r.giveBack()
}

// Cancel cancels a pending refund. The charge is updated.
func (r *Refund) Cancel() {
	if r.state.Status == "pending" {
		r.update(func(st *stripeobject.Refund) { st.Status = "canceled" })
		r.giveBack()
	}
}

func (r *Refund) giveBack() {
	r.charge.happen("charge.updated", func(st *stripeobject.Charge) { st.Refunded -= r.state.Amount })
}

// SetMetadata sets a key. An empty value removes it.
func (r *Refund) SetMetadata(key, value string) {
	r.update(func(st *stripeobject.Refund) { setText(st.Metadata, key, value) })
}

// Dispute is a dispute of a charge. Its methods change it and create the events of the change. They do nothing where Stripe would
// refuse the change: https://docs.stripe.com/disputes/how-disputes-work.
type Dispute struct {
	disputeResource

	charge *Charge
}

type disputeResource struct {
	resource[stripeobject.Dispute, *stripeobject.Dispute]
}

// Dispute disputes what is left of a charge: charge.updated, charge.dispute.created and charge.dispute.funds_withdrawn. It returns nil
// if nothing is left, or the charge is disputed already.
func (c *Charge) Dispute(reason string) *Dispute {
	if c.state.Status != "succeeded" || c.state.Disputed || c.Refundable() == 0 {
		return nil
	}
	a := c.account
	id := newID(a.others, "du_1", 23)
	d := &Dispute{charge: c, disputeResource: disputeResource{newResource(a, Object{AccountID: c.about.AccountID, Type: "dispute", ID: id, Created: a.Now}, c.version, stripeobject.Dispute{
		ID: id, Charge: c.about.ID, PaymentIntent: c.state.PaymentIntent, Status: "needs_response", Amount: c.Refundable(), Reason: reason,
		DueBy: a.Now + 9*24*hour, Created: a.Now, Metadata: map[string]string{},
	})}}
	a.Disputes = append(a.Disputes, d)
	a.keep(d)
	c.happen("charge.updated", func(st *stripeobject.Charge) { st.Disputed = true })
	d.event(a.others, "charge.dispute.created")
	d.transact("charge.dispute.funds_withdrawn")
	return d
}

// transact adds a balance transaction.
func (d *Dispute) transact(eventType string) {
	id := newID(d.account.others, "txn_1", 23)
	d.happen(eventType, func(st *stripeobject.Dispute) { st.Transactions = append(st.Transactions, id) })
}

// Status returns the current status: needs_response, under_review, won or lost.
func (d *Dispute) Status() string { return d.state.Status }

func (d *Dispute) isOpen() bool {
	return d.state.Status == "needs_response" || d.state.Status == "under_review"
}

// SaveEvidence stores evidence without submitting it.
func (d *Dispute) SaveEvidence(text string) {
	if d.state.Status == "needs_response" {
		d.happen("charge.dispute.updated", func(st *stripeobject.Dispute) { st.Evidence = text })
	}
}

// Submit submits the evidence: status under_review.
func (d *Dispute) Submit() {
	if d.state.Status == "needs_response" {
		d.happen("charge.dispute.updated", func(st *stripeobject.Dispute) {
			st.Status = "under_review"
			st.Submissions++
		})
	}
}

// Win closes the dispute in the account's favor: charge.dispute.closed and charge.dispute.funds_reinstated.
func (d *Dispute) Win() {
	if d.isOpen() {
		d.happen("charge.dispute.closed", func(st *stripeobject.Dispute) { st.Status = "won" })
		d.transact("charge.dispute.funds_reinstated")
	}
}

// Lose closes the dispute in the customer's favor, or accepts it: charge.dispute.closed.
func (d *Dispute) Lose() {
	if d.isOpen() {
		d.happen("charge.dispute.closed", func(st *stripeobject.Dispute) { st.Status = "lost" })
	}
}
