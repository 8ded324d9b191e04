package subscriptions

import (
	"reflect"
	"slices"

	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/rawjson"
)

// Difference is one field in which a stored subscription differs from Stripe's. The JSON names are those
// of the commands' output.
type Difference struct {
	ID string `json:"id"` // the subscription's
	// Field is the column, or "items[si_…].quantity" for a column of an item. It is "id" if one side does not have the
	// subscription; the value of that side is nil. It is "items_complete" if the row has only a part of the items
	// (Local false, Stripe true) or Stripe's response has (Local true, Stripe false). Such a row never counts as equal.
	Field  string `json:"field"`
	Local  any    `json:"local"`
	Stripe any    `json:"stripe"`
}

// field is a column and its value.
type field struct {
	name  string
	value any
}

func (s *Subscription) fields() []field {
	return []field{
		{"customer_id", orNull(s.CustomerID)},
		{"status", string(s.Status)},
		{"price_id", orNull(s.PriceID)},
		{"quantity", s.Quantity},
		{"currency", orNull(s.Currency)},
		{"cancel_at_period_end", s.CancelAtPeriodEnd},
		{"cancel_at", s.CancelAt},
		{"canceled_at", s.CanceledAt},
		{"ended_at", s.EndedAt},
		{"current_period_start", s.CurrentPeriodStart},
		{"current_period_end", s.CurrentPeriodEnd},
		{"trial_start", s.TrialStart},
		{"trial_end", s.TrialEnd},
		{"collection_method", orNull(s.CollectionMethod)},
		{"latest_invoice_id", orNull(s.LatestInvoiceID)},
		{"pause_collection", s.PauseCollection.value()},
		{"schedule_id", orNull(s.ScheduleID)},
		{"default_payment_method_id", orNull(s.DefaultPaymentMethodID)},
		{"discount_ids", s.DiscountIDs},
		{"metadata", s.Metadata},
		{"livemode", s.Livemode},
		{"account_id", orNull(s.AccountID)},
		{"stripe_created_at", s.Created},
	}
}

func (item *Item) fields() []field {
	return []field{
		{"price_id", orNull(item.PriceID)},
		{"product_id", orNull(item.ProductID)},
		{"quantity", item.Quantity},
		{"current_period_start", item.CurrentPeriodStart},
		{"current_period_end", item.CurrentPeriodEnd},
		{"metadata", item.Metadata},
	}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// differences compares a stored subscription with Stripe's.
func differences(id string, local, stripe *Subscription) []engine.Difference {
	found := compareFields(id, "", local.fields(), stripe.fields())
	found = append(found, compareNewer(id, local, stripe)...)
	if !local.ItemsComplete || !stripe.ItemsComplete {
		found = append(found, engine.Difference{ID: id, Field: "items_complete", Local: local.ItemsComplete, Stripe: !local.ItemsComplete, Incomplete: true})
	}
	return append(found, compareItems(id, local.Items, stripe.Items, stripe.ItemsComplete)...)
}

// compareNewer compares fields that not every API version has. A member that is missing in Stripe's response, not even
// null, is not compared.
func compareNewer(id string, local, stripe *Subscription) []engine.Difference {
	var found []engine.Difference
	for _, newer := range []struct{ member, column, local, stripe string }{
		{"customer_account", "customer_account_id", local.CustomerAccountID, stripe.CustomerAccountID},
		{"billing_mode", "billing_mode", local.BillingMode, stripe.BillingMode},
	} {
		if newer.local != newer.stripe && rawjson.Get(stripe.Object, newer.member) != nil {
			found = append(found, engine.Difference{ID: id, Field: newer.column, Local: orNull(newer.local), Stripe: orNull(newer.stripe)})
		}
	}
	return found
}

func compareFields(id, prefix string, local, stripe []field) []engine.Difference {
	var found []engine.Difference
	for i, one := range local {
		if !reflect.DeepEqual(one.value, stripe[i].value) {
			found = append(found, engine.Difference{ID: id, Field: prefix + one.name, Local: one.value, Stripe: stripe[i].value})
		}
	}
	return found
}

// compareItems compares the items, whatever their order. An item that is missing in a truncated list of Stripe's is no
// difference: it may be on a further page.
func compareItems(id string, local, stripe []Item, complete bool) []engine.Difference {
	var found []engine.Difference
	for i := range local {
		prefix := "items[" + local[i].ID + "]"
		at := slices.IndexFunc(stripe, func(other Item) bool { return other.ID == local[i].ID })
		if at < 0 {
			if complete {
				found = append(found, engine.Difference{ID: id, Field: prefix, Local: local[i].ID, Stripe: nil})
			}
			continue
		}
		found = append(found, compareFields(id, prefix+".", local[i].fields(), stripe[at].fields())...)
	}
	for i := range stripe {
		if !slices.ContainsFunc(local, func(other Item) bool { return other.ID == stripe[i].ID }) {
			found = append(found, engine.Difference{ID: id, Field: "items[" + stripe[i].ID + "]", Local: nil, Stripe: stripe[i].ID})
		}
	}
	return found
}
