package stripeobject

import (
	"maps"
	"slices"
)

// Refund is a refund. Its shape is the same in both versions. See https://docs.stripe.com/api/refunds/object.
type Refund struct {
	ID, Charge, PaymentIntent string
	Status                    string // pending, succeeded, failed or canceled
	Amount                    int64
	Reason, FailureReason     string
	BalanceTransaction        string
	FailureBalanceTransaction string
	Created                   int64
	Metadata                  map[string]string
}

// Clone returns a deep copy.
func (r *Refund) Clone() Refund {
	copied := *r
	copied.Metadata = maps.Clone(r.Metadata)
	return copied
}

// Render renders the refund.
func (r *Refund) Render(string) Object {
	o := Object{
		"id": r.ID, "object": "refund", "amount": r.Amount, "balance_transaction": OrNull(r.BalanceTransaction), "charge": r.Charge,
		"created": r.Created, "currency": "usd",
		"destination_details": Object{"card": Object{"reference": nil, "reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"}, "type": "card"},
		"metadata":            texts(r.Metadata), "payment_intent": OrNull(r.PaymentIntent), "reason": OrNull(r.Reason), "receipt_number": nil,
		"source_transfer_reversal": nil, "status": r.Status, "transfer_reversal": nil,
	}
	if r.Status == "failed" { // the members exist only then
		o["failure_reason"], o["failure_balance_transaction"] = r.FailureReason, r.FailureBalanceTransaction
	}
	return o
}

// Dispute is a dispute. Its shape is the same in both versions. See https://docs.stripe.com/api/disputes/object.
type Dispute struct {
	ID, Charge, PaymentIntent string
	Status                    string // needs_response, under_review, won or lost
	Amount                    int64
	Reason                    string
	Evidence                  string // uncategorized_text
	Submissions               int64
	DueBy                     int64
	Transactions              []string // the ids of balance_transactions
	Created                   int64
	Metadata                  map[string]string
}

// Clone returns a deep copy.
func (d *Dispute) Clone() Dispute {
	copied := *d
	copied.Metadata, copied.Transactions = maps.Clone(d.Metadata), slices.Clone(d.Transactions)
	return copied
}

// Render renders the dispute.
func (d *Dispute) Render(string) Object {
	transactions := make([]any, len(d.Transactions))
	for i, id := range d.Transactions {
		amount := d.Amount
		if i == 0 { // the withdrawal
			amount = -amount
		}
		transactions[i] = Object{
			"id": id, "object": "balance_transaction", "amount": amount, "available_on": d.Created, "created": d.Created, "currency": "usd",
			"description": "Chargeback", "exchange_rate": nil, "fee": 1500, "fee_details": []any{}, "net": amount - 1500,
			"reporting_category": "dispute", "source": d.ID, "status": "available", "type": "adjustment",
		}
	}
	return Object{
		"id": d.ID, "object": "dispute", "amount": d.Amount, "balance_transactions": transactions, "charge": d.Charge, "created": d.Created,
		"currency": "usd", "evidence": Object{"customer_name": nil, "product_description": nil, "uncategorized_text": OrNull(d.Evidence)},
		"evidence_details":     Object{"due_by": OrNull(d.DueBy), "has_evidence": d.Evidence != "", "past_due": false, "submission_count": d.Submissions},
		"is_charge_refundable": false, "livemode": false, "metadata": texts(d.Metadata), "payment_intent": OrNull(d.PaymentIntent),
		"payment_method_details": Object{"card": Object{"brand": "visa", "case_type": "chargeback", "network_reason_code": "10"}, "type": "card"},
		"reason":                 d.Reason, "status": d.Status,
	}
}
