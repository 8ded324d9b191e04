package mirror

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/objecttypes"
	"github.com/pook/stripeonce/internal/ordering"
)

// Groups of types for Config.Types. Do not change them.
var (
	// Billing has the types of Stripe Billing and of payments.
	Billing = []string{
		"customer", "product", "price", "plan", "coupon", "promotion_code", "tax_id", "tax_rate",
		"invoice", "invoiceitem", "invoice_payment", "credit_note", "subscription_schedule", "quote",
		"charge", "payment_intent", "setup_intent", "payment_method", "refund", "dispute", "checkout.session",
	}
	// Entitlements has the type of the summary of a customer's entitlements. Package entitlements reads it.
	Entitlements = []string{summaryType}
	// All has Billing, Entitlements, payouts, transfers, top-ups, payment links, mandates, reviews and early fraud warnings. Types of
	// Identity, Issuing and Treasury are left out.
	All = slices.Concat(Billing, Entitlements, []string{"payout", "transfer", "topup", "payment_link", "mandate", "review", "radar.early_fraud_warning"})
)

const summaryType = objecttypes.EntitlementSummary

// groups are the groups of types by their names in STRIPEONCE_MIRROR.
var groups = map[string][]string{"billing": Billing, "entitlements": Entitlements, "all": All}

// ParseTypes parses a comma-separated list of types and of the groups billing, entitlements and all, as in STRIPEONCE_MIRROR. It returns each
// type once, sorted. The error names an entry that is not a type.
func ParseTypes(list string) (types []string, err error) {
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
type rule objecttypes.Type

func ruleOf(object string) *rule { return (*rule)(objecttypes.Of(object)) }

// engineRules returns what the engine knows of the type.
func (r *rule) engineRules() *engine.Rules {
	rules := &engine.Rules{
		Rules: r.ordering(), Object: r.Object, Path: r.Path,
		ByVersion: true, Unlisted: r.Unlisted, Unfiltered: r.Unfiltered, TestClocks: r.TestClocks, OfCustomer: r.OfCustomer, Replaces: true,
		NotFound: ErrNotFound, Refused: ErrRefused,
	}
	if r.Collects != "" {
		rules.Collect = r.collect
	}
	return rules
}

func (r *rule) ordering() ordering.Rules {
	return ordering.Rules{Created: r.creation(), Lists: r.Lists}
}

// creation returns the type of the event of the object's creation, which is the first in any case. If the object can be created
// again, it is not.
func (r *rule) creation() string {
	if r.Reusable {
		return ""
	}
	return strings.TrimSuffix(r.Events[0], "*") + "created"
}
