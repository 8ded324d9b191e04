package webhooks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// deliver posts an event to a route as Stripe does, and prints the response.
func deliver(route http.Handler, body string) {
	req := httptest.NewRequest(http.MethodPost, "/webhooks/stripe", bytes.NewBufferString(body))
	req.Header.Set("Stripe-Signature", webhookstest.Sign([]byte(body), webhookstest.Secret))
	w := httptest.NewRecorder()
	route.ServeHTTP(w, req)
	fmt.Print(w.Code, " ", w.Body)
}

// newReceiver is webhooks.New without logs, so that the examples print only what they show.
func newReceiver(pool *pgxpool.Pool, h *webhooks.Handlers) *webhooks.Receiver {
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{webhookstest.Secret}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	return r
}

// A receiver in an Echo application. Stripe delivers the event twice; the invoice is booked once.
func Example() {
	pool := pgtest.ExamplePool(`CREATE TABLE payments (invoice_id text, cents bigint)`) // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()

	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
		_, err := tx.Exec(ctx, `INSERT INTO payments (invoice_id, cents) VALUES ($1, $2)`, inv.ID, inv.AmountPaid)
		return err
	})
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{webhookstest.Secret}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	e := echo.New()
	echov4.Mount(e, "/webhooks/stripe", r)

	paid := `{"id":"evt_1","type":"invoice.paid","data":{"object":{"id":"in_1","object":"invoice","amount_paid":500}}}`
	deliver(e, paid)
	deliver(e, paid)
	var payments int
	if err := pool.QueryRow(context.Background(), `SELECT count(*) FROM payments`).Scan(&payments); err != nil {
		log.Fatal(err)
	}
	fmt.Println(payments, "payment")
	// Output:
	// 200 {"event_id":"evt_1","outcome":"processed"}
	// 200 {"event_id":"evt_1","outcome":"duplicate"}
	// 1 payment
}

// A handler for several types, with an object type of the caller's own: only what it needs of Stripe's.
func ExampleOn() {
	pool := pgtest.ExamplePool(`CREATE TABLE dispute_log (dispute text, charge text, reason text)`) // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()

	type dispute struct {
		ID     string `json:"id"`
		Charge string `json:"charge"`
		Reason string `json:"reason"`
	}
	h := webhooks.NewHandlers()
	webhooks.On(h, "charge.dispute.*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, d *dispute) error {
		fmt.Println(ev.Type, d.ID, d.Reason)
		_, err := tx.Exec(ctx, `INSERT INTO dispute_log (dispute, charge, reason) VALUES ($1, $2, $3)`, d.ID, d.Charge, d.Reason)
		return err
	})
	deliver(newReceiver(pool, h), `{"id":"evt_1","type":"charge.dispute.created","data":{"object":{"id":"dp_1","charge":"ch_1","reason":"fraudulent"}}}`)
	// Output:
	// charge.dispute.created dp_1 fraudulent
	// 200 {"event_id":"evt_1","outcome":"processed"}
}

// A handler's error rolls everything back. Stripe retries, and the event takes effect then.
func ExampleOn_error() {
	pool := pgtest.ExamplePool(`CREATE TABLE credits (cents bigint)`) // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()

	fails := true
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
		if _, err := tx.Exec(ctx, `INSERT INTO credits VALUES ($1)`, inv.AmountPaid); err != nil {
			return err
		}
		if fails {
			return errors.New("no such customer")
		}
		return nil
	})
	r := newReceiver(pool, h)
	paid := `{"id":"evt_1","type":"invoice.paid","data":{"object":{"id":"in_1","amount_paid":500}}}`
	deliver(r, paid)
	fails = false
	deliver(r, paid)
	var cents int
	if err := pool.QueryRow(context.Background(), `SELECT sum(cents) FROM credits`).Scan(&cents); err != nil {
		log.Fatal(err)
	}
	fmt.Println(cents)
	// Output:
	// 500 {"error":"processing the event failed"}
	// 200 {"event_id":"evt_1","outcome":"processed"}
	// 500
}

// An event that no retry will help waits for a person, who replays it when the cause is fixed.
func ExamplePark() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()

	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(_ context.Context, _ pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
		if inv.Customer == nil {
			return webhooks.Park(errors.New("an invoice without a customer"))
		}
		return nil
	})
	r := newReceiver(pool, h)
	deliver(r, `{"id":"evt_1","type":"invoice.paid","data":{"object":{"id":"in_1"}}}`)
	var reason string
	if err := pool.QueryRow(context.Background(), `SELECT last_error FROM stripe_webhook_failures WHERE state = 'parked'`).Scan(&reason); err != nil {
		log.Fatal(err)
	}
	fmt.Println(reason)
	// Output:
	// 200 {"event_id":"evt_1","outcome":"parked"}
	// handler of invoice.paid: parked: an invoice without a customer
}

// A projection keeps rows of its own equal to Stripe's state, and reports whether an event changed them.
func ExampleProject() {
	pool := pgtest.ExamplePool(`CREATE TABLE product_names (id text PRIMARY KEY, name text)`) // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()

	h := webhooks.NewHandlers()
	webhooks.Project(h, "product.*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event) (changed bool, err error) {
		tag, err := tx.Exec(ctx, `INSERT INTO product_names SELECT $1::jsonb ->> 'id', $1::jsonb ->> 'name'
			ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE product_names.name <> excluded.name`, ev.Object)
		return tag.RowsAffected() > 0, err
	})
	r := newReceiver(pool, h)
	deliver(r, `{"id":"evt_1","type":"product.created","data":{"object":{"id":"prod_1","name":"Gold"}}}`)
	deliver(r, `{"id":"evt_2","type":"product.updated","data":{"object":{"id":"prod_1","name":"Gold"}}}`)
	// Output:
	// 200 {"event_id":"evt_1","outcome":"processed"}
	// 200 {"event_id":"evt_2","outcome":"stale"}
}

// A handler that needs Stripe's current object, not the event's, returns Fetch and runs again with it.
func ExampleFetch() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { // stands for Stripe's API
		fmt.Fprint(w, `{"id":"cus_1","object":"customer","email":"new@example.com"}`)
	}))
	defer api.Close()

	h := webhooks.NewHandlers()
	webhooks.On(h, "customer.updated", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, customer *stripe.Customer) error {
		if ev.Current == nil && ev.CanFetch() {
			return webhooks.Fetch(webhooks.FetchOptions{})
		}
		fmt.Println(customer.Email)
		return nil
	})
	r, err := webhooks.New(pool, h, &webhooks.Config{
		Secrets: []string{webhookstest.Secret}, APIKey: "sk_test_1", APIBase: api.URL, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	deliver(r, `{"id":"evt_1","type":"customer.updated","data":{"object":{"id":"cus_1","object":"customer","email":"old@example.com"}}}`)
	// Output:
	// new@example.com
	// 200 {"event_id":"evt_1","outcome":"processed"}
}

// A Receiver is an http.Handler: for net/http, chi, gin and others.
func ExampleReceiver_ServeHTTP() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()

	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/stripe", newReceiver(pool, webhooks.NewHandlers()))
	deliver(mux, `{"id":"evt_1","type":"invoice.paid","data":{"object":{"id":"in_1"}}}`)
	// Output: 200 {"event_id":"evt_1","outcome":"ignored"}
}

// An event from a trusted source, such as a queue, takes effect as a delivery of it would.
func ExampleReceiver_Apply() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()

	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *stripe.Invoice) error { return nil })
	r := newReceiver(pool, h)
	ev, err := webhooks.ParseEvent([]byte(`{"id":"evt_1","type":"invoice.paid","data":{"object":{"id":"in_1"}}}`))
	if err != nil {
		log.Fatal(err)
	}
	result, err := r.Apply(context.Background(), ev)
	fmt.Println(result.EventID, result.Outcome, err)
	// Output: evt_1 processed <nil>
}

// Several secrets: while one is rolled, the newest first. A label says in the metrics which one verified a delivery.
func ExampleSplitSecrets() {
	for _, secret := range webhooks.SplitSecrets("new=whsec_2, old=whsec_1") {
		fmt.Println(secret)
	}
	// Output:
	// new=whsec_2
	// old=whsec_1
}

// A handler had a bug and returned nil: the event took effect without it. Once the handler is repaired, it runs again, alone.
func ExampleReceiver_Reprocess() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	buggy := true
	credit := func(_ context.Context, _ pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
		if !buggy {
			fmt.Println("credited", inv.AmountPaid)
		}
		return nil
	}

	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", credit, webhooks.Name("credit"))
	r := newReceiver(pool, h)
	body := `{"id":"evt_1","object":"event","type":"invoice.paid","data":{"object":{"id":"in_1","amount_paid":900}}}`
	deliver(r, body)

	buggy = false
	deliver(r, body)
	ev, err := webhooks.ParseEvent([]byte(body)) // operations.Operator.Reprocess fetches it
	if err != nil {
		log.Fatal(err)
	}
	_, err = r.Reprocess(context.Background(), ev, webhooks.ReprocessOptions{Handler: "credit", Reason: "credits were lost"})
	fmt.Println(err)
	// Output:
	// 200 {"event_id":"evt_1","outcome":"processed"}
	// 200 {"event_id":"evt_1","outcome":"duplicate"}
	// credited 900
	// <nil>
}
