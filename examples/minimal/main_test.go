package main

import (
	"testing"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// The program as README.md shows it records a payment once, however often it is delivered.
func TestMinimal(t *testing.T) {
	pool := exampletest.Database(t, `CREATE TABLE payments (invoice text, cents bigint)`)
	address := exampletest.Environment(t, pool)
	go main() // until the test's process ends
	stripe := exampletest.Program(t, address)
	paid := webhookstest.Event{ID: "evt_1", Type: "invoice.paid", Object: webhookstest.Invoice{CustomerID: "cus_1", AmountDue: 500}}
	stripe.Expect(paid, webhooks.OutcomeProcessed)
	stripe.Storm(paid)
	var cents int
	if err := pool.QueryRow(t.Context(), `SELECT sum(cents) FROM payments`).Scan(&cents); err != nil || cents != 500 {
		t.Errorf("the payments are %d cents, %v, want 500", cents, err)
	}
}
