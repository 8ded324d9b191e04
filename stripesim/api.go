package stripesim

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// eventsKept is how long the Events API keeps events: https://docs.stripe.com/api/events.
const eventsKept = 30 * 24 * time.Hour

const (
	defaultLimit = 10
	maxLimit     = 100
	maxTypes     = 20 // of types[]
)

// API is a part of Stripe's API (events, subscriptions and their items, all types in BillingTypes with the lines of invoices and
// credit notes, features and active entitlements, webhook endpoints, event destinations, test clocks) for an account. Its time,
// also in the header Date, is the account's clock. While a Deliverer or a Simulation delivers, it is that of the newest event whose
// delivery has begun, and so are the objects and events: it does not know what has not happened yet. It is an http.Handler for a
// Stripe client's base URL.
//
// Set the exported fields before the first request, or within Do.
type API struct {
	// Key is the secret key that requests must have. Empty: any.
	Key string
	// Version is the account's API version. The Events API uses it, and so do requests without a Stripe-Version header.
	Version string
	// Unnamed is for an account without snapshot events: the snapshot_event of thin events is null.
	Unnamed bool
	// Refuse is the path of requests that the key is not allowed to make. Optional.
	Refuse string
	// Lag is called for each request of one object that is not an event, and says by how many of its changes the response is
	// behind; -1: the object is not found. It must not call the API's methods. Optional.
	Lag func() int
	// CountOnly counts the requests and does not keep them.
	CountOnly bool
	// OnRequest is called with each request before it is answered, one request at a time. It may change the account, and must not
	// call the API's methods, which would deadlock. Optional.
	OnRequest func(req *http.Request)

	mu           sync.Mutex
	account      *Account
	objects      map[string]any // by path, in place of the account's own
	connected    map[string]*Account
	delivered    map[string]bool
	clocks       map[*Account]int64 // during deliveries: see begin
	endpoints    []*Endpoint
	destinations []*Destination
	faults       []Fault
	requests     []*http.Request
	count        int
	mux          *http.ServeMux
}

// Fault is a response in place of the correct one.
type Fault struct {
	Status     int           // such as 429 or 500
	RetryAfter time.Duration // the header Retry-After, if not 0
	// Hang sends the beginning of the correct response and then nothing more, until the client gives up.
	Hang bool
	// Path is the path of the affected requests, and Pass how many of these are answered correctly before. An empty path
	// matches any.
	Path string
	Pass int
}

// NewAPI returns the API of an account, of version basil.
func NewAPI(account *Account) *API {
	api := &API{
		Version: VersionBasil, account: account, connected: map[string]*Account{}, delivered: map[string]bool{}, mux: http.NewServeMux(),
	}
	api.mux.HandleFunc("GET /v1/events", api.listEvents)
	api.mux.HandleFunc("GET /v1/events/{id}", api.getEvent)
	api.mux.HandleFunc("GET /v1/subscriptions", api.listSubscriptions)
	api.mux.HandleFunc("GET /v1/subscriptions/{id}", api.getSubscription)
	api.mux.HandleFunc("GET /v1/subscription_items", api.listItems)
	api.routeBilling()
	api.routeEntitlements()
	api.routeTestClocks()
	api.routeEndpoints()
	api.routeThin()
	api.mux.HandleFunc("/", unrecognized)
	return api
}

// Do runs fn while no request is answered, so that fn may change the account.
func (api *API) Do(fn func(account *Account)) {
	api.mu.Lock()
	defer api.mu.Unlock()
	fn(api.account)
}

// Connect adds a connected account, or one of an organization. Requests select it with the header Stripe-Account or
// Stripe-Context.
func (api *API) Connect(id string, account *Account) {
	api.Do(func(*Account) { api.connected[id] = account })
}

// of returns the account of a request, or nil if there is none.
func (api *API) of(req *http.Request) *Account {
	context := req.Header.Get("Stripe-Context")
	id := req.Header.Get("Stripe-Account") + context[strings.LastIndexByte(context, '/')+1:]
	account := api.connected[id]
	if id == "" || slices.Contains(api.account.Connected, id) {
		account = api.account
	}
	if account != nil && id != "" && account.Organization != "" && context != account.context(id) {
		return nil
	}
	return account
}

// sees reports whether a request is for the account that something belongs to.
func (api *API) sees(req *http.Request, accountID string) bool {
	if api.of(req) != api.account { // an account of its own
		return true
	}
	context := req.Header.Get("Stripe-Context")
	id := req.Header.Get("Stripe-Account") + context[strings.LastIndexByte(context, '/')+1:]
	return accountID == id || id == "" && accountID == api.account.ID
}

// Set makes an object available to requests for a path, such as "/v1/invoices/in_1", of any account. Nil: Stripe does not have it.
func (api *API) Set(path string, object any) {
	api.Do(func(*Account) {
		if api.objects == nil {
			api.objects = map[string]any{}
		}
		api.objects[path] = object
	})
}

// Fail answers the next requests with faults, one for each request.
func (api *API) Fail(faults ...Fault) {
	api.Do(func(*Account) { api.faults = append(api.faults, faults...) })
}

// MarkDelivered marks an event as delivered, so that delivery_success=false does not list it.
func (api *API) MarkDelivered(eventID string) {
	api.Do(func(*Account) { api.delivered[eventID] = true })
}

// Requests returns the requests so far, without their bodies.
func (api *API) Requests() []*http.Request {
	api.mu.Lock()
	defer api.mu.Unlock()
	return slices.Clone(api.requests)
}

// Count returns the number of requests so far.
func (api *API) Count() int {
	api.mu.Lock()
	defer api.mu.Unlock()
	return api.count
}

// ServeHTTP answers one request.
func (api *API) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	api.mu.Lock()
	defer api.mu.Unlock()
	api.count++
	if !api.CountOnly {
		api.requests = append(api.requests, req.Clone(req.Context()))
	}
	if api.OnRequest != nil {
		api.OnRequest(req)
	}
	w.Header().Set("Date", time.Unix(api.now(api.account), 0).UTC().Format(http.TimeFormat))
	w.Header().Set("Request-Id", fmt.Sprintf("req_%014d", api.count))
	w.Header().Set("Stripe-Version", api.version(req))
	key := keyOf(req)
	switch {
	case key == "":
		fail(w, http.StatusUnauthorized, apiError{Type: invalidRequest, Message: "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."})
	case api.Key != "" && key != api.Key:
		fail(w, http.StatusUnauthorized, apiError{Type: invalidRequest, Message: "Invalid API Key provided: " + masked(key)})
	case api.Refuse != "" && req.URL.Path == api.Refuse:
		fail(w, http.StatusForbidden, apiError{Type: invalidRequest, Message: "The provided key does not have the required permissions for this endpoint."})
	case api.of(req) == nil && api.objects[req.URL.Path] == nil:
		fail(w, http.StatusForbidden, apiError{Type: invalidRequest, Code: "account_invalid", Message: fmt.Sprintf("The provided key '%s' does not have access to account '%s' (or that account does not exist).", masked(key), req.Header.Get("Stripe-Account")+req.Header.Get("Stripe-Context"))})
	default:
		api.answer(w, req, api.fault(req))
	}
}

// keyOf returns a request's key. It is a bearer token, or a user without a password as in Stripe's examples with curl.
func keyOf(req *http.Request) string {
	if key, bears := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); bears {
		return key
	}
	user, _, _ := req.BasicAuth()
	return user
}

// fault removes and returns the fault for a request, or nil if there is none.
func (api *API) fault(req *http.Request) *Fault {
	for i := range api.faults {
		fault := api.faults[i]
		if fault.Path != "" && fault.Path != req.URL.Path {
			continue
		}
		if fault.Pass > 0 {
			api.faults[i].Pass--
			return nil
		}
		api.faults = slices.Delete(api.faults, i, i+1)
		return &fault
	}
	return nil
}

func (api *API) answer(w http.ResponseWriter, req *http.Request, fault *Fault) {
	switch {
	case fault == nil:
		api.route(w, req)
	case fault.Hang:
		whole := &held{ResponseWriter: w}
		api.route(whole, req)
		_, _ = w.Write(whole.body[:len(whole.body)/2])
		_ = http.NewResponseController(w).Flush()
		api.mu.Unlock() // answers other requests meanwhile
		<-req.Context().Done()
		api.mu.Lock()
	default:
		fault.answer(w)
	}
}

func (api *API) route(w http.ResponseWriter, req *http.Request) {
	switch object, set := api.objects[req.URL.Path]; {
	case object != nil:
		answer(w, http.StatusOK, object)
	case set:
		missing(w, "object", req.URL.Path)
	default:
		api.mux.ServeHTTP(w, req)
	}
}

// held holds back a response's body.
type held struct {
	http.ResponseWriter
	body []byte
}

func (h *held) Write(body []byte) (int, error) {
	h.body = append(h.body, body...)
	return len(body), nil
}

// version returns the API version of a response with an object.
func (api *API) version(req *http.Request) string {
	if version := req.Header.Get("Stripe-Version"); version != "" {
		return version
	}
	return api.Version
}

func masked(key string) string {
	if len(key) < 12 {
		return "****"
	}
	return key[:8] + "****" + key[len(key)-4:]
}

const invalidRequest = "invalid_request_error"

// apiError is https://docs.stripe.com/api/errors.
type apiError struct {
	Code    string `json:"code,omitempty"`
	DocURL  string `json:"doc_url,omitempty"`
	Message string `json:"message"`
	Param   string `json:"param,omitempty"`
	Type    string `json:"type"`
}

func fail(w http.ResponseWriter, status int, e apiError) {
	if e.Code != "" {
		e.DocURL = "https://stripe.com/docs/error-codes/" + strings.ReplaceAll(e.Code, "_", "-")
	}
	answer(w, status, map[string]apiError{"error": e})
}

func unrecognized(w http.ResponseWriter, req *http.Request) {
	fail(w, http.StatusNotFound, apiError{Type: invalidRequest, Message: fmt.Sprintf("Unrecognized request URL (%s: %s).", req.Method, req.URL.Path)})
}

func missing(w http.ResponseWriter, kind, id string) {
	fail(w, http.StatusNotFound, apiError{Type: invalidRequest, Code: "resource_missing", Param: "id", Message: fmt.Sprintf("No such %s: '%s'", kind, id)})
}

func (f Fault) answer(w http.ResponseWriter) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter/time.Second)))
	}
	if f.Status == http.StatusTooManyRequests {
		fail(w, f.Status, apiError{Type: invalidRequest, Code: "rate_limit", Message: "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits."})
		return
	}
	fail(w, f.Status, apiError{Type: "api_error", Message: "An unknown error occurred"})
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(marshal(value), '\n')) //nolint:gosec // it is JSON, and says so
}

func (api *API) listEvents(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query()
	types := slices.Concat(query["types[]"], indexed(query, "types"))
	if len(types) > maxTypes {
		fail(w, http.StatusBadRequest, apiError{Type: invalidRequest, Param: "types", Message: "You may specify at most 20 event types."})
		return
	}
	if len(types) > 0 && query.Has("type") {
		fail(w, http.StatusBadRequest, apiError{Type: invalidRequest, Param: "type", Message: "You may only specify one of these parameters: type, types."})
		return
	}
	account := api.of(req)
	now := api.now(account)
	newest := slices.Clone(account.Events)
	slices.Reverse(newest)
	page(w, req, "/v1/events", "event", newest, func(ev *Event) entry {
		return entry{ev.ID, ev.Created, func() object { return ev.object(stripeobject.Shape(api.Version)) }}
	}, func(ev *Event) bool {
		return api.sees(req, ev.AccountID) && ev.kept(now) &&
			(len(types) == 0 || slices.Contains(types, ev.Type)) &&
			(!query.Has("type") || typeFits(query.Get("type"), ev.Type)) &&
			(!query.Has("delivery_success") || strconv.FormatBool(api.delivered[ev.ID]) == query.Get("delivery_success"))
	})
}

// indexed reads a list in stripe-go's form, name[0]=…&name[1]=….
func indexed(query url.Values, name string) []string {
	var values []string
	for i := 0; query.Has(fmt.Sprintf("%s[%d]", name, i)); i++ {
		values = append(values, query.Get(fmt.Sprintf("%s[%d]", name, i)))
	}
	return values
}

func typeFits(pattern, eventType string) bool {
	if prefix, wild := strings.CutSuffix(pattern, "*"); wild {
		return strings.HasPrefix(eventType, prefix)
	}
	return pattern == eventType
}

// kept reports whether the Events API has the event: it is created, and not too old.
func (ev *Event) kept(now int64) bool {
	return ev.Created <= now && ev.Created > now-int64(eventsKept/time.Second)
}

// getEvent serves one event. While it is delivered, within seconds in place of days, an event is kept however much the account's
// time advances.
func (api *API) getEvent(w http.ResponseWriter, req *http.Request) {
	account := api.of(req)
	now := api.now(account)
	_, delivering := api.clocks[account]
	for _, ev := range account.Events {
		if ev.ID == req.PathValue("id") && api.sees(req, ev.AccountID) && (ev.kept(now) || delivering && ev.Created <= now) {
			answer(w, http.StatusOK, ev.object(stripeobject.Shape(api.Version)))
			return
		}
	}
	missing(w, "event", req.PathValue("id"))
}
