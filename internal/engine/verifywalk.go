package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/stripeapi"
)

// confirmations bounds how often both sides of an object are read again while they change.
const confirmations = 4

// walk compares one account. It goes through Stripe's list, which is sorted by creation, newest first, and through the
// table in the same order. Rows within the time span of a page that are not on the page are fetched from Stripe one by
// one.
type walk[T any] struct {
	*verification[T]
	source
	after string // the object of Stripe's list to begin after; empty: begin with the first

	upper    time.Time       // the inclusive end of the next span; zero: none
	boundary map[string]bool // the objects of the previous page that were created in the second of upper

	unreadable map[string]error // objects that could not be compared
}

func (w *walk[T]) run(ctx context.Context, account string) (err error) {
	if w.source, err = w.sourceOf(ctx, account); err != nil {
		return err
	}
	if w.rules.Unlisted {
		if err := w.others(ctx, nil, true); err != nil {
			return err
		}
		if err := w.undated(ctx); err != nil || w.rules.Collect == nil {
			return err
		}
		return w.owners(ctx)
	}
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
			w.sum.Position = position(w.account, readings[len(readings)-1].key.ID)
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
func (w *walk[T]) first(ctx context.Context) (*stripeapi.Request, error) {
	request := w.list(w.source)
	if w.after == "" {
		return &request, nil
	}
	last, err := w.get(ctx, Key{ID: w.after}, w.source)
	if err != nil {
		return nil, err
	}
	if last.head.Created == nil {
		return nil, fmt.Errorf("cannot resume after %s: Stripe does not have this %s; start without a position", w.after, w.rules.noun())
	}
	w.upper = *last.head.Created
	return request.After(w.after), nil
}

// completed reads objects alone that have longer lists than the page holds.
func (w *walk[T]) completed(ctx context.Context, readings []*reading[T]) ([]*reading[T], error) {
	for i, r := range readings {
		if r.head.Complete {
			continue
		}
		whole, err := w.get(ctx, r.key, w.sourceOfRow(r))
		switch {
		case errors.As(err, new(*UnreadableError)):
			w.unreadable[r.key.ID] = err
		case err != nil:
			return nil, err
		case whole.stripe != nil:
			readings[i] = whole
		}
	}
	return slices.DeleteFunc(readings, func(r *reading[T]) bool { return w.unreadable[r.key.ID] != nil }), nil
}

func position(account, id string) string {
	if account == "" {
		return id
	}
	return account + "/" + id
}

// readPage decodes a page. An object that cannot be decoded is left out and reported as an error at the end.
func (w *walk[T]) readPage(page *stripeapi.Page) []*reading[T] {
	var readings []*reading[T]
	for _, object := range page.Data {
		r := &reading[T]{}
		if err := w.read(r, object, page.Date, page.Version, w.account); err != nil {
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

// check compares Stripe's objects with the table. Those that differ are read again on both sides, with the request
// for their page if there is one.
func (w *walk[T]) check(ctx context.Context, from stripeapi.Request, readings []*reading[T]) error {
	if len(readings) == 0 {
		return nil
	}
	if err := w.locals(ctx, readings); err != nil {
		return err
	}
	w.sum.Checked += len(readings)
	suspects := slices.DeleteFunc(slices.Clone(readings), func(r *reading[T]) bool { return len(w.differences(r)) == 0 })
	for round := 1; len(suspects) > 0; round++ {
		again, err := w.reread(ctx, from, suspects)
		if err != nil {
			return err
		}
		var changed []*reading[T]
		for i, r := range again {
			switch {
			case len(w.differences(r)) == 0:
			case round < confirmations && !w.same(r, suspects[i]):
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

// sourceOfRow returns the source of an object that is compared with its row.
func (w *walk[T]) sourceOfRow(r *reading[T]) source {
	if r.local == nil {
		return w.source
	}
	return w.of(r.local.APIVersion, w.rules.ByVersion)
}

// reread reads objects again, first from Stripe, then from the table.
func (w *walk[T]) reread(ctx context.Context, from stripeapi.Request, suspects []*reading[T]) ([]*reading[T], error) {
	fresh := map[Key]*reading[T]{}
	if from.Path != "" && len(suspects) > 1 && !w.rules.ByVersion {
		page, err := w.api.Page(ctx, from)
		if err != nil {
			return nil, err
		}
		for _, r := range w.readPage(page) {
			if r.head.Complete {
				fresh[r.key] = r
			}
		}
	}
	again := make([]*reading[T], len(suspects))
	for i, old := range suspects {
		if again[i] = fresh[old.key]; again[i] != nil {
			continue
		}
		var err error
		if again[i], err = w.get(ctx, old.key, w.sourceOfRow(old)); err != nil {
			return nil, err
		}
	}
	return again, w.locals(ctx, again)
}

// drifted reports an object that differs, and stores Stripe's object if Fix is set.
func (w *walk[T]) drifted(ctx context.Context, r *reading[T]) error {
	w.sum.Drifted++
	if w.config.Each != nil {
		for _, difference := range w.differences(r) {
			w.config.Each(difference)
		}
	}
	if r.stripe == nil {
		w.sum.Unknown++
	}
	if w.config.Gone && r.stripe == nil && time.Since(OrZero(r.local.Created)) > goneGrace {
		w.gone = append(w.gone, r)
	}
	if w.config.Fix == nil || r.stripe == nil || !w.fixable(r) {
		return nil
	}
	complete, err := w.fix(ctx, r)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		w.config.Logger.ErrorContext(ctx, "could not store an object", w.rules.Object, r.key.ID, "error", err)
		return nil
	}
	if complete {
		w.sum.Fixed++
	}
	return nil
}

// fixable reports whether storing Stripe's object would change the row. It would not if the only difference is that neither
// side has its whole lists.
func (w *walk[T]) fixable(r *reading[T]) bool {
	return slices.ContainsFunc(w.differences(r), func(d Difference) bool {
		return !d.Incomplete || r.local.Complete || r.head.Complete
	})
}

// others checks the rows within the time span of a page that are not on the page. After the last page, the span reaches
// back to the beginning.
func (w *walk[T]) others(ctx context.Context, readings []*reading[T], last bool) error {
	var lower time.Time
	if !last && len(readings) > 0 {
		lower = OrZero(readings[len(readings)-1].head.Created)
	}
	onPage, upper := w.boundary, w.upper
	w.boundary, w.upper = map[string]bool{}, lower
	if lower.Equal(upper) { // a whole page of one second
		maps.Copy(w.boundary, onPage)
	}
	for _, r := range readings {
		onPage[r.key.ID] = true
		if OrZero(r.head.Created).Equal(lower) {
			w.boundary[r.key.ID] = true
		}
	}
	span := Span{Account: w.account, Livemode: w.livemode, After: lower}
	if !upper.IsZero() {
		end := upper.Add(time.Second)
		span.Before = &end
	}
	return w.singles(ctx, span, onPage)
}

// singles checks, one by one, the rows of a span that are not on its page.
func (w *walk[T]) singles(ctx context.Context, span Span, onPage map[string]bool) error {
	for {
		keys, err := w.store.Keys(ctx, w.pool, span)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if !onPage[key.ID] {
				if err := w.single(ctx, key.Key); err != nil {
					return err
				}
			}
			span.Before, span.BeforeID = key.Created, key.ID
		}
		if len(keys) < KeyPage {
			return nil
		}
	}
}

// undated checks the rows without a creation time.
func (w *walk[T]) undated(ctx context.Context) error {
	for after := ""; ; {
		keys, err := w.store.UndatedKeys(ctx, w.pool, w.account, w.livemode, after)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := w.single(ctx, key); err != nil {
				return err
			}
			after = key.ID
		}
		if len(keys) < KeyPage {
			return nil
		}
	}
}

// single checks one object that is on no page.
func (w *walk[T]) single(ctx context.Context, key Key) error {
	if _, known := w.unreadable[key.ID]; known {
		return nil
	}
	r, err := w.get(ctx, key, w.source)
	if errors.As(err, new(*UnreadableError)) {
		w.unreadable[key.ID] = err
		return nil
	}
	if err != nil {
		return err
	}
	return w.check(ctx, stripeapi.Request{}, []*reading[T]{r})
}

// fix stores Stripe's object. If the row was written meanwhile, both sides are read again. complete reports whether the
// row then has its whole lists.
func (w *walk[T]) fix(ctx context.Context, r *reading[T]) (complete bool, err error) {
	for attempt := 1; ; attempt++ {
		err := w.config.Fix.InTx(ctx, "import", func(ctx context.Context, tx pgx.Tx) error {
			return w.importOne(ctx, tx, r, !w.config.NoHooks)
		})
		if !errors.Is(err, errMoved) || attempt == confirmations {
			return r.head.Complete, err
		}
		if r, err = w.get(ctx, r.key, w.sourceOfRow(r)); err != nil {
			return false, err
		}
		if r.stripe == nil {
			return false, fmt.Errorf("Stripe no longer has the %s", w.rules.noun()) //nolint:staticcheck // a name
		}
		if err := w.locals(ctx, []*reading[T]{r}); err != nil || !w.fixable(r) {
			return r.head.Complete, err
		}
	}
}

// inOrder returns the sorted union of accounts.
func inOrder(first string, lists ...[]string) []string {
	all := append([]string{first}, slices.Concat(lists...)...)
	slices.Sort(all)
	return slices.Compact(all)
}
