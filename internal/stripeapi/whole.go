package stripeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// ErrTruncated is wrapped where a list of an object could not be read to its end.
var ErrTruncated = errors.New("could not fetch all pages of a list")

const (
	// maxListPages bounds the pages of one list.
	maxListPages = 100
	// maxChanges bounds how often an object is read again that changes while its lists are read.
	maxChanges = 4
)

// Whole gets an object together with the rest of its lists: those of the given members that have has_more. Their pages are read
// from the list's url, and then the object once more: if it has changed meanwhile, everything is read again, since the items of
// now and the object of then are no state. The response is of the first request for the object. An object whose lists are
// complete takes one request, one with a list of up to 100 elements three.
//
// Where Stripe refuses a page (4xx), the object is returned as it is, with an error that wraps ErrTruncated.
func (c *Client) Whole(ctx context.Context, req Request, members []string) (*Response, error) {
	response, err := c.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	return c.Complete(ctx, req, response, members)
}

// Complete is Whole for an object that has been read by req.
func (c *Client) Complete(ctx context.Context, req Request, response *Response, members []string) (*Response, error) {
	for range maxChanges {
		lists := truncated(response.Body, members)
		if len(lists) == 0 {
			return response, nil
		}
		whole, err := c.withLists(ctx, req, response.Body, lists)
		if err != nil {
			return response, orTruncated(err)
		}
		again, err := c.Do(ctx, req)
		if err != nil {
			return response, orTruncated(err)
		}
		if same(response.Body, again.Body, members) {
			return &Response{Body: whole, Date: response.Date, Version: response.Version}, nil
		}
		response = again
	}
	return response, fmt.Errorf("%w: the object changed during each of %d reads", ErrTruncated, maxChanges)
}

// orTruncated tells a refusal, after which the object may be used as it is, from an error that a retry may resolve.
func orTruncated(err error) error {
	if status := Status(err); status >= 400 && status < 500 || errors.Is(err, errList) {
		return fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	return err
}

var errList = errors.New("the list has no usable url, or too many pages")

// truncated returns the lists of the given members that go on.
func truncated(object []byte, members []string) map[string]map[string]json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(object, &fields) != nil {
		return nil
	}
	lists := map[string]map[string]json.RawMessage{}
	for _, name := range members {
		var list map[string]json.RawMessage
		if json.Unmarshal(fields[name], &list) == nil && string(list["has_more"]) == "true" {
			lists[name] = list
		}
	}
	return lists
}

// IsTruncated reports whether a list of the given members goes on.
func IsTruncated(object []byte, members []string) bool { return len(truncated(object, members)) > 0 }

// withLists returns the object with all elements of the lists.
func (c *Client) withLists(ctx context.Context, req Request, object []byte, lists map[string]map[string]json.RawMessage) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return nil, err
	}
	for name, list := range lists {
		all, err := c.elements(ctx, req, list["url"])
		if err != nil {
			return nil, err
		}
		list["has_more"] = json.RawMessage("false")
		if list["data"], err = json.Marshal(all); err != nil {
			return nil, err
		}
		if fields[name], err = json.Marshal(list); err != nil {
			return nil, err
		}
	}
	return json.Marshal(fields)
}

// elements returns all elements of a list, from its url.
func (c *Client) elements(ctx context.Context, req Request, listURL json.RawMessage) ([]json.RawMessage, error) {
	var address string
	_ = json.Unmarshal(listURL, &address)
	u, err := url.Parse(address)
	if err != nil || !strings.HasPrefix(u.Path, "/v1/") || strings.Contains(u.Path, "..") || u.Host != "" {
		return nil, fmt.Errorf("%w: its url is %.80q", errList, address)
	}
	req.Method, req.Path, req.Values = http.MethodGet, u.Path, u.Query()
	r, err := c.readList(ctx, req)
	if err != nil {
		return nil, err
	}
	if r.more {
		return nil, fmt.Errorf("%w: more than %d pages of %s", errList, maxListPages, u.Path)
	}
	return r.data, nil
}

// same reports whether two responses are of the same state. The order of the elements of their lists does not count.
func same(a, b []byte, members []string) bool {
	var x, y map[string]any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	for _, object := range []map[string]any{x, y} {
		for _, name := range members {
			sortByID(object[name])
		}
	}
	return reflect.DeepEqual(x, y)
}

func sortByID(list any) {
	fields, _ := list.(map[string]any)
	data, _ := fields["data"].([]any)
	id := func(element any) string {
		fields, _ := element.(map[string]any)
		id, _ := fields["id"].(string)
		return id
	}
	slices.SortFunc(data, func(a, b any) int { return strings.Compare(id(a), id(b)) })
}
