package sqltx_test

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/sqltx"
)

// A handler that uses database/sql, in the event's transaction.
func ExampleOpen() {
	pool := pgtest.ExamplePool(`CREATE TABLE accounts (customer_id text, paid bigint)`, `INSERT INTO accounts VALUES ('cus_1', 0)`) // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()

	type invoice struct {
		Customer   string `json:"customer"`
		AmountPaid int64  `json:"amount_paid"`
	}
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *invoice) error {
		db := sqltx.Open(tx)
		defer db.Close()
		_, err := db.ExecContext(ctx, `UPDATE accounts SET paid = paid + $1 WHERE customer_id = $2`, inv.AmountPaid, inv.Customer)
		return err
	})
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{"whsec_of_an_example"}})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	ev, err := webhooks.ParseEvent([]byte(`{"id":"evt_1","type":"invoice.paid","data":{"object":{"id":"in_1","customer":"cus_1","amount_paid":500}}}`))
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		result, err := r.Apply(ctx, ev)
		fmt.Println(result.Outcome, err)
	}
	var paid int64
	if err := pool.QueryRow(ctx, `SELECT paid FROM accounts`).Scan(&paid); err != nil {
		log.Fatal(err)
	}
	fmt.Println(paid)
	// Output:
	// processed <nil>
	// duplicate <nil>
	// 500
}
