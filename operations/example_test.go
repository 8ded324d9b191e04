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
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
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
	found, err := o.Reconcile(context.Background(), operations.ReconcileOptions{Since: 72 * time.Hour, Payload: operations.PayloadSnapshot})
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
	err = o.ReplayFailed(ctx, "", func(a operations.EventResult) { fmt.Println(a.EventID, a.Outcome, a.Err) })
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// handler of invoice.paid: no such customer
	// evt_1 processed <nil>
}

// Events failed for two reasons. When one is fixed, its events are applied again. The others will never be applied.
func ExampleOperator_FailureGroups() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	failures := map[string]error{"evt_1": errors.New("no plan gold for cus_1"), "evt_2": errors.New("no plan gold for cus_2"), "evt_3": errors.New("the customer is unknown")}
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, _ *struct{}) error { return failures[ev.ID] })
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{"whsec_of_an_example"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	for _, id := range []string{"evt_3", "evt_1", "evt_2"} {
		ev, err := webhooks.ParseEvent(fmt.Appendf(nil, `{"id":%q,"object":"event","type":"invoice.paid","data":{"object":{"id":"in_1"}}}`, id))
		if err != nil {
			log.Fatal(err)
		}
		_, _ = r.Apply(ctx, ev) // it fails
	}
	o := operations.New(pool, &operations.Config{Applier: r})
	list, err := o.FailureGroups(ctx, operations.FailureFilter{Type: "invoice.*"})
	if err != nil {
		log.Fatal(err)
	}
	for _, g := range list.Groups {
		fmt.Println(g.Count, g.EventType, g.Error)
	}

	delete(failures, "evt_1")
	delete(failures, "evt_2")
	err = o.ReplayAll(ctx, operations.ReplayFilter{Group: list.Groups[0].Key}, func(a operations.EventResult) { fmt.Println(a.EventID, a.Outcome, a.Err) })
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(o.Dismiss(ctx, "evt_3", "a customer of the old shop"))
	n, err := o.CountFailing(ctx)
	fmt.Println(n, "failing,", err)
	// Output:
	// 2 invoice.paid no plan gold for cus_…
	// 1 invoice.paid the customer is unknown
	// evt_1 processed <nil>
	// evt_2 processed <nil>
	// <nil>
	// 0 failing, <nil>
}

// An application imports what exists at Stripe on its first day. Interrupted, it is run again, and continues.
func ExampleOperator_Backfill() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	account := stripesim.New(1, stripesim.Epoch) // stands for Stripe's account
	account.Billing = true
	account.Subscribe(stripesim.VersionBasil).Activate()
	api := httptest.NewServer(stripesim.NewAPI(account))
	defer api.Close()

	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, nil)
	mirror.Register(h, &mirror.Config{Types: []string{"customer", "invoice"}})
	receiver, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{"whsec_of_an_example"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	ofSubscriptions := &subscriptions.VerifyConfig{APIKey: "sk_test_1", APIBase: api.URL, Fix: receiver, Projection: projection, NoHooks: true}
	ofOthers := &mirror.VerifyConfig{Types: []string{"customer", "invoice"}, APIKey: "sk_test_1", APIBase: api.URL, Fix: receiver, NoHooks: true}
	sum, err := backfill(context.Background(), pool, ofSubscriptions, ofOthers)
	fmt.Println(sum.Checked, "checked,", sum.Fixed, "fixed,", err)
	// Output: 3 checked, 3 fixed, <nil>
}

func backfill(ctx context.Context, pool *pgxpool.Pool, ofSubscriptions *subscriptions.VerifyConfig, ofOthers *mirror.VerifyConfig) (sum operations.ComparisonCounts, err error) {
	job, err := subscriptions.NewJob(pool, ofSubscriptions)
	if err != nil {
		return sum, err
	}
	jobs, err := mirror.Jobs(pool, ofOthers)
	if err != nil {
		return sum, err
	}
	o := operations.New(pool, &operations.Config{APIKey: ofOthers.APIKey})
	return o.Backfill(ctx, operations.BackfillOptions{Jobs: append(jobs, job)})
}

// The retrier retries failing events for longer than Stripe does. An application starts it beside its server.
func ExampleOperator_RetryFailed() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	r := exampleReceiver(pool, func() error { return nil })
	operator := operations.New(pool, &operations.Config{Applier: r, Logger: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := operator.RetryFailed(ctx, operations.RetryOptions{}); err != nil {
			log.Print("events that fail are not retried: ", err)
		}
	}()
	stop() // when the server has stopped
	<-stopped
	// Output:
}
