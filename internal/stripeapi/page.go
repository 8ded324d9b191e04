package stripeapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"time"
)

// PageSize is the number of objects of a page, the maximum that Stripe permits.
const PageSize = 100

// Page is one page of a list, newest first.
type Page struct {
	Data    []json.RawMessage
	Date    time.Time // of the response
	Version string
	// Next is the request for the next page, or nil if there is none.
	Next *Request
}

// Page fetches one page of a list of /v1 (https://docs.stripe.com/api/pagination) or /v2
// (https://docs.stripe.com/api-v2-overview#list-pagination).
func (c *Client) Page(ctx context.Context, req Request) (*Page, error) {
	response, err := c.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	var list struct {
		Data    []json.RawMessage `json:"data"`
		HasMore bool              `json:"has_more"`
		NextURL string            `json:"next_page_url"`
	}
	if err := json.Unmarshal(response.Body, &list); err != nil {
		return nil, fmt.Errorf("the list %s: %w", req.Path, err)
	}
	page := &Page{Data: list.Data, Date: response.Date, Version: response.Version}
	switch {
	case list.NextURL != "":
		page.Next, err = req.at(list.NextURL)
	case list.HasMore && len(list.Data) > 0:
		page.Next, err = req.after(list.Data[len(list.Data)-1])
	}
	return page, err
}

// at returns the request for a page with the URL from Stripe's response.
func (req Request) at(next string) (*Request, error) {
	u, err := url.Parse(next)
	if err != nil {
		return nil, fmt.Errorf("the list %s: next_page_url: %w", req.Path, err)
	}
	req.Path, req.Values = u.Path, u.Query()
	return &req, nil
}

// after returns the request for the objects after an object of a list.
func (req Request) after(last json.RawMessage) (*Request, error) {
	var object struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(last, &object); err != nil || object.ID == "" {
		return nil, fmt.Errorf("the list %s has an object without an id", req.Path)
	}
	return req.After(object.ID), nil
}

// After returns the request for the objects after the object with an id.
func (req Request) After(id string) *Request { return req.With("starting_after", id) }

// With returns the request with one more parameter.
func (req Request) With(name, value string) *Request {
	req.Values = maps.Clone(req.Values)
	if req.Values == nil {
		req.Values = url.Values{}
	}
	req.Values.Set(name, value)
	return &req
}
