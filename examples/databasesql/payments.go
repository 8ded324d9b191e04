// Package databasesql adds up payments with queries that sqlc compiled for database/sql, in the event's transaction.
// Hand-written repositories on database/sql, sqlx and ent work in the same way.
package databasesql

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/examples/databasesql/store"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/sqltx"
)

// Register registers a handler that adds up each customer's payments.
func Register(h *webhooks.Handlers) {
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
		if inv.Customer == nil {
			return nil
		}
		db := sqltx.Open(tx)
		defer db.Close()
		return store.New(db).AccountAdd(ctx, store.AccountAddParams{CustomerID: inv.Customer.ID, PaidCents: inv.AmountPaid})
	})
}
