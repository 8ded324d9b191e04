// Package credits grants credits for paid invoices, each invoice once.
package credits

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/webhooks"
)

// Tables are the host's own tables.
const Tables = `
CREATE TABLE accounts (customer_id text PRIMARY KEY, credits bigint NOT NULL DEFAULT 0);
CREATE TABLE credit_entries (invoice_id text PRIMARY KEY, customer_id text NOT NULL, credits bigint NOT NULL);`

// perUnit is how many credits a paid cent buys.
const perUnit = 1

// Register registers a handler that grants credits on invoice.paid. It needs no idempotency key: what it does through tx
// commits once, together with the event's record, or not at all. The entry's primary key is there because Stripe sends
// two events for one payment, invoice.paid and invoice.payment_succeeded.
func Register(h *webhooks.Handlers) {
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, inv *stripe.Invoice) error {
		if inv.Customer == nil || inv.AmountPaid == 0 {
			return nil
		}
		tag, err := tx.Exec(ctx, `INSERT INTO credit_entries (invoice_id, customer_id, credits) VALUES ($1, $2, $3)
			ON CONFLICT DO NOTHING`, inv.ID, inv.Customer.ID, inv.AmountPaid*perUnit)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO accounts (customer_id, credits) VALUES ($1, $2)
			ON CONFLICT (customer_id) DO UPDATE SET credits = accounts.credits + excluded.credits`,
			inv.Customer.ID, inv.AmountPaid*perUnit)
		return err
	})
}
