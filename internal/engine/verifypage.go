package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/pook/stripeonce/internal/stripeapi"
)

// completed reads the rest of the lists of objects that have longer lists than the page holds.
func (w *walk[T]) completed(ctx context.Context, page *stripeapi.Page, readings []*reading[T]) ([]*reading[T], error) {
	for i, r := range readings {
		if r.head.Complete {
			continue
		}
		listed := &stripeapi.Response{Body: r.listed, Date: page.Date, Version: page.Version}
		response, err := w.api.Complete(ctx, w.requestOf(r.key, w.source), listed, w.rules.Lists)
		whole, err := w.readWhole(ctx, r.key, w.source, response, err)
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

// readPage decodes a page. An object that cannot be decoded is left out and reported as an error at the end.
func (w *walk[T]) readPage(page *stripeapi.Page) []*reading[T] {
	var readings []*reading[T]
	for _, object := range page.Data {
		r := &reading[T]{listed: object}
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

// checkList compares the objects of a list, or only those that have no row, since the others are compared by it. It returns the ids
// of all.
func (w *walk[T]) checkList(ctx context.Context, request stripeapi.Request, onlyNew bool) (listed map[string]bool, err error) {
	listed = map[string]bool{}
	return listed, w.eachPage(ctx, request, func(request stripeapi.Request, page *stripeapi.Page) error {
		readings := slices.DeleteFunc(w.readPage(page), w.tooOld)
		for _, r := range readings {
			listed[r.key.ID] = true
		}
		if onlyNew {
			if err := w.locals(ctx, readings); err != nil {
				return err
			}
			readings = slices.DeleteFunc(readings, func(r *reading[T]) bool { return r.local != nil })
		}
		readings, err := w.completed(ctx, page, readings)
		if err != nil {
			return err
		}
		return w.check(ctx, request, readings)
	})
}

// eachPage calls visit with each page of a list.
func (w *walk[T]) eachPage(ctx context.Context, request stripeapi.Request, visit func(request stripeapi.Request, page *stripeapi.Page) error) error {
	for next := &request; next != nil; {
		page, err := w.api.Page(ctx, *next)
		if err != nil {
			return err
		}
		if err := visit(*next, page); err != nil {
			return err
		}
		next = page.Next
	}
	return nil
}
