package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// errMoved reports that a row was written after it was read.
var errMoved = errors.New("the row was written meanwhile")

// importOne stores Stripe's response. It returns errMoved if the row is no longer the one that the response was compared with,
// and errErased for an erased customer's object. Unlike a response during a delivery, it may bring an ended object back: it was
// confirmed by a second read.
func (v *verification[T]) importOne(ctx context.Context, tx pgx.Tx, r *reading[T], hooks bool) error {
	stored, err := v.lockAndLoad(ctx, tx, r.key)
	if err != nil {
		return err
	}
	if err := v.refuseErased(ctx, tx, r); err != nil {
		return err
	}
	if err := v.mayImport(stored, r); err != nil {
		return err
	}
	return v.importVersion(ctx, tx, stored, r.version(), hooks)
}

// mayImport refuses a row that was written after it was read (errMoved), or that is of another account.
func (e *Engine[T]) mayImport(stored *Row[T], r *reading[T]) error {
	if RevisionOf(stored) != RevisionOf(r.local) {
		return errMoved
	}
	account := e.store.Head(r.stripe).Account
	if stored != nil && stored.Account != "" && stored.Account != account {
		return fmt.Errorf("%s %s belongs to account %q here, but to account %q at Stripe", e.rules.noun(), r.key.ID, stored.Account, account)
	}
	return nil
}

// version returns Stripe's object as the row's next version.
func (r *reading[T]) version() *Version[T] {
	asOf := r.asOf
	return &Version[T]{State: r.stripe, AsOf: &asOf, APIVersion: r.apiVersion}
}

// importVersion stores a version that no event brings.
func (e *Engine[T]) importVersion(ctx context.Context, tx pgx.Tx, stored *Row[T], next *Version[T], hooks bool) error {
	at, err := e.store.Clock(ctx, tx)
	if err != nil {
		return err
	}
	queries, err := e.store.Write(stored, next, at)
	if err != nil {
		return err
	}
	for _, query := range queries {
		if err := query(ctx, tx); err != nil {
			return err
		}
	}
	e.warnOfMore(ctx, next.State)
	if !hooks {
		return nil
	}
	return e.notify(ctx, tx, stored, next, nil)
}
