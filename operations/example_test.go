package operations_test

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// Find and apply events that the ledger lacks, with the receiver's own handlers.
func ExampleOperator_Reconcile() {
	var (
		pool *pgxpool.Pool
		r    *webhooks.Receiver
	)
	o := operations.New(pool, &operations.Config{Applier: r, APIKey: os.Getenv("STRIPE_API_KEY")})
	found, err := o.Reconcile(context.Background(), operations.ReconcileOptions{Since: 72 * time.Hour})
	log.Println(found.Missing, "were missing", err)
}

// Replay every failing event.
func ExampleOperator_ReplayFailed() {
	var (
		pool *pgxpool.Pool
		r    *webhooks.Receiver
	)
	o := operations.New(pool, &operations.Config{Applier: r})
	err := o.ReplayFailed(context.Background(), func(a operations.Applied) { log.Println(a.EventID, a.Outcome, a.Err) })
	if err != nil {
		log.Fatal(err)
	}
}
