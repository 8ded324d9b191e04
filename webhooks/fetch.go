package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/storable"
	"github.com/pook/stripeonce/internal/stripeapi"
)

// maxFetches bounds how often objects are fetched from Stripe within one delivery.
const maxFetches = 4

// FetchOptions configures Fetch. The zero value fetches the event's own object.
type FetchOptions struct {
	// Token comes back in Current.Token. Put into it what the request is based on, such as a row's revision, to see
	// whether the answer still fits.
	Token string
	// APIVersion of the object. Defaults to Config.APIVersion, else the event's, else the account's, which is also used when
	// Stripe refuses the version that is requested.
	APIVersion string
	// Lists are the members of the object that are lists, such as "items" or "lines", of which all elements are fetched. Stripe
	// renders the first 10 or 20. Where it refuses the rest, or Config.ListRate is used up, has_more stays true.
	Lists []string
	// Optional says that the handler can go on without the object, and only wants the rest of its Lists: Current.Object is nil
	// where Config.ListRate is used up or Stripe refuses the request, also with 429.
	Optional bool
	// Path is where the API has the object, such as "/v1/subscriptions/sub_1". Defaults to the path of the event's own
	// object, if its type is a common one.
	Path string
	// List says that Path is a list, such as "/v1/entitlements/active_entitlements?customer=cus_1", of which all elements are
	// fetched. Current.Object is the list, with all of them in data.
	List bool
}

// Fetch returns the error that a handler returns to request Stripe's current object. The transaction is rolled back, the object is
// fetched while no connection is held, and every handler of the event runs again, this one with the object in Event.Current. Check
// [Event.CanFetch] first: without an API key, the event fails.
func Fetch(options FetchOptions) error { return &fetchError{FetchOptions: options} }

// fetchError is a request to fetch an object.
type fetchError struct {
	FetchOptions
	handler int // which of the event's handlers requests it
}

// noHandler requests a thin event's object if no handler does.
const noHandler = -1

func (e *fetchError) Error() string { return "it requests the current object from Stripe" }

// Current is Stripe's answer to Fetch: see Event.Current.
type Current struct {
	// Object is the object as it is now, cleaned like Event.Object. Nil if Stripe does not have it, or
	// does not let us see it.
	Object json.RawMessage
	// AsOf is the Date of Stripe's answer, in whole seconds.
	AsOf time.Time
	// APIVersion is the version that Object is rendered in.
	APIVersion string
	// Token is that of FetchOptions.
	Token string
	// Missing reports that Stripe does not have the object, rather than that it refuses the request.
	Missing bool
}

// fetched is what has been fetched in the course of one delivery.
type fetched struct {
	requests map[int]*fetchError // by handler
	answer   *Current
	times    int
}

// current returns the answer for the handler that requested it.
func (f *fetched) current(handler int) *Current {
	request := f.requests[handler]
	if f.answer == nil || request == nil {
		return nil
	}
	answer := *f.answer
	answer.Token = request.Token
	return &answer
}

// ofHandler notes which of the event's handlers requests an object, or which kind of handler parks the event.
func ofHandler(i int, h handler, err error) error {
	var request *fetchError
	if errors.As(err, &request) {
		return &fetchError{request.FetchOptions, i}
	}
	if errors.As(err, new(*parkError)) {
		return &parkedByError{err, h.projection}
	}
	return err
}

// missingGrace is how long a thin event whose object Stripe does not have is refused, so that Stripe delivers it again: the
// part of Stripe that answers may lag behind.
const missingGrace = time.Hour

// errForbidden reports that Stripe does not let the API key see what a thin event needs.
var errForbidden = errors.New("the API key may not read the object: check the key's permissions, its mode, and that it belongs to the event's account")

// fetch fetches the object that a handler requested.
func (r *Receiver) fetch(ctx context.Context, d *delivery, request *fetchError) error {
	ev := d.source()
	if !ev.canFetch {
		return fault.InHandler(ev.Type, errors.New("the handler fetches an object from Stripe, but there is no API key for the event's mode: set STRIPE_API_KEY (Config.APIKey)"))
	}
	if d.fetched.times++; d.fetched.times > maxFetches {
		return fault.Unavailable(fmt.Errorf("fetched the object from Stripe %d times, but each time it had changed meanwhile or was older than the event", maxFetches))
	}
	path := request.Path
	if path == "" || ev.thin {
		var err error
		if path, err = ev.objectPath(); err != nil {
			return err
		}
	}
	version := or(request.APIVersion, or(r.config.APIVersion, ev.APIVersion))
	if strings.HasPrefix(path, v2Path) {
		version = ""
	}
	var answer *Current
	var err error
	if request.Optional && !ev.thin && !r.mayReadLists() {
		answer = &Current{}
	} else {
		ctx := r.traceFetch(ctx, ev, path)
		if ev.thin {
			answer, err = r.fetchThin(ctx, d, request, path, version)
		} else {
			answer, err = r.fetchPath(ctx, ev, &request.FetchOptions, path, version)
		}
		r.traceEnd(ctx, TraceEnd{Step: StepFetch, Err: err, Status: stripeapi.Status(err)})
	}
	if err != nil {
		return err
	}
	if d.fetched.requests == nil {
		d.fetched.requests = map[int]*fetchError{}
	}
	d.fetched.requests[request.handler] = request
	d.fetched.answer = answer
	return nil
}

// fetchThin fetches the object of a thin event, or takes what another event's request has fetched since this one arrived.
func (r *Receiver) fetchThin(ctx context.Context, d *delivery, request *fetchError, path, version string) (*Current, error) {
	ev := d.received
	asked := r.request(ev, path, version)
	key := keyOf(&asked, request.Lists)
	since := d.arrived
	if d.fetched.times > 1 { // what it had did not fit
		since = time.Now()
	}
	answer, token, err := r.fetches.do(ctx, key, since, request.Token, func() (*Current, error) {
		return r.fetchPath(ctx, ev, &request.FetchOptions, path, version)
	})
	request.Token = token
	switch {
	case stripeapi.IsMissing(err) && strings.HasSuffix(ev.Type, ".deleted"):
		missing := err
		stub, err := json.Marshal(map[string]any{"id": ev.related.id, "object": ev.related.kind, "deleted": true})
		return &Current{Object: stub, AsOf: stripeapi.DateOf(missing), APIVersion: version}, err
	case stripeapi.IsMissing(err):
		return &Current{}, r.ignoreMissing(ctx, d, path, err)
	}
	return answer, err
}

// ignoreMissing has a thin event ignored whose object Stripe does not have, once the event is old enough. The outcome is
// provisional: a replay tries again.
func (r *Receiver) ignoreMissing(ctx context.Context, d *delivery, path string, err error) error {
	ev := d.received
	if time.Since(ev.Created) < missingGrace {
		return fmt.Errorf("%w: Stripe does not have %s (yet): %w", ErrUnavailable, path, err)
	}
	r.stats.missingObjects.Add(1)
	r.config.Logger.WarnContext(ctx, "ignored a thin event whose object does not exist at Stripe",
		"event_id", ev.ID, "event_type", ev.Type, "account_id", ev.Account, "path", path, "error", stripeapi.Explain(err),
		"fix", "replay the event once the object exists")
	d.handlers = nil
	return nil
}

// request returns a request to Stripe on behalf of an event. The account of the key itself is not sent, unless the key is an
// organization's, which has none.
func (r *Receiver) request(ev *Event, path, version string) stripeapi.Request {
	req := stripeapi.Request{Path: path, Version: version, Key: r.keyFor(ev)}
	if ev.thin {
		req.Event = ev.ID
	}
	switch organization := stripeapi.OfOrganization(req.Key); {
	case organization:
		req.Context = or(ev.context, ev.Account)
	case ev.own:
	case ev.context != "":
		req.Context = ev.context
	default:
		req.Account = ev.Account
	}
	return req
}

// ask makes a request to Stripe on behalf of an event.
func (r *Receiver) ask(ctx context.Context, ev *Event, path, version string) (*stripeapi.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.FetchTimeout)
	defer cancel()
	answer, err := r.stripe.Do(ctx, r.request(ev, path, version))
	r.stats.fetches.observe(err)
	return answer, err
}

// askList requests all elements of a list.
func (r *Receiver) askList(ctx context.Context, ev *Event, path, version string) (*stripeapi.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.FetchTimeout)
	defer cancel()
	answer, err := r.stripe.List(ctx, r.request(ev, path, version))
	r.stats.fetches.observe(err)
	if errors.Is(err, stripeapi.ErrTruncated) {
		r.config.Logger.WarnContext(ctx, "could not fetch all pages of a list", "event_id", ev.ID, "path", path, "error", err)
		return answer, nil
	}
	return answer, err
}

// requestsOfList is the usual number of requests for an object with the rest of a list.
const requestsOfList = 3

func newListLimiter(perSecond int) *rate.Limiter {
	if perSecond < 0 {
		return rate.NewLimiter(0, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(perSecond, requestsOfList))
}

// mayReadLists reports whether the requests for the rest of a list are within Config.ListRate.
func (r *Receiver) mayReadLists() bool { return r.lists.AllowN(time.Now(), requestsOfList) }

// fetchPath fetches an object. For a snapshot event, one that Stripe does not have is no error, but nil.
func (r *Receiver) fetchPath(ctx context.Context, ev *Event, options *FetchOptions, path, version string) (*Current, error) {
	ask := r.ask
	if options.List {
		ask = r.askList
	}
	answer, err := ask(ctx, ev, path, version)
	if err != nil {
		if stripeapi.Status(err) == http.StatusBadRequest && !stripeapi.IsMissing(err) && version != "" {
			return r.fetchPath(ctx, ev, options, path, "") // it may be the version that is refused
		}
		return r.noAnswer(ctx, ev, options, path, err)
	}
	if len(options.Lists) > 0 && (options.Optional || stripeapi.IsTruncated(answer.Body, options.Lists) && r.mayReadLists()) {
		if answer, err = r.complete(ctx, ev, options, path, version, answer); err != nil {
			return nil, unanswered(path, err)
		}
	}
	object, err := storable.JSON(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: Stripe's response for %s is not JSON that can be stored: %w", ErrUnavailable, path, err)
	}
	return &Current{Object: object, AsOf: answer.Date, APIVersion: answer.Version}, nil
}

// complete reads the rest of an object's lists. Where Stripe refuses that, the object stays as it is.
func (r *Receiver) complete(ctx context.Context, ev *Event, options *FetchOptions, path, version string, answer *stripeapi.Response) (*stripeapi.Response, error) {
	limited, cancel := context.WithTimeout(ctx, r.config.FetchTimeout)
	defer cancel()
	answer, err := r.stripe.Complete(limited, r.request(ev, path, version), answer, options.Lists)
	r.stats.fetches.observe(err)
	if errors.Is(err, stripeapi.ErrTruncated) {
		r.config.Logger.WarnContext(ctx, "could not fetch all pages of an object's lists", "event_id", ev.ID, "path", path, "error", err)
		return answer, nil
	}
	return answer, err
}

// noAnswer tells Stripe's refusals from errors that a retry may resolve.
func (r *Receiver) noAnswer(ctx context.Context, ev *Event, options *FetchOptions, path string, err error) (*Current, error) {
	status := stripeapi.Status(err)
	switch {
	case ev.thin:
	case status == http.StatusNotFound, status == http.StatusBadRequest, status == http.StatusUnauthorized, status == http.StatusForbidden,
		status == http.StatusTooManyRequests && options.Optional:
		r.config.Logger.WarnContext(ctx, "could not fetch the current object from Stripe",
			"event_id", ev.ID, "path", path, "status", status, "error", err)
		return &Current{Missing: stripeapi.IsMissing(err)}, nil
	}
	return nil, unanswered(path, err)
}

// unanswered is the error of a request that has no answer: 503, so that Stripe delivers the event again.
func unanswered(path string, err error) error {
	if status := stripeapi.Status(err); status == http.StatusUnauthorized || status == http.StatusForbidden {
		return fmt.Errorf("%w: fetch %s from Stripe: %w: %w", ErrUnavailable, path, errForbidden, err)
	}
	return fmt.Errorf("%w: fetch %s from Stripe: %w", ErrUnavailable, path, err)
}

// objectPaths are where the API keeps objects, by their field "object".
var objectPaths = map[string]string{
	"account": "accounts", "charge": "charges", "checkout.session": "checkout/sessions", "coupon": "coupons",
	"credit_note": "credit_notes", "customer": "customers", "dispute": "disputes", "invoice": "invoices",
	"invoiceitem": "invoiceitems", "payment_intent": "payment_intents", "payment_link": "payment_links",
	"payment_method": "payment_methods", "payout": "payouts", "plan": "plans", "price": "prices", "product": "products",
	"promotion_code": "promotion_codes", "quote": "quotes", "refund": "refunds", "setup_intent": "setup_intents",
	"subscription": "subscriptions", "subscription_schedule": "subscription_schedules", "tax_rate": "tax_rates",
	"transfer": "transfers",
}

// v2Path is what the paths of v2 resources begin with.
const v2Path = "/v2/"

// objectPath is where the API has the event's object.
func (ev *Event) objectPath() (string, error) {
	if ev.thin {
		path := ev.related.url
		if !strings.HasPrefix(path, "/v1/") && !strings.HasPrefix(path, v2Path) || strings.Contains(path, "..") {
			return "", fault.InHandler(ev.Type, fmt.Errorf("related_object.url is %.80q, not a path of Stripe's API", path))
		}
		return path, nil
	}
	var object struct {
		Object string `json:"object"`
	}
	_ = json.Unmarshal(ev.Object, &object)
	id := ev.ObjectID()
	folder, ok := objectPaths[object.Object]
	if !ok || id == "" || strings.ContainsAny(id, "/?#%") {
		return "", fmt.Errorf("there is no path in Stripe's API for the %.40q of %s", object.Object, ev.Type)
	}
	return "/v1/" + folder + "/" + id, nil
}

// keyFits is true if a key can see an event's object: keys are of one mode.
func keyFits(key string, livemode bool) bool {
	of, known := stripeapi.Mode(key)
	return key != "" && (!known || of == livemode)
}
