package subscriptions_test

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/stripe/stripe-go/v79"

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

// A function of one's own for another event type.
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

// Reading what is stored.
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
