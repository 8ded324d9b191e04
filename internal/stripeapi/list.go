package stripeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// List gets all elements of a list as one response: {"object": "list", "data": […], "has_more": false}. A list of one page takes
// one request. A longer one is read again until two readings agree, since pages of different moments are no state; the response
// has the time of the first of the two. The error wraps ErrTruncated if it changes each time, or has too many pages.
func (c *Client) List(ctx context.Context, req Request) (*Response, error) {
	if path, query, found := strings.Cut(req.Path, "?"); found {
		values, err := url.ParseQuery(query)
		if err != nil {
			return nil, fmt.Errorf("the list %s: %w", req.Path, err)
		}
		req.Path, req.Values = path, values
	}
	before, pages, err := c.readList(ctx, req)
	for range maxChanges {
		if err != nil || pages == 1 {
			return before, err
		}
		var again *Response
		again, pages, err = c.readList(ctx, req)
		if err == nil && bytes.Equal(before.Body, again.Body) {
			return before, nil
		}
		before = again
	}
	return nil, fmt.Errorf("%w: the list %s changed each of the %d times that it was read", ErrTruncated, req.Path, maxChanges+1)
}

// readList reads the pages of a list one after the other.
func (c *Client) readList(ctx context.Context, req Request) (all *Response, pages int, err error) {
	first := *req.with("limit", strconv.Itoa(PageSize))
	var data []json.RawMessage
	for next := &first; next != nil; pages++ {
		if pages == maxListPages {
			return nil, pages, fmt.Errorf("%w: more than %d pages of %s", ErrTruncated, maxListPages, req.Path)
		}
		page, err := c.Page(ctx, *next)
		if err != nil {
			return nil, pages, err
		}
		if all == nil {
			all = &Response{Date: page.Date, Version: page.Version}
		}
		data, next = slices.Concat(data, page.Data), page.Next
	}
	if data == nil {
		data = []json.RawMessage{}
	}
	all.Body, err = json.Marshal(map[string]any{"object": "list", "data": data, "has_more": false, "url": req.Path})
	return all, pages, err
}
