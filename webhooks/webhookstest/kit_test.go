package webhookstest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// newStripe delivers to a receiver with the handlers.
func newStripe(t *testing.T, pool *pgxpool.Pool, h *webhooks.Handlers, api *webhookstest.API) *webhookstest.Stripe {
	t.Helper()
	config := &webhooks.Config{Secrets: []string{webhookstest.Secret}, Logger: hooktest.NoLog()}
	if api != nil {
		config.APIKey, config.APIBase = webhookstest.APIKey, api.URL
	}
	r, err := webhooks.New(pool, h, config)
	if err != nil {
		t.Fatal(err)
	}
	return webhookstest.New(t, r, "/", webhookstest.Secret)
}

// A failed test shows the handler's error, which is in no response.
func TestReason(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *stripe.Invoice) error {
		return errors.New("no such organization\nin line two")
	})
	r, err := webhooks.New(pgtest.NewPool(t), h, &webhooks.Config{Secrets: []string{webhookstest.Secret}, Logger: hooktest.NoLog()})
	if err != nil {
		t.Fatal(err)
	}
	f := &failing{TB: t}
	sender := webhookstest.New(f, r, "/", webhookstest.Secret)
	sender.Seed, sender.Pauses = 5, []time.Duration{time.Millisecond}
	event := webhookstest.Event{Type: "invoice.paid", Object: webhookstest.Invoice{}}
	sender.Expect(event, webhooks.OutcomeProcessed)
	sender.Storm(event)
	for i, want := range []string{"want the outcome processed", "in 2 attempts (seed 5)"} {
		if len(f.errors) != 2 || strings.Contains(f.errors[i], "waited for") || !strings.Contains(f.errors[i], "no such organization\nin line two") || !strings.Contains(f.errors[i], want) {
			t.Errorf("the test fails with %q", f.errors)
		}
	}
	if reply := sender.Deliver([]byte("{}")); reply.Reason == "" || !strings.Contains(reply.String(), reply.Reason) {
		t.Errorf("an event without an id is answered %s", reply)
	}
}

// Life cycles end in the tables with the account's truth.
func TestSimulate(t *testing.T) {
	t.Parallel()
	simulation := stripesim.Simulation{Seed: 2, Subscriptions: 10, Storm: stripesim.Wild}
	account := simulation.NewAccount()
	api := webhookstest.NewAPI(t, account)
	pool := pgtest.NewPool(t)
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	newStripe(t, pool, h, api).Simulate(api, simulation)
	findings, err := judge.Subscriptions(t.Context(), pool, account)
	if err != nil || len(findings) > 0 || len(account.Subscriptions) != 10 {
		t.Errorf("%d subscriptions end with %v, %v", len(account.Subscriptions), findings, err)
	}
}

// A subscription is rendered in the event's API version, with its items, trial, cancellation, and what it was before.
func TestSubscription(t *testing.T) {
	t.Parallel()
	for _, version := range []string{webhookstest.DefaultAPIVersion, "2026-02-25.clover"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.NewPool(t)
			var previous []string
			h := webhooks.NewHandlers()
			subscriptions.Register(h, nil)
			webhooks.On(h, "customer.subscription.updated", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, _ *stripe.Subscription) error {
				previous = append(previous, strings.Join(strings.Fields(string(ev.Previous)), ""))
				return nil
			})
			sender := newStripe(t, pool, h, nil)
			start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
			trial := webhookstest.Subscription{
				ID: "sub_1", CustomerID: "cus_1", Status: "trialing", Created: start, TrialStart: start, TrialEnd: start.AddDate(0, 0, 14),
				CurrentPeriodEnd: start.AddDate(0, 0, 14), Items: []webhookstest.Item{{PriceID: "price_a", Quantity: 3}, {PriceID: "price_b", ProductID: "prod_b"}},
			}
			sender.Expect(webhookstest.Event{Type: "customer.subscription.created", Created: start, APIVersion: version, Object: trial}, webhooks.OutcomeProcessed)
			paid := trial
			renewed := paid.Update(func(s *webhookstest.Subscription) {
				s.Status, s.CurrentPeriodStart, s.CurrentPeriodEnd = "active", trial.TrialEnd, start.AddDate(0, 1, 14)
				s.CancelAtPeriodEnd, s.CancelAt, s.Metadata["org"] = true, s.CurrentPeriodEnd, "7"
			})
			renewed.APIVersion, renewed.Created, renewed.Livemode = version, trial.TrialEnd, false
			sender.Expect(renewed, webhooks.OutcomeProcessed)
			got, err := subscriptions.New(pool).Get(t.Context(), "sub_1")
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != "active" || got.CustomerID != "cus_1" || !got.CurrentPeriodEnd.Equal(paid.CurrentPeriodEnd) || !got.TrialEnd.Equal(trial.TrialEnd) ||
				!got.CancelAtPeriodEnd || len(got.Items) != 2 || *got.Items[0].Quantity != 3 || got.Items[1].ProductID != "prod_b" || got.Metadata["org"] != "7" {
				t.Errorf("the subscription is %+v", got)
			}
			for _, want := range []string{`"status":"trialing"`, `"cancel_at":null`, `"metadata":{"org":null}`, fmt.Sprintf(`"current_period_end":%d`, trial.CurrentPeriodEnd.Unix())} {
				if len(previous) != 1 || !strings.Contains(previous[0], want) {
					t.Errorf("%s is not in the previous attributes %v", want, previous)
				}
			}
			if version == webhookstest.DefaultAPIVersion && strings.Contains(previous[0], `"items"`) {
				t.Errorf("the items have not changed, but are in %v", previous)
			}
		})
	}
}

// Typed handlers of stripe-go read invoices and Checkout sessions.
func TestInvoiceAndCheckout(t *testing.T) {
	t.Parallel()
	var seen []string
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.payment_failed", func(_ context.Context, _ pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
		seen = append(seen, fmt.Sprint(inv.ID, " ", inv.Customer.ID, " ", inv.Subscription.ID, " ", inv.Status, " ", inv.AmountDue, " ", inv.AmountPaid, " ", inv.BillingReason))
		return nil
	})
	webhooks.On(h, "checkout.session.completed", func(_ context.Context, _ pgx.Tx, _ *webhooks.Event, cs *stripe.CheckoutSession) error {
		seen = append(seen, fmt.Sprint(cs.ID, " ", cs.ClientReferenceID, " ", cs.Subscription.ID, " ", cs.Mode, " ", cs.PaymentStatus, " ", cs.AmountTotal, " ", cs.Livemode))
		return nil
	})
	sender := newStripe(t, pgtest.NewPool(t), h, nil)
	sender.Expect(webhookstest.Event{Type: "invoice.payment_failed", Object: webhookstest.Invoice{
		ID: "in_1", CustomerID: "cus_1", SubscriptionID: "sub_1", Status: "open", AmountDue: 900,
	}}, webhooks.OutcomeProcessed)
	sender.Expect(webhookstest.Event{Type: "checkout.session.completed", Livemode: true, Object: webhookstest.CheckoutSession{
		ID: "cs_1", SubscriptionID: "sub_1", ClientReferenceID: "user 7", AmountTotal: 900,
	}}, webhooks.OutcomeProcessed)
	if want := "[in_1 cus_1 sub_1 open 900 0 subscription_cycle cs_1 user 7 sub_1 subscription paid 900 true]"; fmt.Sprint(seen) != want {
		t.Errorf("the handlers saw %v, want %s", seen, want)
	}
}
