package subscriptions

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/webhooks"
)

// errMoved says that a row was written since it was read.
var errMoved = errors.New("the subscription was written meanwhile")

// importOne stores Stripe's answer of a subscription, unless its row is no longer the one that the answer
// was compared with. Unlike an answer in the course of a delivery, it may also bring back what has ended:
// it was read twice.
func (p *Projection) importOne(ctx context.Context, tx pgx.Tx, r *reading, hooks bool) error {
	stored, err := p.lockAndLoad(ctx, tx, r.id)
	if err != nil {
		return err
	}
	if revisionOf(stored) != revisionOf(r.local) {
		return errMoved
	}
	asOf := r.asOf
	next := &version{sub: r.stripe, asOf: &asOf, apiVersion: r.apiVersion}
	statements, err := p.store(stored, next)
	if err != nil {
		return err
	}
	for _, statement := range statements {
		if err := statement(ctx, tx); err != nil {
			return err
		}
	}
	p.warnOfMoreItems(ctx, next.sub)
	if !hooks {
		return nil
	}
	return p.notify(ctx, tx, stored, next, nil)
}

// readAnswer decodes a subscription that Stripe answered with.
func readAnswer(object []byte, apiVersion, account string) (*Subscription, error) {
	return decode(&webhooks.Event{Type: "Stripe's answer", Object: object, APIVersion: apiVersion, Account: account})
}
