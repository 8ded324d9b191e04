package webhooks_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

type anyObject = map[string]any

func nothing(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error { return nil }

func TestFunctionsRunInOrderOfRegistration(t *testing.T) {
	t.Parallel()
	var ran []string
	note := func(name string) func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error {
		return func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error {
			ran = append(ran, name)
			return nil
		}
	}
	h := webhooks.NewHandlers()
	webhooks.On(h, "*", note("all"))
	webhooks.On(h, "invoice.paid", note("exact"))
	webhooks.On(h, "invoice.*", note("prefix"))
	webhooks.On(h, "invoice.payment.*", note("another prefix"))
	webhooks.On(h, stripe.EventTypeInvoicePaid, note("stripe's constant"))
	webhooks.On(h, "invoice", note("no wildcard"))
	host := hooktest.New(t, h, nil)
	host.Expect(t, hooktest.Event("evt_1", "invoice.paid", 1, `{}`), 200, webhooks.OutcomeProcessed)
	if diff := cmp.Diff([]string{"all", "exact", "prefix", "stripe's constant"}, ran); diff != "" {
		t.Errorf("what ran (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"*", "invoice", "invoice.*", "invoice.paid", "invoice.payment.*"}, h.Types()); diff != "" {
		t.Errorf("the types (-want +got):\n%s", diff)
	}
}

func TestFunctionGetsTheDecodedObject(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, inv *stripe.Invoice) error {
		_, err := tx.Exec(ctx, `INSERT INTO paid VALUES ($1, $2, $3)`, ev.ID, inv.ID, inv.AmountPaid)
		return err
	})
	host := hooktest.New(t, h, nil)
	pgtest.Exec(t, host.Pool, `CREATE TABLE paid (event text, invoice text, cents bigint)`)
	host.Expect(t, hooktest.Event("evt_1", "invoice.paid", 1, `{"id":"in_1","amount_paid":900}`), 200, webhooks.OutcomeProcessed)
	if got := pgtest.Scan[string](t, host.Pool, `SELECT concat_ws(' ', event, invoice, cents) FROM paid`); got != "evt_1 in_1 900" {
		t.Errorf("stored is %q", got)
	}
	// An object of another shape, or none, is a failure of a genuine event, to be looked into.
	host.Expect(t, hooktest.Event("evt_2", "invoice.paid", 1, `{"id":["x"]}`), 500, "")
	host.Expect(t, []byte(`{"id":"evt_3","type":"invoice.paid"}`), 500, "")
}

func TestRegistrationIsLoudOnMisuse(t *testing.T) {
	t.Parallel()
	frozen := webhooks.NewHandlers()
	hooktest.New(t, frozen, nil)
	var missing func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error
	for name, c := range map[string]struct {
		register func(h *webhooks.Handlers)
		reason   string
	}{
		"no type":         {func(h *webhooks.Handlers) { webhooks.On(h, "", nothing) }, "not an event type"},
		"a wild middle":   {func(h *webhooks.Handlers) { webhooks.On(h, "invoice.*.paid", nothing) }, "not an event type"},
		"a wild half":     {func(h *webhooks.Handlers) { webhooks.On(h, "invoice.pa*", nothing) }, "not an event type"},
		"nil":             {func(h *webhooks.Handlers) { webhooks.On(h, "invoice.paid", missing) }, "is nil"},
		"nil projection":  {func(h *webhooks.Handlers) { webhooks.Project(h, "invoice.paid", nil) }, "is nil"},
		"after New":       {func(*webhooks.Handlers) { webhooks.On(frozen, "invoice.paid", nothing) }, "after New"},
		"only a wildcard": {func(h *webhooks.Handlers) { webhooks.On(h, ".*", nothing) }, "not an event type"},
	} {
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.Contains(text, c.reason) {
					t.Errorf("%s: the panic is %q, want %q in it", name, text, c.reason)
				}
			}()
			c.register(webhooks.NewHandlers())
		}()
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	_, err := webhooks.New(pool, webhooks.NewHandlers(), &webhooks.Config{
		Secrets: []string{"", "whsec_private\n"}, Timeout: -1, MaxBatchSize: 257, Mode: "sandbox", APIKey: "pk_test_private",
	})
	if err == nil {
		t.Fatal("New took it")
	}
	for _, want := range []string{"Secrets: secret 1 is empty", "secret 2 begins or ends with white space", "Timeout is negative", "MaxBatchSize is 257: use at most 256", `Mode is "sandbox"`, "APIKey: the key is a publishable key"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "private") {
		t.Errorf("the error shows a secret: %v", err)
	}
	for _, wrong := range []*webhooks.Config{nil, {}} {
		if _, err := webhooks.New(pool, webhooks.NewHandlers(), wrong); err == nil || !strings.Contains(err.Error(), "Secrets: no secret is set") {
			t.Errorf("without secrets New gave %v", err)
		}
	}
	if _, err := webhooks.New(nil, webhooks.NewHandlers(), &webhooks.Config{Secrets: []string{"whsec_1"}}); err == nil {
		t.Error("New took a nil pool")
	}
	if _, err := webhooks.New(pool, nil, &webhooks.Config{Secrets: []string{"whsec_1"}}); err == nil {
		t.Error("New took nil handlers")
	}
}
