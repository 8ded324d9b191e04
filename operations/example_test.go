package operations_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// exampleReceiver is a receiver with one handler.
func exampleReceiver(pool *pgxpool.Pool, onPaid func() error) *webhooks.Receiver {
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error { return onPaid() })
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{"whsec_of_an_example"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	return r
}

// Stripe has an event that never arrived. It is found, and applied with the receiver's own handlers.
func ExampleOperator_Reconcile() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { // stands for Stripe's API
		fmt.Fprintf(w, `{"object":"list","has_more":false,"data":[{"id":"evt_1","object":"event","type":"invoice.paid","created":%d,"data":{"object":{"id":"in_1"}}}]}`,
			time.Now().Unix())
	}))
	defer api.Close()

	r := exampleReceiver(pool, func() error { return nil })
	o := operations.New(pool, &operations.Config{Applier: r, APIKey: "sk_test_1", APIBase: api.URL, Logger: slog.New(slog.DiscardHandler)})
	found, err := o.Reconcile(context.Background(), operations.ReconcileOptions{Since: 72 * time.Hour, Kind: operations.KindSnapshot})
	fmt.Println(found.Missing, "missing,", found.Applied, "applied,", err)
	// Output: 1 missing, 1 applied, <nil>
}

// An event failed. When the cause is fixed, it is applied again.
func ExampleOperator_ReplayFailed() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	broken := true
	r := exampleReceiver(pool, func() error {
		if broken {
			return errors.New("no such customer")
		}
		return nil
	})
	ctx := context.Background()
	ev, err := webhooks.ParseEvent([]byte(`{"id":"evt_1","object":"event","type":"invoice.paid","data":{"object":{"id":"in_1"}}}`))
	if err != nil {
		log.Fatal(err)
	}
	_, err = r.Apply(ctx, ev)
	fmt.Println(err)

	broken = false
	o := operations.New(pool, &operations.Config{Applier: r})
	err = o.ReplayFailed(ctx, "", func(a operations.Applied) { fmt.Println(a.EventID, a.Outcome, a.Err) })
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// handler of invoice.paid: no such customer
	// evt_1 processed <nil>
}
