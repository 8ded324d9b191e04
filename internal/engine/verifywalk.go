package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
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
	from Position // of an interrupted run; zero: begin with the first page

	upper    time.Time       // the inclusive end of the next span; zero: none
	boundary map[string]bool // the objects of the previous page that were created in the second of upper

	unreadable map[string]error // objects that could not be compared
}

func (w *walk[T]) run(ctx context.Context, account string) (err error) {
	if w.source, err = w.sourceOf(ctx, account); err != nil {
		return err
	}
	switch {
	case w.config.Only != "", w.config.Customer != "":
		return w.precise(ctx)
	case w.rules.Unlisted:
		return w.unlisted(ctx)
	}
	next, err := w.first(ctx)
	for err == nil && next != nil {
		next, err = w.page(ctx, *next)
	}
	if err != nil {
		return err
	}
	if err := w.undated(ctx); err != nil {
		return err
	}
	return w.testClocks(ctx)
}

// first returns the request for the first page of Stripe's list.
func (w *walk[T]) first(ctx context.Context) (*stripeapi.Request, error) {
	request := w.list(w.source)
	if w.from.ID == "" {
		return &request, nil
	}
	if w.from.Created.IsZero() {
		last, err := w.get(ctx, Key{ID: w.from.ID}, w.source)
		if err != nil {
			return nil, err
		}
		if last.head.Created == nil {
			return nil, fmt.Errorf("cannot resume after %s: Stripe does not have this %s; start without a position", w.from.ID, w.rules.noun())
		}
		w.from.Created = *last.head.Created
	}
	w.upper = w.from.Created
	for _, id := range w.from.Second {
		w.boundary[id] = true
	}
	return request.After(w.from.ID), nil
}

// page compares one page of Stripe's list, and returns the request for the next one.
func (w *walk[T]) page(ctx context.Context, request stripeapi.Request) (next *stripeapi.Request, err error) {
	page, err := w.api.Page(ctx, request)
	if stripeapi.IsRefused(err) && w.from.ID != "" && !w.rules.Unfiltered && request.Values.Get("starting_after") == w.from.ID {
		// Stripe does not have the object any more after which the list is to go on.
		request = w.list(w.source)
		request.Values.Set("created[lte]", strconv.FormatInt(w.from.Created.Unix(), 10))
		page, err = w.api.Page(ctx, request)
	}
	if err != nil {
		return nil, err
	}
	next = page.Next
	found := w.readPage(page)
	readings := slices.DeleteFunc(slices.Clone(found), w.tooOld)
	if len(readings) < len(found) { // of a list that does not take created; it is sorted
		next = nil
	}
	if readings, err = w.completed(ctx, page, readings); err != nil {
		return nil, err
	}
	if err := w.check(ctx, request, readings); err != nil {
		return nil, err
	}
	if err := w.others(ctx, readings, next == nil); err != nil {
		return nil, err
	}
	if id := w.lastKept(readings); id != "" && !w.broken {
		w.sum.Position = w.position(id)
	}
	return next, w.progress(ctx)
}

// progress reports the numbers so far. An error ends the run.
func (w *walk[T]) progress(ctx context.Context) error {
	if w.config.Progress != nil {
		w.stopped = w.config.Progress(ctx, w.sum)
	}
	return w.stopped
}

// tooOld reports whether Stripe created an object before Since.
func (w *walk[T]) tooOld(r *reading[T]) bool {
	return !w.config.Since.IsZero() && r.head.Created != nil && r.head.Created.Before(w.config.Since)
}

// check compares Stripe's objects with the table, but for those of erased customers. Those that differ are read again on both
// sides, with the request for their page if there is one.
func (w *walk[T]) check(ctx context.Context, from stripeapi.Request, readings []*reading[T]) error {
	readings, err := w.withoutErased(ctx, readings)
	if err != nil || len(readings) == 0 {
		return err
	}
	return w.compare(ctx, from, readings)
}

func (w *walk[T]) compare(ctx context.Context, from stripeapi.Request, readings []*reading[T]) error {
	if err := w.locals(ctx, readings); err != nil {
		return err
	}
	for _, r := range readings {
		if r.local != nil || r.stripe != nil {
			w.sum.Checked++
		}
	}
	suspects := slices.DeleteFunc(slices.Clone(readings), func(r *reading[T]) bool { return len(w.differences(r)) == 0 })
	suspects, err := w.importAnswers(ctx, suspects)
	if err != nil {
		return err
	}
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
	ofPage := func(r *reading[T]) bool { return w.sourceOfRow(r) == w.source }
	if from.Path != "" && len(suspects) > 1 && slices.ContainsFunc(suspects, ofPage) {
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
		if again[i] = fresh[old.key]; again[i] != nil && ofPage(old) {
			continue
		}
		var err error
		if again[i], err = w.get(ctx, old.key, w.sourceOfRow(old)); err != nil {
			return nil, err
		}
	}
	return again, w.locals(ctx, again)
}

// report counts and reports an object that differs.
func (w *walk[T]) report(r *reading[T]) {
	w.sum.Drifted++
	if w.config.Each != nil {
		for _, difference := range w.differences(r) {
			w.config.Each(difference)
		}
	}
}

// drifted reports an object that differs, and stores Stripe's object if Fix is set.
func (w *walk[T]) drifted(ctx context.Context, r *reading[T]) error {
	w.report(r)
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
	if errors.Is(err, errErased) {
		return nil
	}
	if err != nil {
		w.config.Logger.ErrorContext(ctx, "could not store an object", "object_type", w.rules.Object, "object_id", r.key.ID, "error", err)
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
	onPage, upper := w.boundary, w.upper
	if len(readings) > 0 {
		w.upper, w.boundary = OrZero(readings[len(readings)-1].head.Created), map[string]bool{}
	} else if !last { // none of its objects could be read
		return nil
	}
	if w.upper.Equal(upper) { // a whole page of one second
		maps.Copy(w.boundary, onPage)
	}
	for _, r := range readings {
		onPage[r.key.ID] = true
		if OrZero(r.head.Created).Equal(w.upper) {
			w.boundary[r.key.ID] = true
		}
	}
	span := Span{Account: w.account, Livemode: w.livemode, After: w.upper}
	if last {
		span.After = time.Time{}
		if !w.config.Since.IsZero() {
			span.After = w.config.Since.Truncate(time.Second).Add(-time.Second)
		}
	}
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

// undated checks the rows without a creation time. An import has just stored those that Stripe lists.
func (w *walk[T]) undated(ctx context.Context) error {
	if w.config.Import || !w.config.Since.IsZero() {
		return nil
	}
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
