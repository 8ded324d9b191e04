package entitlements_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/entitlements"
	"github.com/pook/stripeonce/webhooks"
)

func Example() {
	h := webhooks.NewHandlers()
	entitlements.Register(h, nil)

	question := func(ctx context.Context, pool *pgxpool.Pool) error {
		may, err := entitlements.New(pool).Has(ctx, "cus_1", "audit-log")
		if errors.Is(err, entitlements.ErrIncomplete) {
			may = true // rather a feature too many than one too few
		} else if err != nil {
			return err
		}
		fmt.Println(may)
		return nil
	}
	_ = question
}

func ExampleRegister() {
	h := webhooks.NewHandlers()
	entitlements.Register(h, &entitlements.Config{
		OnChange: func(ctx context.Context, tx pgx.Tx, c entitlements.Change) error {
			for _, e := range c.Granted() {
				if _, err := tx.Exec(ctx, `INSERT INTO provisioning (customer_id, feature) VALUES ($1, $2)`, c.CustomerID, e.LookupKey); err != nil {
					return err
				}
			}
			return nil
		},
	})
}
