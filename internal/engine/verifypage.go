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
