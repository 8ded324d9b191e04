package webhookstest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stripe/stripe-go/v79"
	"github.com/stripe/stripe-go/v79/webhook"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// exampleT is the *testing.T of an example. It prints the errors.
type exampleT struct{ failing }

func (*exampleT) Helper()                  {}
func (*exampleT) Context() context.Context { return context.Background() }

// inTest runs the body of a test function.
func inTest(test func(t testing.TB)) {
	t := &exampleT{}
	defer func() {
		for _, fn := range slices.Backward(t.cleanups) {
			fn()
		}
		for _, text := range t.errors {
			fmt.Println(text)
		}
	}()
	test(t)
}

// An invoice is paid once, whatever Stripe does. In your test, t is its *testing.T.
func ExampleStripe_Storm() {
	inTest(func(t testing.TB) {
		databaseURL := pgtest.ExampleURL() // yours: os.Getenv("DATABASE_URL")
		pool := webhookstest.Database(t, databaseURL, `CREATE TABLE credits (customer_id text, cents bigint)`)
		h := webhooks.NewHandlers()
		webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
			_, err := tx.Exec(ctx, `INSERT INTO credits VALUES ($1, $2)`, inv.Customer.ID, inv.AmountPaid)
			return err
		})
		app, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{webhookstest.Secret}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("the receiver: %v", err)
		}

		sender := webhookstest.New(t, app, "/webhooks/stripe", webhookstest.Secret)
		first := webhookstest.Event{ID: "evt_1", Type: "invoice.paid", Object: webhookstest.Invoice{CustomerID: "cus_1", AmountDue: 500}}
		second := webhookstest.Event{ID: "evt_2", Type: "invoice.paid", Object: webhookstest.Invoice{CustomerID: "cus_1", AmountDue: 300}}
		sender.Expect(first, webhooks.OutcomeProcessed)
		sender.Storm(first, second)

		var cents int
		if err := pool.QueryRow(t.Context(), `SELECT sum(cents) FROM credits`).Scan(&cents); err != nil {
			t.Errorf("read the credits: %v", err)
		}
		fmt.Println(cents, "cents")
	})
	// Output: 800 cents
}

// newApp is an application that keeps subscriptions in the tables, and fetches objects from the API.
func newApp(t testing.TB, pool *pgxpool.Pool, api *webhookstest.API) http.Handler {
	t.Helper()
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	r, err := webhooks.New(pool, h, &webhooks.Config{
		Secrets: []string{webhookstest.Secret}, APIKey: webhookstest.APIKey, APIBase: api.URL, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatalf("the receiver: %v", err)
	}
	return r
}

// Whole life cycles in a storm, whose objects the application may also fetch. The tables must converge to the account's truth.
func ExampleStripe_Simulate() {
	inTest(func(t testing.TB) {
		pool := webhookstest.Database(t, pgtest.ExampleURL())
		simulation := stripesim.Simulation{Seed: 7, Subscriptions: 20, Storm: stripesim.Wild}
		account := simulation.NewAccount()
		api := webhookstest.NewAPI(t, account)
		app := newApp(t, pool, api) // its webhooks.Config has APIBase: api.URL and APIKey: webhookstest.APIKey
		webhookstest.New(t, app, "/webhooks/stripe", webhookstest.Secret).Simulate(api, simulation)

		for _, sub := range account.Subscriptions {
			want := sub.Truth()
			got, err := subscriptions.New(pool).Get(t.Context(), want.ID)
			if err != nil || string(got.Status) != want.Status || got.PriceID != want.PriceID {
				t.Errorf("%s is %+v, %v, want %+v", want.ID, got, err, want)
			}
		}
		fmt.Println(len(account.Subscriptions), "subscriptions compared")
	})
	// Output: 20 subscriptions compared
}

// A parked event waits for a person: here, until the customer is known.
func ExampleStripe_Replay() {
	inTest(func(t testing.TB) {
		known := false
		h := webhooks.NewHandlers()
		webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *stripe.Invoice) error {
			if !known {
				return webhooks.Park(errors.New("nobody knows the customer"))
			}
			return nil
		})
		app, err := webhooks.New(pgtest.ExamplePool(), h, &webhooks.Config{Secrets: []string{webhookstest.Secret}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("the receiver: %v", err)
		}
		sender := webhookstest.New(t, app, "/webhooks/stripe", webhookstest.Secret)
		paid := webhookstest.Event{ID: "evt_1", Type: "invoice.paid", Object: webhookstest.Invoice{CustomerID: "cus_1"}}
		reply := sender.Deliver(paid.Body())
		fmt.Println(reply.Outcome, "with the reason", reply.Reason)
		known = true
		fmt.Println(sender.Replay(paid.Body()).Outcome)
	})
	// Output:
	// parked with the reason handler of invoice.paid: parked: nobody knows the customer
	// processed
}

// Events of a life cycle: each update has the previous attributes of what it changes.
func ExampleSubscription_Update() {
	sub := webhookstest.Subscription{ID: "sub_1", CustomerID: "cus_1", PriceID: "price_basic"}
	created := webhookstest.Event{Type: "customer.subscription.created", Object: sub}
	failed := sub.Update(func(s *webhookstest.Subscription) { s.Status = "past_due" })
	canceled := sub.Update(func(s *webhookstest.Subscription) { s.Status = "canceled" })
	for _, ev := range []webhookstest.Event{created, failed, canceled} {
		var body struct {
			Data struct {
				Object   struct{ ID, Status string }
				Previous struct{ Status string } `json:"previous_attributes"`
			}
		}
		if err := json.Unmarshal(ev.Body(), &body); err != nil {
			fmt.Println(err)
		}
		fmt.Printf("%s: %s is %s, was %q\n", ev.Type, body.Data.Object.ID, body.Data.Object.Status, body.Data.Previous.Status)
	}
	// Output:
	// customer.subscription.created: sub_1 is active, was ""
	// customer.subscription.updated: sub_1 is past_due, was "active"
	// customer.subscription.updated: sub_1 is canceled, was "past_due"
}

// Build an event, sign it, and verify it with stripe-go.
func ExampleSign() {
	body := webhookstest.Event{ID: "evt_1", Type: "invoice.paid", Object: map[string]any{"id": "in_1", "amount_paid": 500}}.Body()
	ev, err := webhook.ConstructEventWithOptions(body, webhookstest.Sign(body, webhookstest.Secret), webhookstest.Secret,
		webhook.ConstructEventOptions{IgnoreAPIVersionMismatch: true})
	fmt.Println(ev.ID, ev.Type, ev.Data.Object["id"], err)
	// Output: evt_1 invoice.paid in_1 <nil>
}
