package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
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
	var ids []string
	clocks := w.request("/v1/test_helpers/test_clocks", url.Values{"limit": {strconv.Itoa(stripeapi.PageSize)}})
	err := w.eachPage(ctx, clocks, func(_ stripeapi.Request, page *stripeapi.Page) error {
		for _, raw := range page.Data {
			var clock struct {
				ID string `json:"id"`
			}
			if err := json.Unmarshal(raw, &clock); err != nil {
				return fmt.Errorf("a test clock: %w", err)
			}
			ids = append(ids, clock.ID)
		}
		return nil
	})
	if stripeapi.IsRefused(err) {
		if w.livemode != nil { // a live key may not read them
			w.config.Logger.WarnContext(ctx, "could not list test clocks: their objects without a row are not compared",
				"object_type", w.rules.Object, "account_id", w.account, "error", stripeapi.Explain(err))
		}
		return nil
	}
	for _, id := range ids {
		if err == nil {
			err = visit(id)
		}
	}
	return err
}

func (w *walk[T]) testClock(ctx context.Context, id string) error {
	request := w.list(w.source)
	request.Values.Set("test_clock", id)
	_, err := w.checkList(ctx, request, true)
	return err
}
