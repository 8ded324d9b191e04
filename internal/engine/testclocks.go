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

// testClocks checks the objects of test clocks that have no row, where Stripe's list leaves them out. Those that have a row have
// been checked one by one. https://docs.stripe.com/api/subscriptions/list#list_subscriptions-test_clock
func (w *walk[T]) testClocks(ctx context.Context) error {
	if !w.rules.TestClocks {
		return nil
	}
	return w.eachTestClock(ctx, func(id string) error { return w.testClock(ctx, id) })
}

// eachTestClock calls visit with the id of each test clock, if the key may be of a sandbox.
func (w *walk[T]) eachTestClock(ctx context.Context, visit func(id string) error) error {
	if w.livemode != nil && *w.livemode {
		return nil
	}
	clocks := w.request("/v1/test_helpers/test_clocks", url.Values{"limit": {strconv.Itoa(stripeapi.PageSize)}})
	for next := &clocks; next != nil; {
		page, err := w.api.Page(ctx, *next)
		switch {
		case stripeapi.IsRefused(err):
			if w.livemode != nil { // a live key may not read them
				w.config.Logger.WarnContext(ctx, "objects of test clocks that have no row are not compared: the API key may not list test clocks",
					"object", w.rules.Object, "account", w.account, "error", stripeapi.Explain(err))
			}
			return nil
		case err != nil:
			return err
		}
		for _, raw := range page.Data {
			var clock struct {
				ID string `json:"id"`
			}
			if err := json.Unmarshal(raw, &clock); err != nil {
				return fmt.Errorf("a test clock: %w", err)
			}
			if err := visit(clock.ID); err != nil {
				return err
			}
		}
		next = page.Next
	}
	return nil
}

func (w *walk[T]) testClock(ctx context.Context, id string) error {
	request := w.list(w.source)
	request.Values.Set("test_clock", id)
	for next := &request; next != nil; {
		page, err := w.api.Page(ctx, *next)
		if err != nil {
			return err
		}
		readings := slices.DeleteFunc(w.readPage(page), w.tooOld)
		if err := w.locals(ctx, readings); err != nil {
			return err
		}
		readings, err = w.completed(ctx, page, slices.DeleteFunc(readings, func(r *reading[T]) bool { return r.local != nil }))
		if err != nil {
			return err
		}
		if err := w.check(ctx, *next, readings); err != nil {
			return err
		}
		next = page.Next
	}
	return nil
}
