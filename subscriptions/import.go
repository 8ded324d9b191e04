package subscriptions

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/webhooks"
)

// errMoved reports that a row was written after it was read.
var errMoved = errors.New("the subscription was written meanwhile")

// importOne stores Stripe's response. It returns errMoved if the row is no longer the one that the response was compared
// with. Unlike a response during a delivery, it may bring an ended subscription back: it was confirmed by a second read.
func (p *Projection) importOne(ctx context.Context, tx pgx.Tx, r *reading, hooks bool) error {
	stored, err := p.lockAndLoad(ctx, tx, r.id)
	if err != nil {
		return err
	}
	if revisionOf(stored) != revisionOf(r.local) {
		return errMoved
	}
	if stored != nil && stored.AccountID != "" && stored.AccountID != r.stripe.AccountID {
		return fmt.Errorf("subscription %s is of account %q here, and of account %q at Stripe", r.id, stored.AccountID, r.stripe.AccountID)
	}
	asOf := r.asOf
	return p.importVersion(ctx, tx, stored, &version{sub: r.stripe, asOf: &asOf, apiVersion: r.apiVersion}, hooks)
}

// importVersion stores a version that no event brings.
func (p *Projection) importVersion(ctx context.Context, tx pgx.Tx, stored *storedRow, next *version, hooks bool) error {
	at, err := p.clock(ctx, tx)
	if err != nil {
		return err
	}
	queries, err := p.store(stored, next, at)
	if err != nil {
		return err
	}
	for _, query := range queries {
		if err := query(ctx, tx); err != nil {
			return err
		}
	}
	p.warnOfMoreItems(ctx, next.sub)
	if !hooks {
		return nil
	}
	return p.notify(ctx, tx, stored, next, nil)
}

// readResponse decodes a subscription from Stripe's response.
func readResponse(object []byte, apiVersion, account string) (*Subscription, error) {
	return decode(&webhooks.Event{Type: "Stripe's response", Object: object, APIVersion: apiVersion, Account: account})
}
