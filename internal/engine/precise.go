package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pook/stripeonce/internal/stripeapi"
)

// ErrNotFound is wrapped by Verify's error if neither side has the object of Only.
var ErrNotFound = errors.New("no such object")

// chosen reports whether an account is compared even without a row of the object or customer in question.
func (w *walk[T]) chosen() bool {
	return w.account == w.config.AccountID || slices.Contains(w.config.Accounts, w.account)
}

// only compares one object: in the account of its row, or without a row in those that were named.
func (w *walk[T]) only(ctx context.Context, id string) error {
	r := &reading[T]{key: w.store.Key(w.account, OrZero(w.livemode), id)}
	if err := w.locals(ctx, []*reading[T]{r}); err != nil {
		return err
	}
	elsewhere := r.local != nil && r.local.Account != w.account && (r.local.Account != "" || w.account != w.config.AccountID)
	if elsewhere || r.local == nil && !w.chosen() {
		return nil
	}
	return w.single(ctx, r.key)
}

// customer compares the objects of one customer: those that Stripe lists, and then the rows that it does not list. What it holds in
// memory is the ids of that customer's objects.
func (w *walk[T]) customer(ctx context.Context, id string) error {
	keys, err := w.store.CustomerKeys(ctx, w.pool, w.account, w.livemode, id, "")
	if err != nil || len(keys) == 0 && !w.chosen() {
		return err
	}
	listed, err := w.listOfCustomer(ctx, id, false)
	if err != nil {
		return err
	}
	for len(keys) > 0 {
		for _, key := range keys {
			if listed[key.ID] {
				continue
			}
			if err := w.single(ctx, key); err != nil {
				return err
			}
		}
		if keys, err = w.store.CustomerKeys(ctx, w.pool, w.account, w.livemode, id, keys[len(keys)-1].ID); err != nil {
			return err
		}
	}
	return nil
}

// listOfCustomer compares the objects of a customer that Stripe lists, or those that have no row, and returns their ids.
func (w *walk[T]) listOfCustomer(ctx context.Context, id string, withoutRow bool) (listed map[string]bool, err error) {
	listed = map[string]bool{}
	if w.rules.OfCustomer == nil {
		return listed, nil
	}
	request := w.list(w.source)
	for name, values := range w.rules.OfCustomer {
		request.Values.Set(name, cmp.Or(values[0], id))
	}
	for next := &request; next != nil; {
		page, err := w.api.Page(ctx, *next)
		if stripeapi.IsMissing(err) { // customer in this account
			return listed, nil
		}
		if err != nil {
			return nil, err
		}
		readings := slices.DeleteFunc(w.readPage(page), w.tooOld)
		if withoutRow {
			if err := w.locals(ctx, readings); err != nil {
				return nil, err
			}
			readings = slices.DeleteFunc(readings, func(r *reading[T]) bool { return r.local != nil })
		}
		if readings, err = w.completed(ctx, page, readings); err != nil {
			return nil, err
		}
		if err := w.check(ctx, *next, readings); err != nil {
			return nil, err
		}
		for _, r := range readings {
			listed[r.key.ID] = true
		}
		next = page.Next
	}
	return listed, nil
}

// checkFound returns an error if Only names an object that neither side has.
func (v *verification[T]) checkFound() error {
	if v.config.Only == "" || v.sum.Checked > 0 || v.broken {
		return nil
	}
	return fmt.Errorf("%w: neither the table nor Stripe has the %s %s", ErrNotFound, v.rules.noun(), v.config.Only)
}
