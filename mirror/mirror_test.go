package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/webhooks"
)

// event returns the body of an event about an object, in the given second.
func event(id, kind string, second int64, object, previous string) []byte {
	if previous != "" {
		previous = `,"previous_attributes":` + previous
	}
	return fmt.Appendf(nil, `{"id":%q,"object":"event","type":%q,"created":%d,"livemode":false,"api_version":"2025-03-31.basil","data":{"object":%s%s}}`,
		id, kind, 1767225600+second, object, previous)
}

func invoice(id, status string, more string) string {
	return fmt.Sprintf(`{"id":%q,"object":"invoice","status":%q,"customer":"cus_1","created":1767225600,"livemode":false,"total":1999%s}`, id, status, more)
}

func TestMirror(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	var changes []string
	mirror.Register(h, &mirror.Config{Types: []string{"customer", "invoice", "product", "customer"}, OnChange: func(_ context.Context, _ pgx.Tx, c mirror.Change) error {
		before := "nothing"
		if c.Before != nil {
			before = c.Before.Status
		}
		changes = append(changes, fmt.Sprintf("%s %s: %s to %s deleted %v", c.After.Type, c.After.ID, before, c.After.Status, c.After.Deleted))
		return nil
	}})
	s := hooktest.New(t, h, nil)
	for _, step := range []struct {
		id, kind, object, previous, outcome string
		second                              int64
	}{
		{"evt_2", "invoice.finalized", invoice("in_1", "open", ""), "", "processed", 2},
		{"evt_1", "invoice.created", invoice("in_1", "draft", ""), "", "stale", 1},
		{"evt_2", "invoice.finalized", invoice("in_1", "open", ""), "", "duplicate", 2},
		{"evt_4", "invoice.paid", invoice("in_1", "paid", ""), "", "processed", 3},
		{"evt_3", "invoice.updated", invoice("in_1", "paid", ""), `{"status":"open"}`, "stale", 3}, // the same state
		{"evt_5", "invoice.upcoming", `{"object":"invoice","customer":"cus_1"}`, "", "ignored", 3},
		{"evt_6", "customer.created", `{"id":"cus_1","object":"customer","created":1767225600,"email":"a@example.com"}`, "", "processed", 4},
		{"evt_7", "customer.subscription.created", `{"id":"sub_1","object":"subscription","status":"active","customer":"cus_1"}`, "", "ignored", 4},
		{"evt_8", "customer.deleted", `{"id":"cus_1","object":"customer","created":1767225600,"email":"a@example.com"}`, "", "processed", 5},
		{"evt_9", "customer.updated", `{"id":"cus_1","object":"customer","created":1767225600,"email":"b@example.com"}`, `{"email":"a@example.com"}`, "stale", 9},
		{"evt_10", "product.created", `{"id":"gold","object":"product","created":1767225600,"name":"Gold"}`, "", "processed", 1},
		{"evt_11", "product.deleted", `{"id":"gold","object":"product","deleted":true}`, "", "processed", 2},
		{"evt_12", "product.created", `{"id":"gold","object":"product","created":1767225603,"name":"Gold again"}`, "", "processed", 3},
	} {
		s.Expect(t, event(step.id, step.kind, step.second, step.object, step.previous), 200, webhooks.Outcome(step.outcome))
	}
	want := `invoice in_1: nothing to open deleted false
invoice in_1: open to paid deleted false
customer cus_1: nothing to  deleted false
customer cus_1:  to  deleted true
product gold: nothing to  deleted false
product gold:  to  deleted true
product gold:  to  deleted false`
	if got := strings.Join(changes, "\n"); got != want {
		t.Errorf("the changes are\n%s\nwant\n%s", got, want)
	}

	// An event whose object cannot be stored is a failure with a record, not ignored.
	for id, object := range map[string]string{
		"evt_long": invoice("in_"+strings.Repeat("x", 256), "open", ""), "evt_number": `{"id":7,"object":"invoice","status":"open"}`,
	} {
		s.Expect(t, event(id, "invoice.updated", 9, object, ""), 500, "")
		if text := pgtest.Scan[string](t, s.Pool, `SELECT last_error FROM stripe_webhook_failures WHERE event_id = $1`, id); !strings.Contains(text, "the invoice cannot be read: its id") && !strings.Contains(text, "it has no id") {
			t.Errorf("the record of %s says %s", id, text)
		}
	}

	ctx := t.Context()
	inv, err := mirror.Get[stripe.Invoice](ctx, s.Pool, "in_1")
	if err != nil || inv.Status != stripe.InvoiceStatusPaid || inv.Total != 1999 {
		t.Errorf("the invoice is %+v, %v", inv, err)
	}
	gold, err := mirror.Get[mirror.Object](ctx, s.Pool, mirror.Key{Type: "product", ID: "gold"})
	if err != nil || gold.Deleted || !strings.Contains(string(gold.Object), "Gold again") {
		t.Errorf("the product is %+v, %v", gold, err)
	}
	if _, err := mirror.Get[json.RawMessage](ctx, s.Pool, "in_2"); !errors.Is(err, mirror.ErrNotFound) {
		t.Errorf("a missing invoice: %v", err)
	}
	if _, err := mirror.Get[json.RawMessage](ctx, s.Pool, "gold"); err == nil || !strings.Contains(err.Error(), "mirror.Key with a Type") {
		t.Errorf("an id without a known prefix: %v", err)
	}
	list, err := mirror.List[stripe.Invoice](ctx, s.Pool, mirror.Filter{Customer: "cus_1", Status: "paid"})
	if err != nil || len(list) != 1 || list[0].ID != "in_1" {
		t.Errorf("the paid invoices are %+v, %v", list, err)
	}
}

// Register may be called for each type by itself, with an OnChange of its own, but not twice for one type.
func TestRegisterEachType(t *testing.T) {
	t.Parallel()
	var called []string
	only := func(object string) *mirror.Config {
		return &mirror.Config{Types: []string{object}, OnChange: func(_ context.Context, _ pgx.Tx, c mirror.Change) error {
			called = append(called, object+" of "+c.After.Type)
			return nil
		}}
	}
	h := webhooks.NewHandlers()
	for _, object := range []string{"invoice", "customer"} {
		mirror.Register(h, only(object))
	}
	mirror.Register(h, &mirror.Config{Types: []string{"price"}})
	host := hooktest.On(t, pgtest.NewPool(t), h, nil)
	host.Expect(t, event("evt_1", "invoice.created", 1, invoice("in_1", "draft", ""), ""), http.StatusOK, webhooks.OutcomeProcessed)
	host.Expect(t, event("evt_2", "customer.created", 1, `{"id":"cus_1","object":"customer"}`, ""), http.StatusOK, webhooks.OutcomeProcessed)
	host.Expect(t, event("evt_3", "price.created", 1, `{"id":"price_1","object":"price"}`, ""), http.StatusOK, webhooks.OutcomeProcessed)
	if got, want := strings.Join(called, ", "), "invoice of invoice, customer of customer"; got != want {
		t.Errorf("OnChange was called for %s, want %s", got, want)
	}
	defer func() {
		if value := recover(); !strings.Contains(fmt.Sprint(value), `"invoice" are registered already`) {
			t.Errorf("a second Register of one type: %v", value)
		}
	}()
	mirror.Register(h, only("invoice"))
}
