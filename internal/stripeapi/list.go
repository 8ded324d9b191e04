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
// has the time of the first of the two. If it changes each time, or has too many pages, the response is what was read, with
// has_more, and the error wraps ErrTruncated.
func (c *Client) List(ctx context.Context, req Request) (*Response, error) {
	if path, query, found := strings.Cut(req.Path, "?"); found {
		values, err := url.ParseQuery(query)
		if err != nil {
			return nil, fmt.Errorf("the list %s: %w", req.Path, err)
		}
		req.Path, req.Values = path, values
	}
	before, err := c.readList(ctx, req)
	for range maxChanges {
		if err != nil {
			return nil, err
		}
		if before.pages == 1 {
			return before.response(req.Path, false)
		}
		if before.more {
			return before.truncated(req.Path, fmt.Sprintf("has more than %d pages", maxListPages))
		}
		var again *listReading
		if again, err = c.readList(ctx, req); err == nil && again.equals(before) {
			return before.response(req.Path, false)
		}
		before = again
	}
	if err != nil {
		return nil, err
	}
	return before.truncated(req.Path, fmt.Sprintf("changed each of the %d times that it was read", maxChanges+1))
}

// listReading is one reading of a list.
type listReading struct {
	first *Page
	data  []json.RawMessage
	pages int
	more  bool // there are more pages than maxListPages
}

// readList reads the pages of a list one after the other, at most maxListPages.
func (c *Client) readList(ctx context.Context, req Request) (*listReading, error) {
	r := &listReading{data: []json.RawMessage{}}
	next := req.With("limit", strconv.Itoa(PageSize))
	for ; next != nil && r.pages < maxListPages; r.pages++ {
		page, err := c.Page(ctx, *next)
		if err != nil {
			return nil, err
		}
		if r.first == nil {
			r.first = page
		}
		r.data, next = append(r.data, page.Data...), page.Next
	}
	r.more = next != nil
	return r, nil
}

func (r *listReading) equals(other *listReading) bool {
	return slices.EqualFunc(r.data, other.data, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
}

func (r *listReading) response(path string, more bool) (*Response, error) {
	body, err := json.Marshal(map[string]any{"object": "list", "data": r.data, "has_more": more, "url": path})
	return &Response{Body: body, Date: r.first.Date, Version: r.first.Version}, err
}

func (r *listReading) truncated(path, why string) (*Response, error) {
	response, err := r.response(path, true)
	if err != nil {
		return nil, err
	}
	return response, fmt.Errorf("%w: the list %s %s", ErrTruncated, path, why)
}
