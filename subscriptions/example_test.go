package subscriptions_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
)

// Mounting the route in an Echo application.
func Example() {
	setPlan := func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
		_, err := tx.Exec(ctx, `UPDATE organizations SET plan = $1 WHERE customer_id = $2`, c.After.PriceID, c.After.CustomerID)
		return err
	}
	addPayment := func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
		_, err := tx.Exec(ctx, `UPDATE organizations SET paid = paid + $1 WHERE customer_id = $2`, inv.AmountPaid, inv.Customer.ID)
		return err
	}
	mount := func(e *echo.Echo, pool *pgxpool.Pool) error {
		h := webhooks.NewHandlers()
		subscriptions.Register(h, &subscriptions.Config{OnChange: setPlan})
		webhooks.On(h, "invoice.paid", addPayment)
		r, err := webhooks.New(pool, h, &webhooks.Config{
			Secrets: webhooks.SplitSecrets(os.Getenv("STRIPE_WEBHOOK_SECRET")),
			APIKey:  os.Getenv("STRIPE_API_KEY"), // optional: fetches from Stripe if events do not settle their order
		})
		if err != nil {
			return err
		}
		echov4.Mount(e, "/webhooks/stripe", r)
		return nil
	}
	_ = mount
}

// A handler for another event type.
func Example_handler() {
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, inv *stripe.Invoice) error {
		if inv.Customer == nil { // an invoice need not have one
			return nil
		}
		_, err := tx.Exec(ctx, `UPDATE credits SET cents = cents + $1 WHERE customer_id = $2`, inv.AmountPaid, inv.Customer.ID)
		return err
	})
	fmt.Println(h.Types())
	// Output: [invoice.paid]
}

// Handlers that run a few quick statements may share a transaction with other events.
func Example_batches() {
	addCredit := func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
		_, err := tx.Exec(ctx, `UPDATE credits SET cents = cents + $1 WHERE customer_id = $2`, inv.AmountPaid, inv.Customer.ID)
		return err
	}
	grantAccess := func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
		_, err := tx.Exec(ctx, `UPDATE accounts SET access = $1 WHERE customer_id = $2`, c.After.Status.Entitled(), c.After.CustomerID)
		return err
	}
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", addCredit, webhooks.Batchable())
	subscriptions.Register(h, &subscriptions.Config{OnChange: grantAccess, BatchOnChange: true})
	fmt.Println(h.Types())
	// Output: [customer.subscription.* invoice.paid]
}

// Reading stored subscriptions.
func ExampleReader() {
	read := func(ctx context.Context, pool *pgxpool.Pool, customerID string) (string, error) {
		sub, err := subscriptions.New(pool).Current(ctx, customerID)
		if err != nil {
			return "", err // wraps subscriptions.ErrNotFound if the customer has none
		}
		return fmt.Sprintf("%s until %v", sub.Status, sub.CurrentPeriodEnd), nil
	}
	_ = read
}

// OnChange is called once for each real change, in the transaction that stores it, whatever the order of the events.
func ExampleRegister() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	h := webhooks.NewHandlers()
	subscriptions.Register(h, &subscriptions.Config{OnChange: func(_ context.Context, _ pgx.Tx, c subscriptions.Change) error {
		fmt.Println(c.After.ID, c.After.Status, "activated:", c.Activated(), "canceled:", c.Canceled())
		return nil
	}})
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{"whsec_of_an_example"}})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	for _, event := range []string{
		`{"id":"evt_1","type":"customer.subscription.created","created":1700000001,"data":{"object":{"id":"sub_1","customer":"cus_1","status":"active"}}}`,
		`{"id":"evt_3","type":"customer.subscription.deleted","created":1700000003,"data":{"object":{"id":"sub_1","customer":"cus_1","status":"canceled"}}}`,
		`{"id":"evt_2","type":"customer.subscription.updated","created":1700000002,"data":{"object":{"id":"sub_1","customer":"cus_1","status":"past_due"}}}`,
	} {
		ev, err := webhooks.ParseEvent([]byte(event))
		if err != nil {
			log.Fatal(err)
		}
		result, err := r.Apply(ctx, ev)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.EventID, result.Outcome)
	}
	sub, err := subscriptions.New(pool).Current(ctx, "cus_1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sub.Status)
	// Output:
	// sub_1 active activated: true canceled: false
	// evt_1 processed
	// sub_1 canceled activated: false canceled: true
	// evt_3 processed
	// evt_2 stale
	// canceled
}

// An OnChange that also keeps the host's state right on the first import, and sends no e-mail then.
func ExampleChange() {
	welcome := func(context.Context, pgx.Tx, string) error { return nil } // adds a job
	config := &subscriptions.Config{
		OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
			const setActive = `UPDATE accounts SET active = $2 WHERE customer_id = $1`
			_, err := tx.Exec(ctx, setActive, c.After.CustomerID, c.After.Status.Entitled())
			if err != nil || !c.Activated() { // false on an import: nobody gets a welcome e-mail who has been here for years
				return err
			}
			return welcome(ctx, tx, c.After.CustomerID)
		},
	}
	h := webhooks.NewHandlers()
	subscriptions.Register(h, config)
	active := &subscriptions.Subscription{Status: subscriptions.StatusActive}
	fmt.Println(subscriptions.Change{After: active}.Activated(), subscriptions.Change{After: active, Imported: true}.Activated())
	// Output: true false
}

// Import the subscriptions that exist at Stripe. Called again, Verify compares them, and stores what differs.
func ExampleVerify() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	account := stripesim.New(1, stripesim.Epoch) // stands for your Stripe account
	account.Subscribe(stripesim.VersionBasil).Activate()
	api := httptest.NewServer(stripesim.NewAPI(account))
	defer api.Close()

	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, nil)
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{"whsec_of_an_example"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	result, err := subscriptions.Verify(context.Background(), pool, &subscriptions.VerifyConfig{
		APIKey: "sk_test_1", APIBase: api.URL, Fix: r, Projection: projection,
	})
	fmt.Println("stored:", result.Fixed, err)
	// Output: stored: 1 <nil>
}
