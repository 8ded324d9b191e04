package main

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// workload is what each event makes the receivers do. A handler runs the same statement in both.
type workload struct {
	name     string
	what     string                                 // in the table
	types    []string                               // the patterns of the events
	billing  bool                                   // the account has customers, products, prices and whole invoices
	register func(h *webhooks.Handlers, batch bool) // batch: handlers are Batchable
	byHand   byHandApply
}

// The host's table, and the statements of its handlers.
const (
	accountsTable = `CREATE TABLE accounts (customer_id text PRIMARY KEY, status text, paid_cents bigint NOT NULL DEFAULT 0)`
	accountsFill  = `INSERT INTO accounts (customer_id) SELECT DISTINCT unnest($1::text[])`
	accountStatus = `UPDATE accounts SET status = $2 WHERE customer_id = $1`
	accountPaid   = `UPDATE accounts SET paid_cents = paid_cents + $2 WHERE customer_id = $1`
)

var (
	projectionOnly = &workload{
		name: "projection", what: "subscriptions", types: subscriptionEvents,
		register: func(h *webhooks.Handlers, _ bool) { subscriptions.Register(h, &subscriptions.Config{Logger: quiet}) },
		byHand: func(ctx context.Context, tx pgx.Tx, ev *stripe.Event) error {
			_, _, err := storeByHand(ctx, tx, ev)
			return err
		},
	}
	onChange = &workload{
		name: "onchange", what: "subscriptions, `OnChange` with one UPDATE", types: subscriptionEvents,
		register: func(h *webhooks.Handlers, batch bool) {
			subscriptions.Register(h, &subscriptions.Config{Logger: quiet, BatchOnChange: batch, OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
				_, err := tx.Exec(ctx, accountStatus, c.After.CustomerID, string(c.After.Status))
				return err
			}})
		},
		byHand: func(ctx context.Context, tx pgx.Tx, ev *stripe.Event) error {
			sub, stored, err := storeByHand(ctx, tx, ev)
			if err != nil || !stored {
				return err
			}
			_, err = tx.Exec(ctx, accountStatus, sub.Customer.ID, string(sub.Status))
			return err
		},
	}
	invoicePaid = &workload{
		name: "invoice", what: "`invoice.paid`, a handler with one UPDATE", types: []string{"invoice.paid"},
		register: func(h *webhooks.Handlers, batch bool) {
			var options []webhooks.HandlerOption
			if batch {
				options = append(options, webhooks.Batchable())
			}
			webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
				_, err := tx.Exec(ctx, accountPaid, inv.Customer.ID, inv.AmountPaid)
				return err
			}, options...)
		},
		byHand: func(ctx context.Context, tx pgx.Tx, ev *stripe.Event) error {
			var inv stripe.Invoice
			if err := json.Unmarshal(ev.Data.Raw, &inv); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, accountPaid, inv.Customer.ID, inv.AmountPaid)
			return err
		},
	}
	billing = &workload{
		name: "billing", what: "mixed billing events, all objects kept", types: []string{"customer.*", "product.*", "price.*", "invoice.*"}, billing: true,
		register: func(h *webhooks.Handlers, _ bool) {
			subscriptions.Register(h, &subscriptions.Config{Logger: quiet})
			mirror.Register(h, &mirror.Config{Types: []string{"customer", "product", "price", "invoice"}, Logger: quiet})
		},
		byHand: storeAnyByHand,
	}
	workloads = []*workload{projectionOnly, onChange, invoicePaid, billing}

	subscriptionEvents = []string{"customer.subscription.*"}
)

// fillAccounts adds a row to the host's table for each customer of the events.
func (b *stand) fillAccounts(url string, list [][]byte) error {
	events, err := eventsOf(list)
	if err != nil {
		return err
	}
	customers := make([]string, len(events))
	for i, ev := range events {
		var object struct{ Customer string }
		if err := json.Unmarshal(ev.Object, &object); err != nil {
			return err
		}
		customers[i] = object.Customer
	}
	return b.exec(url, accountsFill, customers)
}

func workloadNamed(name string) *workload {
	return workloads[slices.IndexFunc(workloads, func(w *workload) bool { return w.name == name })]
}
