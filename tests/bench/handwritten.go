package main

import (
	"context"
	"encoding/json"
	"errors"
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

// The upserts of the handwritten receiver, which leave a newer row alone.
const (
	handCustomer = `INSERT INTO hand_customers (id, email, name, deleted, last_event_at, object) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name, deleted = excluded.deleted,
			last_event_at = excluded.last_event_at, object = excluded.object
		WHERE hand_customers.last_event_at <= excluded.last_event_at`
	handProduct = `INSERT INTO hand_products (id, name, active, last_event_at, object) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, active = excluded.active, last_event_at = excluded.last_event_at, object = excluded.object
		WHERE hand_products.last_event_at <= excluded.last_event_at`
	handPrice = `INSERT INTO hand_prices (id, product_id, unit_amount, active, last_event_at, object) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (id) DO UPDATE SET product_id = excluded.product_id, unit_amount = excluded.unit_amount, active = excluded.active,
			last_event_at = excluded.last_event_at, object = excluded.object
		WHERE hand_prices.last_event_at <= excluded.last_event_at`
	handInvoice = `INSERT INTO hand_invoices (id, customer_id, status, total, last_event_at, object) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (id) DO UPDATE SET customer_id = excluded.customer_id, status = excluded.status, total = excluded.total,
			last_event_at = excluded.last_event_at, object = excluded.object
		WHERE hand_invoices.last_event_at <= excluded.last_event_at`
)

// storeAnyByHand stores the event's object in the table of its type unless the row is newer.
func storeAnyByHand(ctx context.Context, tx pgx.Tx, ev *stripe.Event) (err error) {
	family, _, _ := strings.Cut(string(ev.Type), ".")
	at := time.Unix(ev.Created, 0)
	switch {
	case strings.HasPrefix(string(ev.Type), "customer.subscription."):
		_, _, err = storeByHand(ctx, tx, ev)
	case family == "customer":
		var c stripe.Customer
		if err = json.Unmarshal(ev.Data.Raw, &c); err == nil {
			_, err = tx.Exec(ctx, handCustomer, c.ID, c.Email, c.Name, ev.Type == "customer.deleted", at, ev.Data.Raw)
		}
	case family == "product":
		var p stripe.Product
		if err = json.Unmarshal(ev.Data.Raw, &p); err == nil {
			_, err = tx.Exec(ctx, handProduct, p.ID, p.Name, p.Active && ev.Type != "product.deleted", at, ev.Data.Raw)
		}
	case family == "price":
		var p stripe.Price
		if err = json.Unmarshal(ev.Data.Raw, &p); err == nil {
			_, err = tx.Exec(ctx, handPrice, p.ID, p.Product.ID, p.UnitAmount, p.Active, at, ev.Data.Raw)
		}
	case family == "invoice":
		var i stripe.Invoice
		if err = json.Unmarshal(ev.Data.Raw, &i); err == nil {
			_, err = tx.Exec(ctx, handInvoice, i.ID, i.Customer.ID, string(i.Status), i.Total, at, ev.Data.Raw)
		}
	}
	return err
}
