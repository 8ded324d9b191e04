// Package billingpage shows a customer's open invoices. It reads the mirror with queries that sqlc compiled against its views, which
// have Stripe's members as typed columns whatever the API version.
package billingpage

import (
	"context"
	"fmt"
	"io"

	"github.com/pook/stripeonce/examples/billingpage/store"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/webhooks"
)

// Register mirrors what the page shows.
func Register(h *webhooks.Handlers) {
	mirror.Register(h, &mirror.Config{Types: []string{"customer", "product", "invoice"}})
}

// Write writes a customer's open invoices as text.
func Write(ctx context.Context, w io.Writer, db store.DBTX, customerID string, livemode bool) error {
	queries := store.New(db)
	invoices, err := queries.OpenInvoiceList(ctx, store.OpenInvoiceListParams{CustomerID: customerID, Livemode: livemode})
	if err != nil {
		return err
	}
	for _, inv := range invoices {
		if _, err := fmt.Fprintf(w, "%s for %s: %d %s\n", or(inv.Number), or(inv.Email), or(inv.AmountDue), or(inv.Currency)); err != nil {
			return err
		}
		lines, err := queries.InvoiceLineList(ctx, store.InvoiceLineListParams{InvoiceID: inv.ID, Livemode: livemode})
		if err != nil {
			return err
		}
		for _, line := range lines {
			if _, err := fmt.Fprintf(w, "  %d x %s: %d\n", or(line.Quantity), or(line.ProductName), or(line.Amount)); err != nil {
				return err
			}
		}
	}
	return nil
}

// or returns the value of a column, or the zero value for null: what Stripe did not send, or has not sent yet.
func or[T any](value *T) (v T) {
	if value != nil {
		v = *value
	}
	return v
}
