// Package checkout gives a user of the host's what was bought in Stripe Checkout.
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

// Tables are the host's own.
const Tables = `
CREATE TABLE users (id text PRIMARY KEY, stripe_customer_id text UNIQUE, entitled boolean NOT NULL DEFAULT false);`

// Register maps Stripe's customers to users, and keeps each user's entitlement that of their subscriptions. The
// events come in any order, and at the same instant: whichever of the two is first, the second finds what it needs.
func Register(h *webhooks.Handlers) {
	// The session was created with client_reference_id = the user's id.
	webhooks.On(h, "checkout.session.completed", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, session *stripe.CheckoutSession) error {
		if session.ClientReferenceID == "" || session.Customer == nil {
			return nil // not one of ours
		}
		// First, as below, so that two transactions do not wait for each other.
		if err := webhooks.LockObject(ctx, tx, session.Customer.ID); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE users SET stripe_customer_id = $2 WHERE id = $1`, session.ClientReferenceID, session.Customer.ID)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("there is no user %s: Stripe tries again, so that one who is just being created is found", session.ClientReferenceID)
		}
		return entitle(ctx, tx, session.Customer.ID)
	})
	subscriptions.Register(h, &subscriptions.Config{
		OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
			return entitle(ctx, tx, c.After.CustomerID)
		},
	})
}

// entitle gives a user what all of the customer's subscriptions come to: an old one that ends takes nothing away from
// who has another. It changes nothing for a customer that no user is known for yet.
func entitle(ctx context.Context, tx pgx.Tx, customerID string) error {
	// Two transactions that are open at once do not see each other's rows: one waits for the other.
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
