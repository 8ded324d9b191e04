package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/storable"
	"github.com/pook/stripeonce/internal/stripeapi"
)

// maxAsks bounds how often Stripe is asked within one delivery.
const maxAsks = 4

// AskOptions say how to ask Stripe for an event's object.
type AskOptions struct {
	// Token comes back in Current.Token. Put into it what the question was asked about, such as a row's
	// revision, to see whether the answer still fits.
	Token string
	// APIVersion to ask in. Empty: the event's, else stripe-go's own, which is also taken when Stripe
	// refuses the one that is asked for.
	APIVersion string
	// Path is where the API has the object, such as "/v1/subscriptions/sub_1". Empty: where it has the
	// event's own object, if its type is a common one.
	Path string
}

// Ask is what a function returns, as its error, to be given Stripe's current object: the transaction is
// rolled back, Stripe is asked while no connection is held, and every function of the event runs again,
// this one with Event.Current. Check Event.CanAsk before: without an API key it is a failure.
func Ask(options AskOptions) error { return &askError{AskOptions: options} }

type askError struct {
	AskOptions
	handler int // which of the event's functions asks
}

func (e *askError) Error() string { return "it asks Stripe for the current object" }

// Current is Stripe's answer to Ask.
type Current struct {
	// Object is the object as it is now, cleaned like Event.Object. Nil if Stripe does not have it, or
	// does not let us see it.
	Object json.RawMessage
	// AsOf is the Date of the answer, in whole seconds.
	AsOf time.Time
	// APIVersion is the version that Object is rendered in.
	APIVersion string
	// Token is what was given to Ask.
	Token string
}

func either(first, second string) string {
	if first != "" {
		return first
	}
	return second
}

// fetch gets an object from Stripe. One that Stripe does not have is no error, but nil.
func (r *Receiver) fetch(ctx context.Context, ev *Event, path, version string) (*Current, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.AskTimeout)
	defer cancel()
	answer, err := r.stripe.Do(ctx, stripeapi.Request{Path: path, Account: ev.Account, Version: version})
	if err != nil {
		if stripeapi.Status(err) == http.StatusBadRequest && version != "" {
			return r.fetch(ctx, ev, path, "") // it may be the version that is refused
		}
		return r.noAnswer(ctx, ev, path, err)
	}
	object, err := storable.JSON(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: Stripe's answer for %s is not JSON that can be stored: %w", ErrUnavailable, path, err)
	}
	return &Current{Object: object, AsOf: answer.Date, APIVersion: answer.Version}, nil
}

// noAnswer sorts Stripe's refusals from what a later try may mend.
func (r *Receiver) noAnswer(ctx context.Context, ev *Event, path string, err error) (*Current, error) {
	status := stripeapi.Status(err)
	missing := status == http.StatusNotFound || status == http.StatusBadRequest
	forbidden := status == http.StatusUnauthorized || status == http.StatusForbidden
	if missing || forbidden && !ev.thin {
		r.config.Logger.WarnContext(ctx, "Stripe does not give the current object",
			"event_id", ev.ID, "path", path, "status", status, "error", err)
		return &Current{}, nil
	}
	return nil, fmt.Errorf("%w: Stripe was asked for %s: %w", ErrUnavailable, path, err)
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
