package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/pook/stripeonce/internal/stripeapi"
)

// owners checks the customers that have a subscription at Stripe and no row here: where objects are collected by customer
// (Rules.Collect), no list of Stripe's has all of them, and nobody without a subscription has any.
func (w *walk[T]) owners(ctx context.Context) error {
	request := w.request("/v1/subscriptions", url.Values{"limit": {strconv.Itoa(stripeapi.PageSize)}})
	for next := &request; next != nil; {
		page, err := w.api.Page(ctx, *next)
		if err != nil {
			return err
		}
		keys := w.customersOf(page)
		rows, err := w.store.Rows(ctx, w.pool, keys)
		if err != nil {
			return fmt.Errorf("list %ss: %w", w.rules.noun(), err)
		}
		known := map[Key]bool{}
		for _, row := range rows {
			known[w.store.Key(row.Account, row.Livemode, row.ID)] = true
		}
		for _, key := range keys {
			if !known[key] {
				known[key] = true
				if err := w.single(ctx, key); err != nil {
					return err
				}
			}
		}
		if err := w.progress(ctx); err != nil {
			return err
		}
		next = page.Next
	}
	return nil
}

// customersOf returns the keys of the customers of a page of subscriptions.
func (w *walk[T]) customersOf(page *stripeapi.Page) (keys []Key) {
	for _, object := range page.Data {
		var subscription struct {
			Customer string `json:"customer"`
			Livemode bool   `json:"livemode"`
		}
		if json.Unmarshal(object, &subscription) == nil && subscription.Customer != "" {
			keys = append(keys, w.store.Key(w.account, subscription.Livemode, subscription.Customer))
		}
	}
	return keys
}
