package entitlements_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/entitlements"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
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
			if c.Complete { // what c.After does not have has ended
				if _, err := tx.Exec(ctx, `DELETE FROM provisioning WHERE customer_id = $1`, c.CustomerID); err != nil {
					return err
				}
			}
			for _, e := range c.After {
				const insert = `INSERT INTO provisioning (customer_id, feature) VALUES ($1, $2) ON CONFLICT DO NOTHING`
				if _, err := tx.Exec(ctx, insert, c.CustomerID, e.LookupKey); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// The entitlements are compared with Stripe once a day.
func Example_comparison() {
	background := func(ctx context.Context, pool *pgxpool.Pool, receiver *webhooks.Receiver, projection *mirror.Projection, key string) error {
		jobs, err := mirror.Jobs(pool, &mirror.VerifyConfig{
			Types: mirror.Entitlements, APIKey: key, Fix: receiver, Projection: projection, // the result of entitlements.Register
		})
		if err != nil {
			return err
		}
		return operations.New(pool, nil).VerifyEvery(ctx, 24*time.Hour, jobs...)
	}
	_ = background
}
