package stripesim

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// Truth is the state to which a receiver's row of a subscription must converge, with the names of the tables' columns. It
// comes from the account's own state, not from events. Times are Unix seconds.
type Truth struct {
	ID                 string            `json:"id"`
	CustomerID         string            `json:"customer_id"`
	Status             string            `json:"status"`
	PriceID            string            `json:"price_id"`
	Quantity           int64             `json:"quantity"`
	Currency           string            `json:"currency"`
	CancelAtPeriodEnd  bool              `json:"cancel_at_period_end"`
	CancelAt           *int64            `json:"cancel_at"`
	CanceledAt         *int64            `json:"canceled_at"`
	EndedAt            *int64            `json:"ended_at"`
	CurrentPeriodStart int64             `json:"current_period_start"`
	CurrentPeriodEnd   int64             `json:"current_period_end"`
	TrialStart         *int64            `json:"trial_start"`
	TrialEnd           *int64            `json:"trial_end"`
	CollectionMethod   string            `json:"collection_method"`
	LatestInvoiceID    string            `json:"latest_invoice_id"`
	PauseCollection    any               `json:"pause_collection"` // an object or null, as at Stripe
	CustomerAccountID  *string           `json:"customer_account_id"`
	ScheduleID         *string           `json:"schedule_id"`
	PaymentMethodID    *string           `json:"default_payment_method_id"`
	BillingMode        string            `json:"billing_mode"`
	DiscountIDs        []string          `json:"discount_ids"`
	ItemsComplete      bool              `json:"items_complete"`
	Metadata           map[string]string `json:"metadata"`
	Livemode           bool              `json:"livemode"`
	AccountID          *string           `json:"account_id"`
	Items              []TruthItem       `json:"items"`
}

// TruthItem is one item of a Truth. Their order has no meaning.
type TruthItem struct {
	ID                 string `json:"id"`
	PriceID            string `json:"price_id"`
	ProductID          string `json:"product_id"`
	Quantity           int64  `json:"quantity"`
	CurrentPeriodStart int64  `json:"current_period_start"`
	CurrentPeriodEnd   int64  `json:"current_period_end"`
}

// WriteTruth writes the final objects of which there are events, one JSON object a line: those of Account.Objects, in that order,
// with all items and lines. Each is in the API version of its events. That of a connected account has its id in the member account,
// as events do.
func WriteTruth(w io.Writer, account *Account) error {
	encoder := json.NewEncoder(w)
	write := func(o object, accountID string) error {
		if accountID != "" {
			o["account"] = accountID
		}
		return encoder.Encode(o)
	}
	for _, s := range account.Subscriptions {
		if err := write(s.state.Whole(s.version), s.AccountID); err != nil {
			return err
		}
	}
	for _, st := range account.told() {
		if err := write(st.final(st.eventVersion(), true), st.is().AccountID); err != nil {
			return err
		}
	}
	return nil
}

// Truth returns the current state of the subscription.
func (s *Subscription) Truth() Truth {
	st := &s.state
	oldest := slices.MinFunc(st.Items, func(a, b stripeobject.Item) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID))
	})
	t := Truth{
		ID: st.ID, CustomerID: st.Customer, Status: st.Status, Currency: "usd",
		PriceID: oldest.Price, Quantity: oldest.Quantity,
		CancelAtPeriodEnd: st.CancelAtPeriodEnd, CancelAt: pointer(st.CancelAt), CanceledAt: pointer(st.CanceledAt),
		EndedAt: pointer(st.EndedAt), CurrentPeriodStart: st.PeriodStart, CurrentPeriodEnd: st.PeriodEnd,
		TrialStart: pointer(st.TrialStart), TrialEnd: pointer(st.TrialEnd), CollectionMethod: "charge_automatically",
		LatestInvoiceID: st.LatestInvoice, Metadata: st.Metadata, PauseCollection: st.PauseCollection(),
		ScheduleID: pointer(st.Schedule), PaymentMethodID: pointer(st.PaymentMethod), BillingMode: stripeobject.BillingMode,
		DiscountIDs: append([]string{}, st.Discounts...), ItemsComplete: true,
		AccountID: pointer(s.AccountID),
	}
	for _, it := range st.Items {
		t.Items = append(t.Items, TruthItem{
			ID: it.ID, PriceID: it.Price, ProductID: it.Product, Quantity: it.Quantity,
			CurrentPeriodStart: st.PeriodStart, CurrentPeriodEnd: st.PeriodEnd,
		})
	}
	return t
}

func pointer[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}
