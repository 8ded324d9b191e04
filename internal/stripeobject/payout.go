package stripeobject

import "maps"

// Payout is a payout. Its shape is the same in both versions. See https://docs.stripe.com/api/payouts/object.
type Payout struct {
	ID                        string
	Status                    string // pending, in_transit, paid, failed or canceled
	Amount                    int64
	Arrival                   int64
	Reconciled                bool
	FailureCode               string
	BalanceTransaction        string
	FailureBalanceTransaction string
	Created                   int64
	Metadata                  map[string]string
}

// Clone returns a deep copy.
func (p *Payout) Clone() Payout {
	copied := *p
	copied.Metadata = maps.Clone(p.Metadata)
	return copied
}

// Render renders the payout.
func (p *Payout) Render(string) Object {
	o := Object{
		"id": p.ID, "object": "payout", "amount": p.Amount, "application_fee": nil, "application_fee_amount": nil, "arrival_date": p.Arrival,
		"automatic": true, "balance_transaction": p.BalanceTransaction, "created": p.Created, "currency": "usd", "description": "STRIPE PAYOUT",
		"destination": "ba_1SimulatedBankAccount", "failure_balance_transaction": OrNull(p.FailureBalanceTransaction), "failure_code": OrNull(p.FailureCode),
		"failure_message": nil, "livemode": false, "metadata": texts(p.Metadata), "method": "standard", "original_payout": nil,
		"reconciliation_status": "in_progress", "reversed_by": nil, "source_type": "card", "statement_descriptor": nil, "status": p.Status,
		"type": "bank_account",
	}
	if p.Reconciled {
		o["reconciliation_status"] = "completed"
	}
	if p.FailureCode != "" {
		o["failure_message"] = "The bank account has been closed."
	}
	return o
}

// TaxID is a customer's tax id. Its shape is the same in both versions. See https://docs.stripe.com/api/tax_ids/object.
type TaxID struct {
	ID, Customer string
	Kind, Value  string // such as eu_vat
	Country      string
	Verification string // pending, verified, unverified or unavailable
	VerifiedName string
	Created      int64
}

// Clone returns a copy.
func (t *TaxID) Clone() TaxID { return *t }

// Of returns the customer.
func (t *TaxID) Of() (customer, subscription string) { return t.Customer, "" }

// Render renders the tax id.
func (t *TaxID) Render(string) Object {
	return Object{
		"id": t.ID, "object": "tax_id", "country": OrNull(t.Country), "created": t.Created, "customer": t.Customer, "livemode": false,
		"owner": Object{"customer": t.Customer, "type": "customer"}, "type": t.Kind, "value": t.Value,
		"verification": Object{"status": t.Verification, "verified_address": nil, "verified_name": OrNull(t.VerifiedName)},
	}
}
