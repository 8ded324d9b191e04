// Package checkout grants a user of the host what was bought in Stripe Checkout.
package checkout

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// Tables are the host's own tables.
const Tables = `
CREATE TABLE users (id text PRIMARY KEY, stripe_customer_id text UNIQUE, entitled boolean NOT NULL DEFAULT false);`

// Register registers handlers that map Stripe's customers to users and keep each user's entitlement equal to that of
// their subscriptions. The events arrive in any order, or at the same instant: whichever is first, the second one finds
// what it needs.
func Register(h *webhooks.Handlers) {
	// The session was created with client_reference_id = the user's id.
	webhooks.On(h, "checkout.session.completed", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, session *stripe.CheckoutSession) error {
		if session.ClientReferenceID == "" || session.Customer == nil {
			return nil // not one of ours
		}
		// Lock first, as entitle does, so that two transactions cannot wait for each other.
		if err := webhooks.LockObject(ctx, tx, session.Customer.ID); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE users SET stripe_customer_id = $2 WHERE id = $1`, session.ClientReferenceID, session.Customer.ID)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("there is no user %s: Stripe retries, which finds a user who is still being created", session.ClientReferenceID)
		}
		return entitle(ctx, tx, session.Customer.ID)
	})
	subscriptions.Register(h, &subscriptions.Config{
		OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
			return entitle(ctx, tx, c.After.CustomerID)
		},
	})
}

// entitle sets a user's entitlement from all of the customer's subscriptions: when an old subscription ends, a user with
// another one keeps the entitlement. It changes nothing if no user of this customer is known yet.
func entitle(ctx context.Context, tx pgx.Tx, customerID string) error {
	// Two transactions that are open at the same time do not see each other's rows, so one waits for the other.
	if err := webhooks.LockObject(ctx, tx, customerID); err != nil {
		return err
	}
	current, err := subscriptions.New(tx).Current(ctx, customerID)
	if err != nil && !errors.Is(err, subscriptions.ErrNotFound) {
		return err
	}
	entitled := current != nil && current.Status.Entitled()
	_, err = tx.Exec(ctx, `UPDATE users SET entitled = $2 WHERE stripe_customer_id = $1`, customerID, entitled)
	return err
}
