// Package tenants receives the events of tenants who bring their own Stripe accounts: each has a route, a signing secret and
// an API key of its own, and all share stripeonce's tables.
package tenants

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
)

// Tables are the host's own tables. An application encrypts the secrets.
const Tables = `
CREATE TABLE tenants (
	slug text PRIMARY KEY, stripe_account_id text NOT NULL UNIQUE, webhook_secret text NOT NULL, api_key text NOT NULL DEFAULT '', plan text NOT NULL DEFAULT 'free'
);`

// Route is where Stripe delivers a tenant's events: https://example.com/tenants/SLUG/webhooks/stripe.
const Route = "/tenants/:slug/webhooks/stripe"

// Mount mounts the route.
func Mount(e *echo.Echo, pool *pgxpool.Pool) error {
	h := webhooks.NewHandlers()
	subscriptions.Register(h, &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
		plan := "free"
		if c.After.Status.Entitled() {
			plan = c.After.PriceID
		}
		_, err := tx.Exec(ctx, `UPDATE tenants SET plan = $2 WHERE stripe_account_id = $1`, c.After.AccountID, plan)
		return err
	}})
	receiver, err := webhooks.New(pool, h, &webhooks.Config{
		AccountFor: func(req *http.Request) (*webhooks.Account, error) { return find(req.Context(), pool, slugOf(req)) },
	})
	if err != nil {
		return err
	}
	echov4.Mount(e, Route, receiver)
	return nil
}

// slugOf returns the tenant's part of the URL. The receiver is a plain http.Handler, which knows no parameters of Echo's.
func slugOf(req *http.Request) string {
	slug, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/tenants/"), "/")
	return slug
}

// find returns a tenant's account. Nil: there is no such tenant, and the response is 404.
func find(ctx context.Context, pool *pgxpool.Pool, slug string) (*webhooks.Account, error) {
	account, secret := &webhooks.Account{}, ""
	err := pool.QueryRow(ctx, `SELECT stripe_account_id, webhook_secret, api_key FROM tenants WHERE slug = $1`, slug).Scan(&account.ID, &secret, &account.APIKey)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err // the response is 503, and Stripe retries
	}
	account.Secrets = webhooks.SplitSecrets(secret) // two, separated by a comma, while the tenant rolls the secret
	return account, nil
}
