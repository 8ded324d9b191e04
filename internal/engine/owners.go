package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"github.com/pook/stripeonce/internal/stripeapi"
)

// unlisted compares objects of which Stripe has no list: first the rows, one by one, and then what Stripe has of each customer. An
// import does only that, unless Stripe does not list them by customer either. A position is of the customers.
func (w *walk[T]) unlisted(ctx context.Context) error {
	byOwner := w.rules.Collect != nil || w.rules.OfCustomer != nil
	if !byOwner || !w.config.Import && w.from.ID == "" {
		if err := w.others(ctx, nil, true); err != nil {
			return err
		}
		if err := w.undated(ctx); err != nil {
			return err
		}
	}
	if !byOwner {
		return nil
	}
	return w.owners(ctx)
}

// owners goes through the customers at Stripe. Nobody without a subscription has anything that is collected by customer
// (Rules.Collect), so that the list of subscriptions has all customers that matter for it.
func (w *walk[T]) owners(ctx context.Context) error {
	path := "/v1/customers"
	if w.rules.Collect != nil {
		path = "/v1/subscriptions"
	}
	first := w.request(path, url.Values{"limit": {strconv.Itoa(stripeapi.PageSize)}})
	next := &first
	if w.from.ID != "" {
		next = first.After(w.from.ID)
	}
	if err := w.ownersFrom(ctx, &first, next); err != nil {
		return err
	}
	return w.eachTestClock(ctx, func(id string) error {
		ofClock := *first.With("test_clock", id)
		return w.ownersFrom(ctx, &ofClock, &ofClock)
	})
}

// ownersFrom goes through a list of customers or subscriptions from a page on. First is the request for its beginning.
func (w *walk[T]) ownersFrom(ctx context.Context, first, next *stripeapi.Request) error {
	for next != nil {
		page, err := w.api.Page(ctx, *next)
		if stripeapi.IsRefused(err) && w.from.ID != "" && next.Values.Get("starting_after") == w.from.ID {
			page, err = w.api.Page(ctx, *first) // Stripe does not have the one any more after which the list is to go on
		}
		if err != nil {
			return err
		}
		keys, last := w.ownersOf(page)
		if keys, err = w.ownersWithoutErased(ctx, keys); err != nil {
			return err
		}
		if err := w.checkOwners(ctx, keys); err != nil {
			return err
		}
		if last != "" && !w.left[last] && !w.broken {
			w.sum.Position = Position{Account: w.account, ID: last}
		}
		if err := w.progress(ctx); err != nil {
			return err
		}
		next = page.Next
	}
	return nil
}

// ownersOf returns the keys of the customers on a page of customers or of subscriptions, each once, and the id of the last object.
func (w *walk[T]) ownersOf(page *stripeapi.Page) (keys []Key, last string) {
	for _, text := range page.Data {
		var object struct {
			ID       string `json:"id"`
			Customer string `json:"customer"`
			Livemode bool   `json:"livemode"`
		}
		if json.Unmarshal(text, &object) != nil {
			continue
		}
		last = object.ID
		owner := object.ID
		if w.rules.Collect != nil {
			owner = object.Customer
		}
		if key := (Key{Account: w.account, Livemode: object.Livemode, ID: owner}); owner != "" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys, last
}

// checkOwners compares what Stripe has of each customer. A comparison has checked the rows already.
func (w *walk[T]) checkOwners(ctx context.Context, owners []Key) error {
	if w.rules.Collect == nil {
		for _, owner := range owners {
			if _, err := w.listOfCustomer(ctx, owner.ID, !w.config.Import); err != nil {
				return err
			}
		}
		return nil
	}
	rows, err := w.store.Rows(ctx, w.pool, owners)
	if err != nil {
		return fmt.Errorf("list %ss: %w", w.rules.noun(), err)
	}
	for _, owner := range owners {
		known := slices.ContainsFunc(rows, func(row *Row[T]) bool { return w.store.Key(row.Account, row.Livemode, row.ID) == owner })
		if known && !w.config.Import {
			continue
		}
		if err := w.single(ctx, owner); err != nil {
			return err
		}
	}
	return nil
}
