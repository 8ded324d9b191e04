package mirror

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/ordering"
)

// Groups of types, for Config.Types.
var (
	// Billing are the objects of Stripe Billing and of the payments for it.
	Billing = []string{
		"customer", "product", "price", "plan", "coupon", "promotion_code", "tax_id", "tax_rate",
		"invoice", "invoiceitem", "invoice_payment", "credit_note", "subscription_schedule", "quote",
		"charge", "payment_intent", "setup_intent", "payment_method", "refund", "dispute", "checkout.session",
	}
	// Entitlements are what customers may use. Package entitlements reads them.
	Entitlements = []string{summaryType}
	// All are Billing, Entitlements and the other types that the table of rules knows. Identity, issuing and treasury are left out.
	All = slices.Concat(Billing, Entitlements, []string{"payout", "transfer", "topup", "payment_link", "mandate", "review", "radar.early_fraud_warning"})
)

// summaryType is the type of the summary of a customer's active entitlements. It has no id: its key is the customer's.
const summaryType = "entitlements.active_entitlement_summary"

// groups are the groups of types by their names in STRIPEONCE_MIRROR.
var groups = map[string][]string{"billing": Billing, "entitlements": Entitlements, "all": All}

// Types reads a comma-separated list of types and of the groups billing, entitlements and all, as in STRIPEONCE_MIRROR. It returns each type once.
// Its error names an entry that is no type.
func Types(list string) (types []string, err error) {
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		switch group, isGroup := groups[entry]; {
		case entry == "":
		case isGroup:
			types = append(types, group...)
		case entry == "subscription", entry == "subscription_item":
			return nil, fmt.Errorf("%q is always mirrored, into tables of its own: remove it from the list", entry)
		case !typeName.MatchString(entry):
			return nil, fmt.Errorf("%q is not a type of Stripe's objects: use one such as customer, invoice or checkout.session, or the groups billing, entitlements and all", entry)
		default:
			types = append(types, entry)
		}
	}
	slices.Sort(types)
	return slices.Compact(types), nil
}

// typeName matches what Stripe's member object can be.
var typeName = regexp.MustCompile(`^[a-z][a-z0-9_.]{1,254}$`)

// rule is what the mirror knows of an object type.
type rule struct {
	object   string
	prefixes []string // of ids that Stripe makes
	// events are the patterns of the event types that carry the object. Other objects' events may match, too: only those that
	// carry this one are mirrored.
	events []string
	path   string // where the API lists and retrieves it; empty: it does not
	// unlisted reports that the API has no list of all of them: of one customer's alone, or none.
	unlisted   bool
	unfiltered bool // the list does not take created
	// ofCustomer are the parameters with which the list has the objects of one customer, whose id is the value of the empty ones. Nil:
	// it takes no customer.
	ofCustomer url.Values
	// testClocks reports that the list leaves out the objects of test clocks unless it is requested with test_clock.
	testClocks bool
	dated      string   // the member that has the time of creation; empty: created
	lists      []string // the members that are lists of which Stripe renders only the first elements
	// collects is the member with a customer's list that the API has at path with the parameter customer. The object has no id, and
	// its key is the customer's. Empty: it has an id.
	collects string
	// reusable reports that ids are the caller's choice, so that a deleted object can be created again. Only the deletion of
	// another object is final. No other state of any type is: an uncollectible invoice can be paid, and a refund can fail after
	// it succeeded.
	reusable bool
}

// The parameters of lists that take a customer: https://docs.stripe.com/api/invoices/list and https://docs.stripe.com/api/tax_ids/list.
var (
	byCustomer = url.Values{"customer": {""}}
	byOwner    = url.Values{"owner[type]": {"customer"}, "owner[customer]": {""}}
)

// rules is the table of rules, by type. https://docs.stripe.com/api/events/types says which events carry which objects.
var rules = map[string]*rule{}

func init() {
	for _, r := range []rule{
		{object: "customer", prefixes: []string{"cus_"}, testClocks: true, events: []string{"customer.*"}, path: "/v1/customers", lists: []string{"sources", "subscriptions", "tax_ids"}},
		{object: "product", prefixes: []string{"prod_"}, events: []string{"product.*"}, path: "/v1/products", reusable: true},
		{object: "price", prefixes: []string{"price_"}, events: []string{"price.*"}, path: "/v1/prices"},
		{object: "plan", prefixes: []string{"plan_"}, events: []string{"plan.*"}, path: "/v1/plans", reusable: true},
		{object: "coupon", events: []string{"coupon.*"}, path: "/v1/coupons", reusable: true},
		{object: "promotion_code", prefixes: []string{"promo_"}, events: []string{"promotion_code.*"}, path: "/v1/promotion_codes", ofCustomer: byCustomer},
		{object: "tax_id", prefixes: []string{"txi_"}, events: []string{"customer.tax_id.*"}, path: "/v1/tax_ids", ofCustomer: byOwner, unlisted: true, unfiltered: true},
		{object: "tax_rate", prefixes: []string{"txr_"}, events: []string{"tax_rate.*"}, path: "/v1/tax_rates"},
		{object: "invoice", prefixes: []string{"in_"}, events: []string{"invoice.*"}, path: "/v1/invoices", ofCustomer: byCustomer, lists: []string{"lines"}},
		{object: "invoiceitem", prefixes: []string{"ii_"}, events: []string{"invoiceitem.*"}, path: "/v1/invoiceitems", ofCustomer: byCustomer, dated: "date"},
		{object: "invoice_payment", prefixes: []string{"inpay_"}, events: []string{"invoice_payment.*"}, path: "/v1/invoice_payments"},
		{object: "credit_note", prefixes: []string{"cn_"}, events: []string{"credit_note.*"}, path: "/v1/credit_notes", ofCustomer: byCustomer, lists: []string{"lines"}},
		{object: "subscription_schedule", prefixes: []string{"sub_sched_"}, events: []string{"subscription_schedule.*"}, path: "/v1/subscription_schedules", ofCustomer: byCustomer},
		{object: "quote", prefixes: []string{"qt_"}, testClocks: true, events: []string{"quote.*"}, path: "/v1/quotes", unfiltered: true, ofCustomer: byCustomer, lists: []string{"line_items"}},
		{object: "charge", prefixes: []string{"ch_", "py_"}, events: []string{"charge.*"}, path: "/v1/charges", ofCustomer: byCustomer, lists: []string{"refunds"}},
		{object: "payment_intent", prefixes: []string{"pi_"}, events: []string{"payment_intent.*"}, path: "/v1/payment_intents", ofCustomer: byCustomer, lists: []string{"charges"}},
		{object: "setup_intent", prefixes: []string{"seti_"}, events: []string{"setup_intent.*"}, path: "/v1/setup_intents", ofCustomer: byCustomer},
		{object: "payment_method", prefixes: []string{"pm_"}, events: []string{"payment_method.*"}, path: "/v1/payment_methods", ofCustomer: byCustomer, unlisted: true, unfiltered: true},
		{object: "refund", prefixes: []string{"re_", "pyr_"}, events: []string{"refund.*", "charge.refund.*"}, path: "/v1/refunds"},
		{object: "dispute", prefixes: []string{"du_", "dp_"}, events: []string{"charge.dispute.*"}, path: "/v1/disputes"},
		{object: "checkout.session", prefixes: []string{"cs_"}, events: []string{"checkout.session.*"}, path: "/v1/checkout/sessions", ofCustomer: byCustomer, lists: []string{"line_items"}},
		{object: summaryType, events: []string{summaryType + ".*"}, path: "/v1/entitlements/active_entitlements", lists: []string{"entitlements"}, collects: "entitlements", unlisted: true, reusable: true},
		{object: "payout", prefixes: []string{"po_"}, events: []string{"payout.*"}, path: "/v1/payouts"},
		{object: "transfer", prefixes: []string{"tr_"}, events: []string{"transfer.*"}, path: "/v1/transfers", lists: []string{"reversals"}},
		{object: "topup", prefixes: []string{"tu_"}, events: []string{"topup.*"}, path: "/v1/topups"},
		{object: "payment_link", prefixes: []string{"plink_"}, events: []string{"payment_link.*"}, path: "/v1/payment_links", unfiltered: true, lists: []string{"line_items"}},
		{object: "mandate", prefixes: []string{"mandate_"}, events: []string{"mandate.*"}, path: "/v1/mandates", unlisted: true},
		{object: "review", prefixes: []string{"prv_"}, events: []string{"review.*"}, path: "/v1/reviews"},
		{object: "radar.early_fraud_warning", prefixes: []string{"issfr_"}, events: []string{"radar.early_fraud_warning.*"}, path: "/v1/radar/early_fraud_warnings"},
	} {
		r.dated = cmp.Or(r.dated, "created")
		rules[r.object] = &r
	}
}

// typeOfID returns the type of objects whose ids begin as an id does, or "". No prefix is the beginning of another one.
func typeOfID(id string) string {
	for object, r := range rules {
		for _, prefix := range r.prefixes {
			if strings.HasPrefix(id, prefix) {
				return object
			}
		}
	}
	return ""
}

// ruleOf returns the rule of a type. Of a type that the table does not know, any event may carry the object, and the API is not
// asked for it.
func ruleOf(object string) *rule {
	return cmp.Or(rules[object], &rule{object: object, events: []string{"*"}, reusable: true, dated: "created"})
}

// engineRules returns what the engine knows of the type.
func (r *rule) engineRules() *engine.Rules {
	rules := &engine.Rules{
		Rules: r.ordering(), Object: r.object, Path: r.path,
		ByVersion: true, Unlisted: r.unlisted, Unfiltered: r.unfiltered, TestClocks: r.testClocks, OfCustomer: r.ofCustomer, Replaces: true,
	}
	if r.collects != "" {
		rules.Collect = r.collect
	}
	return rules
}

func (r *rule) ordering() ordering.Rules {
	return ordering.Rules{Created: r.creation(), Lists: r.lists}
}

// creation returns the type of the event of the object's creation, which is the first in any case. If the object can be created
// again, it is not.
func (r *rule) creation() string {
	if r.reusable {
		return ""
	}
	return strings.TrimSuffix(r.events[0], "*") + "created"
}
