package mirror_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http/httptest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// Mirror four types, and open a case in the transaction that marks an invoice as uncollectible.
func ExampleRegister() {
	h := webhooks.NewHandlers()
	mirror.Register(h, &mirror.Config{
		Types: []string{"customer", "product", "price", "invoice"}, // or mirror.Billing
		OnChange: func(ctx context.Context, tx pgx.Tx, c mirror.Change) error {
			if c.After.Type != "invoice" || c.After.Status != "uncollectible" {
				return nil
			}
			_, err := tx.Exec(ctx, `INSERT INTO dunning_cases (invoice_id, customer_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
				c.After.ID, c.After.CustomerID)
			return err
		},
	})
	fmt.Println(h.Types())
	// Output: [customer.* invoice.* price.* product.*]
}

// Read one invoice, and the open invoices of a customer.
func ExampleGet() {
	show := func(ctx context.Context, pool *pgxpool.Pool) error {
		inv, err := mirror.Get[stripe.Invoice](ctx, pool, "in_1")
		if err != nil {
			return err
		}
		open, err := mirror.List[stripe.Invoice](ctx, pool, mirror.Filter{Customer: "cus_1", Status: "open"})
		if err != nil {
			return err
		}
		fmt.Println(inv.Number, len(open))
		return nil
	}
	pool, err := pgxpool.New(context.Background(), "postgres://localhost/myapp")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	_ = show // which needs a database
}

// Import the products that exist at Stripe, and read them.
func ExampleVerify() {
	ctx := context.Background()
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	account := stripesim.New(1, stripesim.Epoch) // stands for your Stripe account
	account.AddProduct(stripesim.VersionBasil, "gold", "Gold plan")
	api := httptest.NewServer(stripesim.NewAPI(account))
	defer api.Close()

	h := webhooks.NewHandlers()
	mirrored := mirror.Register(h, &mirror.Config{Types: []string{"product"}})
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{"whsec_of_an_example"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	result, err := mirror.Verify(ctx, pool, &mirror.VerifyConfig{
		Types: []string{"product"}, APIKey: "sk_test_1", APIBase: api.URL, Fix: r, Projection: mirrored,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored:", result.Fixed)

	products, err := mirror.List[stripe.Product](ctx, pool, mirror.Filter{})
	for _, product := range products {
		fmt.Println(product.ID, product.Name, err)
	}
	// Output:
	// stored: 1
	// gold Gold plan <nil>
}
