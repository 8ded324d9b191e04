package billingpage

import (
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

func TestOpenInvoices(t *testing.T) {
	pool := exampletest.Database(t, "")
	h := webhooks.NewHandlers()
	Register(h)
	stripe := exampletest.App(t, pool, h)
	created := time.Now().Truncate(time.Second)
	invoice := func(id, status string) map[string]any {
		return map[string]any{
			"id": id, "object": "invoice", "customer": "cus_1", "number": "A-" + id, "status": status, "currency": "usd", "amount_due": 1500, "created": created.Unix(),
			"lines": map[string]any{"object": "list", "has_more": false, "data": []any{map[string]any{
				"id": "il_" + id, "object": "line_item", "amount": 1500, "quantity": 3, "price": map[string]any{"id": "price_1", "product": "prod_1"},
			}}},
		}
	}
	event := func(kind string, after time.Duration, object map[string]any) webhookstest.Event {
		return webhookstest.Event{Type: kind, Created: created.Add(after), Object: object}
	}
	stripe.Storm(
		event("product.created", 0, map[string]any{"id": "prod_1", "object": "product", "name": "Seat", "created": created.Unix()}),
		event("customer.created", 0, map[string]any{"id": "cus_1", "object": "customer", "email": "ada@example.com", "created": created.Unix()}),
		event("invoice.created", time.Second, invoice("in_1", "draft")), event("invoice.finalized", 2*time.Second, invoice("in_1", "open")),
		event("invoice.created", time.Second, invoice("in_2", "draft")), event("invoice.finalized", 2*time.Second, invoice("in_2", "open")),
		event("invoice.paid", 3*time.Second, invoice("in_2", "paid")),
	)
	var page strings.Builder
	if err := Write(t.Context(), &page, pool, "cus_1", false); err != nil {
		t.Fatal(err)
	}
	if got, want := page.String(), "A-in_1 for ada@example.com: 1500 usd\n  3 x Seat: 1500\n"; got != want {
		t.Errorf("the page is\n%swant\n%s", got, want)
	}
}
