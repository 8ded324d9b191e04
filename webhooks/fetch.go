package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/storable"
	"github.com/pook/stripeonce/internal/stripeapi"
)

// maxFetches bounds how often objects are fetched from Stripe within one delivery.
const maxFetches = 4

// FetchOptions say how to fetch an event's object from Stripe.
type FetchOptions struct {
	// Token comes back in Current.Token. Put into it what the request is based on, such as a row's revision, to see
	// whether the answer still fits.
	Token string
	// APIVersion of the object. Defaults to the event's, else stripe-go's own, which is also used when Stripe refuses
	// the version that is requested.
	APIVersion string
	// Path is where the API has the object, such as "/v1/subscriptions/sub_1". Defaults to the path of the event's own
	// object, if its type is a common one.
	Path string
}

// Fetch is what a handler returns, as its error, to get Stripe's current object. The transaction is rolled back, the
// object is fetched while no connection is held, and every handler of the event runs again, this one with
// [Event].Current. Check [Event.CanFetch] before: without an API key Fetch is a failure.
func Fetch(options FetchOptions) error { return &fetchError{FetchOptions: options} }

// fetchError is a request to fetch an object.
type fetchError struct {
	FetchOptions
	handler int // which of the event's handlers requests it
}

// noHandler requests a thin event's object if no handler does.
const noHandler = -1

func (e *fetchError) Error() string { return "it requests the current object from Stripe" }

// Current is the object that Fetch requested.
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

// fetch fetches the object that a handler requested. A thin event whose object Stripe does not have is ignored.
func (r *Receiver) fetch(ctx context.Context, d *delivery, request *fetchError) error {
	ev := d.received
	if !ev.canFetch {
		return fault.InHandler(ev.Type, errors.New("it requests an object from Stripe, but there is no API key for the event's mode: set Config.APIKey"))
	}
	if d.fetched.times++; d.fetched.times > maxFetches {
		return fault.Unavailable(fmt.Errorf("the object changed each of the %d times that it was fetched from Stripe", maxFetches))
	}
	path := request.Path
	if path == "" || ev.thin {
		var err error
		if path, err = ev.objectPath(); err != nil {
			return err
		}
	}
	answer, err := r.fetchPath(ctx, ev, path, either(request.APIVersion, ev.APIVersion))
	if err != nil {
		return err
	}
	if ev.thin && answer.Object == nil {
		d.handlers = nil
	}
	if d.fetched.requests == nil {
		d.fetched.requests = map[int]*fetchError{}
	}
	d.fetched.requests[request.handler] = request
	d.fetched.answer = answer
	return nil
}

func either(first, second string) string {
	if first != "" {
		return first
	}
	return second
}

// fetchPath fetches an object. One that Stripe does not have is no error, but nil.
func (r *Receiver) fetchPath(ctx context.Context, ev *Event, path, version string) (*Current, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.FetchTimeout)
	defer cancel()
	answer, err := r.stripe.Do(ctx, stripeapi.Request{Path: path, Account: ev.Account, Version: version})
	if err != nil {
		if stripeapi.Status(err) == http.StatusBadRequest && version != "" {
			return r.fetchPath(ctx, ev, path, "") // it may be the version that is refused
		}
		return r.noAnswer(ctx, ev, path, err)
	}
	object, err := storable.JSON(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: Stripe's answer for %s is not JSON that can be stored: %w", ErrUnavailable, path, err)
	}
	return &Current{Object: object, AsOf: answer.Date, APIVersion: answer.Version}, nil
}

// noAnswer tells Stripe's refusals from errors that a retry may resolve.
func (r *Receiver) noAnswer(ctx context.Context, ev *Event, path string, err error) (*Current, error) {
	status := stripeapi.Status(err)
	missing := status == http.StatusNotFound || status == http.StatusBadRequest
	forbidden := status == http.StatusUnauthorized || status == http.StatusForbidden
	if missing || forbidden && !ev.thin {
		r.config.Logger.WarnContext(ctx, "Stripe does not return the current object",
			"event_id", ev.ID, "path", path, "status", status, "error", err)
		return &Current{}, nil
	}
	return nil, fmt.Errorf("%w: fetch %s from Stripe: %w", ErrUnavailable, path, err)
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

// objectPath is where the API has the event's object.
func (ev *Event) objectPath() (string, error) {
	if ev.thin {
		if !strings.HasPrefix(ev.relatedURL, "/v1/") || strings.Contains(ev.relatedURL, "..") {
			return "", fmt.Errorf("related_object.url is %.80q, not a path of Stripe's API", ev.relatedURL)
		}
		return ev.relatedURL, nil
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
