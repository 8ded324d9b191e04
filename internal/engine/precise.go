package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/pook/stripeonce/internal/stripeapi"
)

// chosen reports whether an account is compared even without a row of the object or customer in question.
func (w *walk[T]) chosen() bool {
	return w.account == w.config.AccountID || w.config.Account != nil || slices.Contains(w.config.Accounts, w.account)
}

// precise compares one object, or a customer's.
func (w *walk[T]) precise(ctx context.Context) (err error) {
	if w.config.Only != "" {
		err = w.only(ctx, w.config.Only)
	} else {
		err = w.customer(ctx, w.config.Customer)
	}
	if err != nil {
		return err
	}
	return w.progress(ctx)
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

// listOfCustomer compares the objects of a customer that Stripe lists, or only those that have no row, and returns the ids of all.
func (w *walk[T]) listOfCustomer(ctx context.Context, id string, onlyNew bool) (listed map[string]bool, err error) {
	if w.rules.OfCustomer == nil {
		return nil, nil
	}
	request := w.list(w.source)
	for name, values := range w.rules.OfCustomer {
		request.Values.Set(name, cmp.Or(values[0], id))
	}
	if listed, err = w.checkList(ctx, request, onlyNew); stripeapi.IsMissing(err) { // the customer is not of this account
		err = nil
	}
	return listed, err
}

// checkFound returns an error if Only names an object that neither side has.
func (v *verification[T]) checkFound() error {
	if v.config.Only == "" || v.sum.Checked > 0 || v.broken {
		return nil
	}
	if v.left[v.config.Only] {
		return fmt.Errorf("%s %s is not compared: the data of its customer was erased", v.rules.noun(), v.config.Only)
	}
	return fmt.Errorf("%w: neither the table nor Stripe has the %s %s", v.rules.NotFound, v.rules.noun(), v.config.Only)
}
