package subscriptions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/stripeapi"
)

const (
	// confirmations bounds how often both sides of a subscription are read again while they change.
	confirmations = 4
	keyPage       = 1000 // rows of the table at a time
)

// walk compares one account. It goes through Stripe's list, which is sorted by creation, newest first, and through the
// table in the same order. Rows within the time span of a page that are not on the page are fetched from Stripe one by
// one.
type walk struct {
	*verification
	account string
	after   string // the subscription of Stripe's list to begin after; empty: begin with the first

	upper    time.Time       // the inclusive end of the next span; zero: none
	boundary map[string]bool // the subscriptions of the previous page that were created in the second of upper

	unreadable map[string]error // subscriptions that could not be compared
}

func (w *walk) run(ctx context.Context) error {
	request, err := w.first(ctx)
	if err != nil {
		return err
	}
	for next := request; next != nil; {
		page, err := w.api.Page(ctx, *next)
		if err != nil {
			return err
		}
		readings, err := w.completed(ctx, w.readPage(page))
		if err != nil {
			return err
		}
		if err := w.check(ctx, *next, readings); err != nil {
			return err
		}
		if err := w.others(ctx, readings, page.Next == nil); err != nil {
			return err
		}
		if len(readings) > 0 && !w.broken {
			w.sum.Position = position(w.account, readings[len(readings)-1].id)
		}
		if w.config.Progress != nil {
			w.config.Progress(w.sum)
		}
		next = page.Next
	}
	if err := w.undated(ctx); err != nil {
		return err
	}
	return w.testClocks(ctx)
}

// first returns the request for the first page of Stripe's list.
func (w *walk) first(ctx context.Context) (*stripeapi.Request, error) {
	request := w.list(w.account)
	if w.after == "" {
		return &request, nil
	}
	last, err := w.get(ctx, w.after, w.account)
	if err != nil {
		return nil, err
	}
	if last.stripe == nil || last.stripe.Created == nil {
		return nil, errors.New("cannot resume after " + w.after + ": Stripe does not have this subscription; start without a position")
	}
	w.upper = *last.stripe.Created
	return request.After(w.after), nil
}

// completed reads subscriptions alone that have more items than the page has of them.
func (w *walk) completed(ctx context.Context, readings []*reading) ([]*reading, error) {
	for i, r := range readings {
		if r.stripe.ItemsComplete {
			continue
		}
		whole, err := w.get(ctx, r.id, w.account)
		switch {
		case errors.Is(err, errUnreadable):
			w.unreadable[r.id] = err
		case err != nil:
			return nil, err
		case whole.stripe != nil:
			readings[i] = whole
		}
	}
	return slices.DeleteFunc(readings, func(r *reading) bool { return w.unreadable[r.id] != nil }), nil
}

// testClocks checks the subscriptions of test clocks that have no row. Stripe's list leaves these subscriptions out. Those that
// have a row have been checked one by one. https://docs.stripe.com/api/subscriptions/list#list_subscriptions-test_clock
func (w *walk) testClocks(ctx context.Context) error {
	if w.livemode != nil && *w.livemode {
		return nil
	}
	clocks := w.request(w.account, "/v1/test_helpers/test_clocks", url.Values{"limit": {strconv.Itoa(stripeapi.PageSize)}})
	for next := &clocks; next != nil; {
		page, err := w.api.Page(ctx, *next)
		switch {
		case stripeapi.IsRefused(err):
			if w.livemode != nil { // a live key may not read them
				w.config.Logger.WarnContext(ctx, "subscriptions of test clocks that have no row are not compared: the API key may not list test clocks",
					"account", w.account, "error", stripeapi.Explain(err))
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
			if err := w.testClock(ctx, clock.ID); err != nil {
				return err
			}
		}
		next = page.Next
	}
	return nil
}

func (w *walk) testClock(ctx context.Context, id string) error {
	request := w.list(w.account)
	request.Values.Set("test_clock", id)
	for next := &request; next != nil; {
		page, err := w.api.Page(ctx, *next)
		if err != nil {
			return err
		}
		readings := w.readPage(page)
		if err := w.locals(ctx, readings); err != nil {
			return err
		}
		readings, err = w.completed(ctx, slices.DeleteFunc(readings, func(r *reading) bool { return r.local != nil }))
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

func position(account, id string) string {
	if account == "" {
		return id
	}
	return account + "/" + id
}

// readPage decodes a page. A subscription that cannot be decoded is left out and reported as an error at the end.
func (w *walk) readPage(page *stripeapi.Page) []*reading {
	var readings []*reading
	for _, object := range page.Data {
		r := &reading{}
		if err := r.read(object, page.Date, page.Version, w.account); err != nil {
			var named struct {
				ID string `json:"id"`
			}
			_ = json.Unmarshal(object, &named)
			w.unreadable[named.ID] = fmt.Errorf("%s: %w", named.ID, err)
			continue
		}
		readings = append(readings, r)
	}
	return readings
}

// check compares Stripe's subscriptions with the table. Those that differ are read again on both sides, with the request
// for their page if there is one.
func (w *walk) check(ctx context.Context, from stripeapi.Request, readings []*reading) error {
	if len(readings) == 0 {
		return nil
	}
	if err := w.locals(ctx, readings); err != nil {
		return err
	}
	w.sum.Checked += len(readings)
	suspects := slices.DeleteFunc(slices.Clone(readings), func(r *reading) bool { return len(r.differences()) == 0 })
	for round := 1; len(suspects) > 0; round++ {
		again, err := w.reread(ctx, from, suspects)
		if err != nil {
			return err
		}
		var changed []*reading
		for i, r := range again {
			switch {
			case len(r.differences()) == 0:
			case round < confirmations && !r.same(suspects[i]):
				changed = append(changed, r)
			default:
				if err := w.drifted(ctx, r); err != nil {
					return err
				}
			}
		}
		suspects = changed
	}
	return nil
}

// reread reads subscriptions again, first from Stripe, then from the table.
func (w *walk) reread(ctx context.Context, from stripeapi.Request, suspects []*reading) ([]*reading, error) {
	fresh := map[string]*reading{}
	if from.Path != "" && len(suspects) > 1 {
		page, err := w.api.Page(ctx, from)
		if err != nil {
			return nil, err
		}
		for _, r := range w.readPage(page) {
			if r.stripe.ItemsComplete {
				fresh[r.id] = r
			}
		}
	}
	again := make([]*reading, len(suspects))
	for i, old := range suspects {
		if again[i] = fresh[old.id]; again[i] != nil {
			continue
		}
		var err error
		if again[i], err = w.get(ctx, old.id, w.account); err != nil {
			return nil, err
		}
	}
	return again, w.locals(ctx, again)
}

// drifted reports a subscription that differs, and stores Stripe's object if Fix is set.
func (w *walk) drifted(ctx context.Context, r *reading) error {
	w.sum.Drifted++
	if w.config.Each != nil {
		for _, difference := range r.differences() {
			w.config.Each(difference)
		}
	}
	if r.stripe == nil {
		w.sum.Unknown++
	}
	if w.config.Gone && r.stripe == nil && time.Since(orZero(r.local.Created)) > goneGrace {
		w.gone = append(w.gone, r)
	}
	if w.config.Fix == nil || r.stripe == nil || !r.fixable() {
		return nil
	}
	complete, err := w.fix(ctx, r)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		w.config.Logger.ErrorContext(ctx, "could not store a subscription", "subscription", r.id, "error", err)
		return nil
	}
	if complete {
		w.sum.Fixed++
	}
	return nil
}

// fixable reports whether storing Stripe's object would change the row. It would not if the only difference is that
// neither side has all items.
func (r *reading) fixable() bool {
	return slices.ContainsFunc(r.differences(), func(d Difference) bool {
		return d.Field != itemsComplete || r.local.ItemsComplete || r.stripe.ItemsComplete
	})
}

// others checks the rows within the time span of a page that are not on the page. After the last page, the span reaches
// back to the beginning.
func (w *walk) others(ctx context.Context, readings []*reading, last bool) error {
	var lower time.Time
	if !last && len(readings) > 0 {
		lower = orZero(readings[len(readings)-1].stripe.Created)
	}
	onPage, upper := w.boundary, w.upper
	w.boundary, w.upper = map[string]bool{}, lower
	if lower.Equal(upper) { // a whole page of one second
		maps.Copy(w.boundary, onPage)
	}
	for _, r := range readings {
		onPage[r.id] = true
		if orZero(r.stripe.Created).Equal(lower) {
			w.boundary[r.id] = true
		}
	}
	params := db.SubscriptionKeyListParams{AccountID: w.account, CreatedAfter: &lower, Livemode: w.livemode, MaxRows: keyPage}
	if !upper.IsZero() {
		end := upper.Add(time.Second)
		params.Before = &end
	}
	return w.singles(ctx, params, onPage)
}

// singles checks, one by one, the rows of a span that are not on its page.
func (w *walk) singles(ctx context.Context, params db.SubscriptionKeyListParams, onPage map[string]bool) error {
	for {
		keys, err := w.queries.SubscriptionKeyList(ctx, w.pool, params)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if !onPage[key.ID] {
				if err := w.single(ctx, key.ID); err != nil {
					return err
				}
			}
			params.Before, params.BeforeID = key.StripeCreatedAt, key.ID
		}
		if len(keys) < keyPage {
			return nil
		}
	}
}

// undated checks the rows without a creation time.
func (w *walk) undated(ctx context.Context) error {
	params := db.SubscriptionKeyListUndatedParams{AccountID: w.account, Livemode: w.livemode, MaxRows: keyPage}
	for {
		ids, err := w.queries.SubscriptionKeyListUndated(ctx, w.pool, params)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := w.single(ctx, id); err != nil {
				return err
			}
			params.AfterID = id
		}
		if len(ids) < keyPage {
			return nil
		}
	}
}

// single checks one subscription that is on no page.
func (w *walk) single(ctx context.Context, id string) error {
	if _, known := w.unreadable[id]; known {
		return nil
	}
	r, err := w.get(ctx, id, w.account)
	if errors.Is(err, errUnreadable) {
		w.unreadable[id] = err
		return nil
	}
	if err != nil {
		return err
	}
	return w.check(ctx, stripeapi.Request{}, []*reading{r})
}

// fix stores Stripe's object. If the row was written meanwhile, both sides are read again. complete reports whether the
// row then has all items.
func (w *walk) fix(ctx context.Context, r *reading) (complete bool, err error) {
	for attempt := 1; ; attempt++ {
		err := w.config.Fix.InTx(ctx, "import", func(ctx context.Context, tx pgx.Tx) error {
			return w.config.Projection.importOne(ctx, tx, r, !w.config.NoHooks)
		})
		if !errors.Is(err, errMoved) || attempt == confirmations {
			return r.stripe.ItemsComplete, err
		}
		if r, err = w.get(ctx, r.id, w.account); err != nil {
			return false, err
		}
		if r.stripe == nil {
			return false, errors.New("Stripe no longer has the subscription") //nolint:staticcheck // a name
		}
		if err := w.locals(ctx, []*reading{r}); err != nil || !r.fixable() {
			return r.stripe.ItemsComplete, err
		}
	}
}

// inOrder returns the sorted union of accounts.
func inOrder(first string, lists ...[]string) []string {
	all := append([]string{first}, slices.Concat(lists...)...)
	slices.Sort(all)
	return slices.Compact(all)
}
