package engine

import (
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
	seen := map[string]bool{}
	keys, err := w.store.CustomerKeys(ctx, w.pool, w.account, w.livemode, id, "")
	if err != nil {
		return err
	}
	if len(keys) == 0 && !w.chosen() {
		return nil
	}
	request := w.list(w.source)
	for name, values := range w.rules.OfCustomer {
		for _, value := range values {
			if value == "" {
				value = id
			}
			request.Values.Set(name, value)
		}
	}
	for next := &request; next != nil && w.rules.OfCustomer != nil; {
		page, err := w.api.Page(ctx, *next)
		if stripeapi.IsNoSuch(err) { // customer in this account
			break
		}
		if err != nil {
			return err
		}
		readings, err := w.completed(ctx, page, w.readPage(page))
		if err != nil {
			return err
		}
		if err := w.check(ctx, *next, readings); err != nil {
			return err
		}
		for _, r := range readings {
			seen[r.key.ID] = true
		}
		next = page.Next
	}
	for {
		for _, key := range keys {
			if !seen[key.ID] {
				if err := w.single(ctx, key); err != nil {
					return err
				}
			}
		}
		if len(keys) < KeyPage {
			return nil
		}
		if keys, err = w.store.CustomerKeys(ctx, w.pool, w.account, w.livemode, id, keys[len(keys)-1].ID); err != nil {
			return err
		}
	}
}

// checkFound returns an error if Only names an object that neither side has.
func (v *verification[T]) checkFound() error {
	if v.config.Only == "" || v.sum.Checked > 0 || v.broken {
		return nil
	}
	return fmt.Errorf("%w: neither the table nor Stripe has the %s %s", ErrNotFound, v.rules.noun(), v.config.Only)
}
