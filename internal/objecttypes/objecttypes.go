// Package objecttypes has the table of Stripe's types of objects: their ids, the events that carry them, and where the API has them.
package objecttypes

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
)

// EntitlementSummary is the type of the summary of a customer's active entitlements. It has no id: its key is the customer's.
const EntitlementSummary = "entitlements.active_entitlement_summary"

// Type is what is known of a type of objects.
type Type struct {
	Object   string
	Prefixes []string // of ids that Stripe makes
	// Events are the patterns of the event types that carry the object. Other objects' events may match, too: only those that
	// carry this one are mirrored.
	Events []string
	Path   string // where the API lists and retrieves it; empty: it does not
	// Unlisted reports that the API has no list of all of them: of one customer's alone, or none.
	Unlisted   bool
	Unfiltered bool // the list does not take created
	// OfCustomer are the parameters with which the list has the objects of one customer, whose id is the value of the empty ones. Nil:
	// it takes no customer.
	OfCustomer url.Values
	// TestClocks reports that the list leaves out the objects of test clocks unless it is requested with test_clock.
	TestClocks bool
	Dated      string   // the member that has the time of creation; empty: created
	Lists      []string // the members that are lists of which Stripe renders only the first elements
	// Collects is the member with a customer's list that the API has at path with the parameter customer. The object has no id, and
	// its key is the customer's. Empty: it has an id.
	Collects string
	// Reusable reports that ids are the caller's choice, so that a deleted object can be created again. Only the deletion of
	// another object is final. No other state of any type is: an uncollectible invoice can be paid, and a refund can fail after
	// it succeeded.
	Reusable bool
}

// The parameters of lists that take a customer: https://docs.stripe.com/api/invoices/list and https://docs.stripe.com/api/tax_ids/list.
var (
	byCustomer = url.Values{"customer": {""}}
	byOwner    = url.Values{"owner[type]": {"customer"}, "owner[customer]": {""}}
)

// types is the table of types, by their names. https://docs.stripe.com/api/events/types says which events carry which objects.
var types = map[string]*Type{}

func init() {
	for _, r := range []Type{
		{Object: "customer", Prefixes: []string{"cus_"}, TestClocks: true, Events: []string{"customer.*"}, Path: "/v1/customers", Lists: []string{"sources", "subscriptions", "tax_ids"}},
		{Object: "product", Prefixes: []string{"prod_"}, Events: []string{"product.*"}, Path: "/v1/products", Reusable: true},
		{Object: "price", Prefixes: []string{"price_"}, Events: []string{"price.*"}, Path: "/v1/prices"},
		{Object: "plan", Prefixes: []string{"plan_"}, Events: []string{"plan.*"}, Path: "/v1/plans", Reusable: true},
		{Object: "coupon", Events: []string{"coupon.*"}, Path: "/v1/coupons", Reusable: true},
		{Object: "promotion_code", Prefixes: []string{"promo_"}, Events: []string{"promotion_code.*"}, Path: "/v1/promotion_codes", OfCustomer: byCustomer},
		{Object: "tax_id", Prefixes: []string{"txi_"}, Events: []string{"customer.tax_id.*"}, Path: "/v1/tax_ids", OfCustomer: byOwner, Unlisted: true, Unfiltered: true},
		{Object: "tax_rate", Prefixes: []string{"txr_"}, Events: []string{"tax_rate.*"}, Path: "/v1/tax_rates"},
		{Object: "invoice", Prefixes: []string{"in_"}, Events: []string{"invoice.*"}, Path: "/v1/invoices", OfCustomer: byCustomer, Lists: []string{"lines"}},
		{Object: "invoiceitem", Prefixes: []string{"ii_"}, Events: []string{"invoiceitem.*"}, Path: "/v1/invoiceitems", OfCustomer: byCustomer, Dated: "date"},
		{Object: "invoice_payment", Prefixes: []string{"inpay_"}, Events: []string{"invoice_payment.*"}, Path: "/v1/invoice_payments"},
		{Object: "credit_note", Prefixes: []string{"cn_"}, Events: []string{"credit_note.*"}, Path: "/v1/credit_notes", OfCustomer: byCustomer, Lists: []string{"lines"}},
		{Object: "subscription_schedule", Prefixes: []string{"sub_sched_"}, Events: []string{"subscription_schedule.*"}, Path: "/v1/subscription_schedules", OfCustomer: byCustomer},
		{Object: "quote", Prefixes: []string{"qt_"}, TestClocks: true, Events: []string{"quote.*"}, Path: "/v1/quotes", Unfiltered: true, OfCustomer: byCustomer, Lists: []string{"line_items"}},
		{Object: "charge", Prefixes: []string{"ch_", "py_"}, Events: []string{"charge.*"}, Path: "/v1/charges", OfCustomer: byCustomer, Lists: []string{"refunds"}},
		{Object: "payment_intent", Prefixes: []string{"pi_"}, Events: []string{"payment_intent.*"}, Path: "/v1/payment_intents", OfCustomer: byCustomer, Lists: []string{"charges"}},
		{Object: "setup_intent", Prefixes: []string{"seti_"}, Events: []string{"setup_intent.*"}, Path: "/v1/setup_intents", OfCustomer: byCustomer},
		{Object: "payment_method", Prefixes: []string{"pm_"}, Events: []string{"payment_method.*"}, Path: "/v1/payment_methods", OfCustomer: byCustomer, Unlisted: true, Unfiltered: true},
		{Object: "refund", Prefixes: []string{"re_", "pyr_"}, Events: []string{"refund.*", "charge.refund.*"}, Path: "/v1/refunds"},
		{Object: "dispute", Prefixes: []string{"du_", "dp_"}, Events: []string{"charge.dispute.*"}, Path: "/v1/disputes"},
		{Object: "checkout.session", Prefixes: []string{"cs_"}, Events: []string{"checkout.session.*"}, Path: "/v1/checkout/sessions", OfCustomer: byCustomer, Lists: []string{"line_items"}},
		{Object: EntitlementSummary, Events: []string{EntitlementSummary + ".*"}, Path: "/v1/entitlements/active_entitlements", Lists: []string{"entitlements"}, Collects: "entitlements", Unlisted: true, Reusable: true},
		{Object: "payout", Prefixes: []string{"po_"}, Events: []string{"payout.*"}, Path: "/v1/payouts"},
		{Object: "transfer", Prefixes: []string{"tr_"}, Events: []string{"transfer.*"}, Path: "/v1/transfers", Lists: []string{"reversals"}},
		{Object: "topup", Prefixes: []string{"tu_"}, Events: []string{"topup.*"}, Path: "/v1/topups"},
		{Object: "payment_link", Prefixes: []string{"plink_"}, Events: []string{"payment_link.*"}, Path: "/v1/payment_links", Unfiltered: true, Lists: []string{"line_items"}},
		{Object: "mandate", Prefixes: []string{"mandate_"}, Events: []string{"mandate.*"}, Path: "/v1/mandates", Unlisted: true},
		{Object: "review", Prefixes: []string{"prv_"}, Events: []string{"review.*"}, Path: "/v1/reviews"},
		{Object: "radar.early_fraud_warning", Prefixes: []string{"issfr_"}, Events: []string{"radar.early_fraud_warning.*"}, Path: "/v1/radar/early_fraud_warnings"},
	} {
		r.Dated = cmp.Or(r.Dated, "created")
		types[r.Object] = &r
	}
}

// OfID returns the name of the type of objects whose ids begin as an id does, or "". No prefix is the beginning of another one.
func OfID(id string) string {
	for object, r := range types {
		for _, prefix := range r.Prefixes {
			if strings.HasPrefix(id, prefix) {
				return object
			}
		}
	}
	return ""
}

// Of returns a type by its name. Of a type that the table does not know, any event may carry the object, and no request is made for
// it to the API.
func Of(object string) *Type {
	return cmp.Or(types[object], &Type{Object: object, Events: []string{"*"}, Reusable: true, Dated: "created"})
}

// KeyedByCustomer reports whether the keys of the type's objects are the ids of customers.
func (t *Type) KeyedByCustomer() bool { return t.Object == "customer" || t.Collects != "" }

// ByCustomer reports whether the objects of one customer can be compared with Stripe: its API lists them by customer, or the type is
// that of customers.
func ByCustomer(object string) bool {
	t := Of(object)
	return t.KeyedByCustomer() || t.OfCustomer != nil
}

// Comparable returns an error that names the first of the types that cannot be compared with Stripe, since it is not known where its
// API has them.
func Comparable(types []string) error {
	for _, object := range types {
		if Of(object).Path == "" {
			return fmt.Errorf("%q is not known in Stripe's API: use a type such as invoice or checkout.session", object)
		}
	}
	return nil
}
