package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/stripe/stripe-go/v79"
	"github.com/stripe/stripe-go/v79/webhook"
)

// byHandApply does what an event makes the handwritten receiver do, beside its ledger.
type byHandApply func(ctx context.Context, tx pgx.Tx, ev *stripe.Event) error

// handTables creates the tables of the handwritten receiver.
const handTables = `
CREATE TABLE hand_events (event_id text PRIMARY KEY, event_type text NOT NULL, processed_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE hand_subscriptions (
	id text PRIMARY KEY, customer_id text, status text NOT NULL, price_id text, quantity bigint,
	current_period_end timestamptz, last_event_at timestamptz NOT NULL, object jsonb NOT NULL
);
CREATE TABLE hand_customers (id text PRIMARY KEY, email text, name text, deleted boolean NOT NULL, last_event_at timestamptz NOT NULL, object jsonb NOT NULL);
CREATE TABLE hand_products (id text PRIMARY KEY, name text, active boolean NOT NULL, last_event_at timestamptz NOT NULL, object jsonb NOT NULL);
CREATE TABLE hand_prices (id text PRIMARY KEY, product_id text, unit_amount bigint, active boolean NOT NULL, last_event_at timestamptz NOT NULL, object jsonb NOT NULL);
CREATE TABLE hand_invoices (id text PRIMARY KEY, customer_id text, status text, total bigint, last_event_at timestamptz NOT NULL, object jsonb NOT NULL);`

// handwritten is a receiver as in a good tutorial: stripe-go verifies and parses the event. One transaction looks the event
// up, applies it, and records it.
func handwritten(pool *pgxpool.Pool, secret string, apply byHandApply) http.Handler {
	e := echo.New()
	e.POST(webhookPath, func(c echo.Context) error {
		body, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, 1<<20))
		if err != nil {
			return c.NoContent(http.StatusRequestEntityTooLarge)
		}
		ev, err := webhook.ConstructEventWithOptions(body, c.Request().Header.Get("Stripe-Signature"), secret,
			webhook.ConstructEventOptions{IgnoreAPIVersionMismatch: true})
		if err != nil {
			return c.NoContent(http.StatusBadRequest)
		}
		if err := onceByHand(c.Request().Context(), pool, &ev, apply); err != nil {
			return c.NoContent(http.StatusInternalServerError)
		}
		return c.JSON(http.StatusOK, map[string]string{"event_id": ev.ID})
	})
	return e
}

func onceByHand(ctx context.Context, pool *pgxpool.Pool, ev *stripe.Event, apply byHandApply) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var known bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM hand_events WHERE event_id = $1)`, ev.ID).Scan(&known); err != nil || known {
			return err
		}
		if err := apply(ctx, tx, ev); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO hand_events (event_id, event_type) VALUES ($1, $2)`, ev.ID, string(ev.Type))
		return err
	})
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "23505" && pgErr.ConstraintName == "hand_events_pkey" {
		return nil
	}
	return err
}

// storeByHand stores the subscription unless the row is newer, and reports whether it did.
func storeByHand(ctx context.Context, tx pgx.Tx, ev *stripe.Event) (sub stripe.Subscription, stored bool, err error) {
	if err := json.Unmarshal(ev.Data.Raw, &sub); err != nil {
		return sub, false, err
	}
	var price string
	var quantity int64
	if sub.Items != nil && len(sub.Items.Data) > 0 && sub.Items.Data[0].Price != nil {
		price, quantity = sub.Items.Data[0].Price.ID, sub.Items.Data[0].Quantity
	}
	tag, err := tx.Exec(ctx, `
		INSERT INTO hand_subscriptions (id, customer_id, status, price_id, quantity, current_period_end, last_event_at, object)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET customer_id = excluded.customer_id, status = excluded.status, price_id = excluded.price_id,
			quantity = excluded.quantity, current_period_end = excluded.current_period_end, last_event_at = excluded.last_event_at,
			object = excluded.object
		WHERE hand_subscriptions.last_event_at <= excluded.last_event_at`,
		sub.ID, sub.Customer.ID, string(sub.Status), price, quantity, time.Unix(sub.CurrentPeriodEnd, 0), time.Unix(ev.Created, 0), ev.Data.Raw,
	)
	return sub, tag.RowsAffected() > 0, err
}

// storeAnyByHand stores the event's object in the table of its type unless the row is newer.
func storeAnyByHand(ctx context.Context, tx pgx.Tx, ev *stripe.Event) error {
	family, _, _ := strings.Cut(string(ev.Type), ".")
	at := time.Unix(ev.Created, 0)
	switch {
	case strings.HasPrefix(string(ev.Type), "customer.subscription."):
		_, _, err := storeByHand(ctx, tx, ev)
		return err
	case family == "customer":
		var c stripe.Customer
		if err := json.Unmarshal(ev.Data.Raw, &c); err != nil {
			return err
		}
		return upsertByHand(ctx, tx, "hand_customers", "email, name, deleted", c.ID, at, ev.Data.Raw, c.Email, c.Name, ev.Type == "customer.deleted")
	case family == "product":
		var p stripe.Product
		if err := json.Unmarshal(ev.Data.Raw, &p); err != nil {
			return err
		}
		return upsertByHand(ctx, tx, "hand_products", "name, active", p.ID, at, ev.Data.Raw, p.Name, p.Active && ev.Type != "product.deleted")
	case family == "price":
		var p stripe.Price
		if err := json.Unmarshal(ev.Data.Raw, &p); err != nil {
			return err
		}
		return upsertByHand(ctx, tx, "hand_prices", "product_id, unit_amount, active", p.ID, at, ev.Data.Raw, p.Product.ID, p.UnitAmount, p.Active)
	case family == "invoice":
		var i stripe.Invoice
		if err := json.Unmarshal(ev.Data.Raw, &i); err != nil {
			return err
		}
		return upsertByHand(ctx, tx, "hand_invoices", "customer_id, status, total", i.ID, at, ev.Data.Raw, i.Customer.ID, string(i.Status), i.Total)
	}
	return nil
}

// upsertByHand runs the upsert of a table, which pgx prepares once.
func upsertByHand(ctx context.Context, tx pgx.Tx, table, columns, id string, at time.Time, object []byte, values ...any) error {
	names := strings.Split(columns, ", ")
	set, places := "last_event_at = excluded.last_event_at, object = excluded.object", ""
	for i, name := range names {
		set += fmt.Sprintf(", %[1]s = excluded.%[1]s", name)
		places += fmt.Sprintf(", $%d", i+4)
	}
	_, err := tx.Exec(ctx, fmt.Sprintf(`INSERT INTO %[1]s (id, last_event_at, object, %[2]s) VALUES ($1, $2, $3%[3]s)
		ON CONFLICT (id) DO UPDATE SET %[4]s WHERE %[1]s.last_event_at <= excluded.last_event_at`, table, columns, places, set),
		append([]any{id, at, object}, values...)...)
	return err
}
