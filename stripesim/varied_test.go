package stripesim_test

import (
	"encoding/json"
	"fmt"
	"testing"
)

// The simulation reaches every event type and status, many changes within a second, and lists that are cut.
func TestBillingIsVaried(t *testing.T) {
	t.Parallel()
	slowUnderRace(t)
	account := billed(5)
	for range 20 { // rare in a mixture
		account.Subscriptions[0].Schedule()
	}
	types, second, most := map[string]int{}, map[string]int{}, 0
	uncollectible, paidLater, again := map[string]bool{}, 0, 0
	gone := map[string]bool{}
	for _, ev := range account.Events {
		types[ev.Type]++
		at := fmt.Sprint(ev.AccountID, ev.ObjectID, ev.Created)
		second[at]++
		most = max(most, second[at])
		switch ev.Type {
		case "invoice.marked_uncollectible":
			uncollectible[ev.ObjectID] = true
		case "invoice.paid":
			if uncollectible[ev.ObjectID] {
				paidLater++
			}
		case "product.deleted":
			gone[ev.ObjectID] = true
		case "product.created":
			if gone[ev.ObjectID] {
				again++
			}
		}
	}
	for _, eventType := range []string{
		"customer.created", "customer.updated", "customer.deleted", "product.created", "product.updated", "product.deleted",
		"price.created", "price.updated", "invoice.created", "invoice.updated", "invoice.finalized", "invoice.paid",
		"invoice.payment_succeeded", "invoice.payment_failed", "invoice.voided", "invoice.marked_uncollectible", "invoice.deleted",
		"payment_intent.created", "payment_intent.requires_action", "payment_intent.processing", "payment_intent.succeeded", "payment_intent.payment_failed",
		"payment_intent.canceled", "payment_intent.amount_capturable_updated", "charge.pending", "charge.succeeded", "charge.failed", "charge.captured",
		"charge.updated", "charge.refunded", "refund.created", "refund.updated", "refund.failed", "charge.refund.updated", "charge.dispute.created",
		"charge.dispute.updated", "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated", "charge.dispute.closed",
		"payment_method.attached", "payment_method.updated", "payment_method.automatically_updated", "payment_method.detached",
		"setup_intent.created", "setup_intent.requires_action", "setup_intent.setup_failed", "setup_intent.succeeded", "setup_intent.canceled",
		"checkout.session.completed", "checkout.session.expired", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed",
		"credit_note.created", "credit_note.updated", "credit_note.voided", "subscription_schedule.created", "subscription_schedule.updated",
		"subscription_schedule.completed", "subscription_schedule.released", "subscription_schedule.canceled", "subscription_schedule.aborted",
		"subscription_schedule.expiring", "coupon.created", "coupon.updated", "coupon.deleted", "promotion_code.created", "promotion_code.updated",
		"customer.tax_id.created", "customer.tax_id.updated", "customer.tax_id.deleted", "payout.created", "payout.updated", "payout.paid",
		"payout.failed", "payout.canceled", "payout.reconciliation_completed", "entitlements.active_entitlement_summary.updated",
	} {
		if types[eventType] < 1 {
			t.Errorf("%d events are %s", types[eventType], eventType)
		}
	}
	if most < 7 || paidLater == 0 || again == 0 {
		t.Errorf("at most %d events of one object in a second, %d uncollectible invoices were paid, %d products created again", most, paidLater, again)
	}
	statuses, cut := map[string]int{}, 0
	for _, i := range account.Invoices {
		var o struct {
			Lines struct {
				Data    []object
				HasMore bool `json:"has_more"`
				Total   int  `json:"total_count"`
			}
		}
		if err := json.Unmarshal(i.Object(), &o); err != nil {
			t.Fatal(err)
		}
		statuses[i.Status()]++
		if o.Lines.HasMore {
			cut++
		}
		if o.Lines.HasMore != (o.Lines.Total > 10) || len(o.Lines.Data) != min(10, o.Lines.Total) {
			t.Errorf("%s lists %d lines of %d", i.ID(), len(o.Lines.Data), o.Lines.Total)
		}
	}
	if len(statuses) != 5 || cut == 0 {
		t.Errorf("the invoices are %v, %d with more than 10 lines", statuses, cut)
	}
}
