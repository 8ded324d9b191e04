package operations_test

import (
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// Reconcile neither applies an event that the receiver would ignore nor counts it as missing, whether its type is requested
// or not.
func TestReconcileLeavesUnhandledEvents(t *testing.T) {
	t.Parallel()
	handlers := func() *webhooks.Handlers {
		h := webhooks.NewHandlers()
		webhooks.On(h, "invoice.paid", (&bench{}).handle)
		return h
	}
	for name, c := range map[string]struct {
		types     []string
		configure func(*webhooks.Config)
		handled   string // the type of the events that are applied; empty: none
	}{
		"one of the requested types has a handler": {[]string{"invoice.*", "customer.subscription.*"}, nil, "invoice.paid"},
		"no requested type has a handler":          {[]string{"customer.subscription.*"}, nil, ""},
		"all types are requested":                  {[]string{"*"}, nil, "invoice.paid"},
		"the events are of the other mode":         {nil, func(c *webhooks.Config) { c.Mode = webhooks.ModeLive }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 3)
			b.account.Subscriptions[0].FailPayment() // invoice.payment_failed has no handler
			b.Host = hooktest.On(t, b.Pool, handlers(), c.configure)
			b.Operator = b.operator(b.Receiver, time.Minute)
			want := 0
			for _, ev := range b.account.Events {
				if ev.Type == c.handled {
					want++
				}
			}
			dry, _ := b.reconcile(t, operations.ReconcileOptions{Types: c.types, DryRun: true})
			if dry.Listed <= want || dry.Missing != want {
				t.Errorf("the dry run is %+v, want %d missing, and more that are listed", dry, want)
			}
			sum, reported := b.reconcile(t, operations.ReconcileOptions{Types: c.types})
			if sum.Missing != want || sum.Applied != want || sum.Failed != 0 || len(reported) != want {
				t.Errorf("it is %+v and reports %v, want %d applied", sum, reported, want)
			}
			if n := b.Count(t, "stripe_webhook_events"); n != want {
				t.Errorf("the ledger has %d rows, want %d", n, want)
			}
			if n := b.Count(t, "effects"); n != want {
				t.Errorf("there are %d effects, want %d", n, want)
			}
		})
	}
}

// A remote receiver's handlers are not known. A dry run counts events that the ledger lacks as missing, but not ignored
// events, since the receiver may still have no handler for them.
func TestDryRunOfRemoteReceiver(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	before := hooktest.On(t, b.Pool, webhooks.NewHandlers(), nil)
	ignored := b.account.Events[:len(b.account.Events)/2]
	for _, ev := range ignored {
		before.Expect(t, ev.Body, 200, webhooks.OutcomeIgnored)
	}
	b.Operator = b.operator(operations.NewRemote(b.URL, hooktest.Secret), time.Minute)
	dry, reported := b.reconcile(t, operations.ReconcileOptions{DryRun: true})
	all := len(b.account.Events)
	if want := (operations.ReconcileResult{Listed: all, Missing: all - len(ignored)}); dry != want || len(reported) != want.Missing {
		t.Errorf("the dry run is %+v and reports %d, want %+v", dry, len(reported), want)
	}
	if n := b.Count(t, "stripe_webhook_events"); n != len(ignored) {
		t.Errorf("the dry run wrote: %d rows", n)
	}
}
