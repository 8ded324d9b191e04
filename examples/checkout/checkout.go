// Package checkout entitles a host's user to a subscription that was bought in Stripe Checkout.
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

// Tables creates the host's own tables.
const Tables = `
CREATE TABLE users (id text PRIMARY KEY, stripe_customer_id text UNIQUE, entitled boolean NOT NULL DEFAULT false);`

// Register maps Stripe's customers to users, and sets each user's entitlement according to their subscriptions. The two
// events may arrive in any order, or at the same instant: the second one finds the data of the first.
func Register(h *webhooks.Handlers) {
	// The session was created with client_reference_id = the user's id.
	webhooks.On(h, "checkout.session.completed", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, session *stripe.CheckoutSession) error {
		if session.ClientReferenceID == "" || session.Customer == nil {
			return nil // not one of our sessions
		}
		// Locks are taken in the same order as below, so that two transactions do not deadlock.
		if err := webhooks.LockObject(ctx, tx, session.Customer.ID); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE users SET stripe_customer_id = $2 WHERE id = $1`, session.ClientReferenceID, session.Customer.ID)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("there is no user %s yet: Stripe retries", session.ClientReferenceID)
		}
		return entitle(ctx, tx, session.Customer.ID)
	})
	subscriptions.Register(h, &subscriptions.Config{
		OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
			return entitle(ctx, tx, c.After.CustomerID)
		},
	})
}

// entitle sets a user's entitlement from all of the customer's subscriptions: if an old one ends, another one still
// entitles the user. It changes nothing for a customer without a known user.
func entitle(ctx context.Context, tx pgx.Tx, customerID string) error {
	// Concurrent transactions do not see each other's rows, so one waits for the other.
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
