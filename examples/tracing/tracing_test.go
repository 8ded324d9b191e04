package tracing

import (
	"strings"
	"testing"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/internal/spantest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// The request's span has the delivery's below it, that the handler's, and that the handler's statement.
func TestStatementsAreChildrenOfTheirHandler(t *testing.T) {
	spans := spantest.New()
	plain := exampletest.Database(t, Tables)
	pool, err := Pool(t.Context(), plain.Config().ConnString(), spans.Provider)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	route, err := Route(pool, webhookstest.Secret, spans.Provider)
	if err != nil {
		t.Fatal(err)
	}
	stripe := webhookstest.New(t, route, "/webhooks/stripe", webhookstest.Secret)
	stripe.Expect(webhookstest.Event{Type: "invoice.paid", Object: map[string]any{"id": "in_1", "object": "invoice", "amount_paid": 500}}, webhooks.OutcomeProcessed)

	request, delivery, handler := spans.One(t, "POST"), spans.One(t, "stripe invoice.paid"), spans.One(t, "handler book payment")
	if !spantest.IsChild(delivery, request) || !spantest.IsChild(handler, delivery) {
		t.Error("the delivery and its handler are not below the request")
	}
	for _, span := range spans.All() {
		if strings.Contains(spantest.Value(&span, "db.query.text"), "INSERT INTO payments") && spantest.IsChild(&span, handler) {
			return
		}
	}
	t.Error("the handler's statement has no span below the handler's")
}
