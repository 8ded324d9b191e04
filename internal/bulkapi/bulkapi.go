// Package bulkapi serves many simulated invoices, for tests of imports. It counts how often each was fetched. Package stripesim has
// life cycles, and holds each object in memory; here an invoice is made when it is asked for.
package bulkapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// version is the API version of the invoices.
const version = "2025-06-30.basil"

// API is a part of Stripe's API: the invoices of an account and of connected accounts. It is an http.Handler for a Stripe client's base
// URL. Set its fields before the first request, or within Do.
type API struct {
	// Invoices is the number of the account's invoices, and Connected that of each connected account's.
	Invoices  int
	Connected map[string]int
	// Newest is when the newest invoice was created, and PerSecond how many were created in each second.
	Newest    time.Time
	PerSecond int
	// Customers is the number of customers, among whom the invoices are spread.
	Customers int
	// OnList is called with the number of lists so far before each list is answered, which it may delay or refuse with a status. Optional.
	OnList func(lists int) (status int)
	// Changed has members that differ from what invoices are made of, by id.
	Changed map[string]map[string]any
	// Gone are the ids of invoices that Stripe does not have any more.
	Gone map[string]bool

	mu      sync.Mutex
	lists   int
	gets    int
	fetched map[string]int
}

// Do runs fn while no request is answered.
func (api *API) Do(fn func()) {
	api.mu.Lock()
	defer api.mu.Unlock()
	fn()
}

// Lists and Gets return how many requests were answered for lists and for single invoices.
func (api *API) Lists() int { return api.count(&api.lists) }

// Gets is Lists for single invoices.
func (api *API) Gets() int { return api.count(&api.gets) }

func (api *API) count(n *int) int {
	api.mu.Lock()
	defer api.mu.Unlock()
	return *n
}

// Most returns how often the invoice was fetched that was fetched most often, in a list or alone, and how many were fetched at all.
func (api *API) Most() (times, invoices int) {
	api.mu.Lock()
	defer api.mu.Unlock()
	for _, n := range api.fetched {
		times = max(times, n)
	}
	return times, len(api.fetched)
}

// ID returns the id of an account's n-th invoice, the oldest of which is 0.
func ID(account string, n int) string {
	return fmt.Sprintf("in_%s%08d", strings.TrimPrefix(account, "acct_"), n)
}

// number is the inverse of ID, or -1.
func number(account, id string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(id, "in_"+strings.TrimPrefix(account, "acct_")))
	if err != nil {
		return -1
	}
	return n
}

// created returns when the n-th of so many invoices was created.
func (api *API) created(n, of int) int64 {
	return api.Newest.Unix() - int64((of-1-n)/max(api.PerSecond, 1))
}

// Invoice returns an account's n-th invoice.
func (api *API) Invoice(account string, n int) map[string]any {
	id, of := ID(account, n), api.of(account)
	amount, customer := 1000+n%7*100, fmt.Sprintf("cus_%d", n%max(api.Customers, 1))
	invoice := map[string]any{
		"id": id, "object": "invoice", "created": api.created(n, of), "livemode": false, "customer": customer, "status": "paid", "currency": "usd",
		"amount_due": amount, "amount_paid": amount, "amount_remaining": 0, "total": amount, "subtotal": amount, "number": fmt.Sprintf("A-%d", n),
		"attempted": true, "auto_advance": false, "billing_reason": "subscription_cycle", "collection_method": "charge_automatically",
		"metadata": map[string]any{}, "parent": map[string]any{
			"type": "subscription_details", "subscription_details": map[string]any{"subscription": fmt.Sprintf("sub_%d", n%max(api.Customers, 1))},
		},
		"lines": map[string]any{"object": "list", "has_more": false, "url": "/v1/invoices/" + id + "/lines", "data": []any{
			map[string]any{"id": "il_" + id, "object": "line_item", "amount": amount, "currency": "usd", "description": "1 × Pro", "quantity": 1},
		}},
	}
	for name, value := range api.Changed[id] {
		invoice[name] = value
	}
	return invoice
}

func (api *API) of(account string) int {
	if account == "" {
		return api.Invoices
	}
	return api.Connected[account]
}

// ServeHTTP answers one request.
func (api *API) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	api.mu.Lock()
	defer api.mu.Unlock()
	w.Header().Set("Stripe-Version", version)
	account := req.Header.Get("Stripe-Account")
	if _, known := api.Connected[account]; account != "" && !known {
		refuse(w, http.StatusForbidden, "account_invalid")
		return
	}
	id, alone := strings.CutPrefix(req.URL.Path, "/v1/invoices/")
	switch {
	case alone:
		api.get(w, account, id)
	case req.URL.Path == "/v1/invoices":
		api.list(w, req, account)
	default:
		refuse(w, http.StatusNotFound, "")
	}
}

func (api *API) get(w http.ResponseWriter, account, id string) {
	api.gets++
	if n := number(account, id); n >= 0 && n < api.of(account) && !api.Gone[id] {
		api.answer(w, api.fetch(account, n))
		return
	}
	refuse(w, http.StatusNotFound, "resource_missing")
}

// list answers https://docs.stripe.com/api/invoices/list.
func (api *API) list(w http.ResponseWriter, req *http.Request, account string) {
	api.lists++
	if api.OnList != nil {
		if status := api.OnList(api.lists); status != 0 {
			refuse(w, status, "")
			return
		}
	}
	query, of := req.URL.Query(), api.of(account)
	limit, next := 10, of-1
	if n, err := strconv.Atoi(query.Get("limit")); err == nil {
		limit = n
	}
	if after := query.Get("starting_after"); after != "" {
		if next = number(account, after) - 1; api.Gone[after] {
			refuse(w, http.StatusBadRequest, "resource_missing")
			return
		}
	}
	bound := func(name string, otherwise int64) int64 {
		if n, err := strconv.ParseInt(query.Get(name), 10, 64); err == nil {
			return n
		}
		return otherwise
	}
	from, to := bound("created[gte]", 0), bound("created[lte]", 1<<62)
	customer, data := query.Get("customer"), []any{}
	for ; next >= 0 && len(data) < limit && api.created(next, of) >= from; next-- {
		if api.created(next, of) <= to && !api.Gone[ID(account, next)] && (customer == "" || customer == fmt.Sprintf("cus_%d", next%max(api.Customers, 1))) {
			data = append(data, api.fetch(account, next))
		}
	}
	more := next >= 0 && api.created(next, of) >= from && customer == ""
	api.answer(w, map[string]any{"object": "list", "url": "/v1/invoices", "has_more": more, "data": data})
}

// fetch returns an invoice, and counts it.
func (api *API) fetch(account string, n int) map[string]any {
	if api.fetched == nil {
		api.fetched = map[string]int{}
	}
	api.fetched[ID(account, n)]++
	return api.Invoice(account, n)
}

func (api *API) answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

// refuse answers with an error as Stripe does.
func refuse(w http.ResponseWriter, status int, code string) {
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "0")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"type": "invalid_request_error", "code": code, "message": http.StatusText(status)}})
}
