package subscriptions

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/webhooks"
)

// trialObject is a subscription with every kind of value that the tables hold: text in several scripts, plain and escaped,
// times, numbers, JSON and an array. %[1]s is a random text in every id. %[2]s is a second item, which is removed later.
const trialObject = `{
	"id": "sub_stripeonce_trial_%[1]s", "object": "subscription", "status": "active", "customer": "cus_stripeonce_trial_%[1]s", "created": 1767225599,
	"currency": "eur", "trial_end": 951827696, "latest_invoice": "in_stripeonce_trial_%[1]s", "cancel_at": 32503679999,
	"metadata": {"name": "Zoë Groß, 東京 🧾", "escaped": "Zo\u00eb, \u6771\u4eac \ud83e\uddfe"},
	"pause_collection": {"behavior": "void", "resumes_at": null}, "discounts": ["di_%[1]s_1", "di_%[1]s_2"],
	"items": {"object": "list", "has_more": false, "data": [
		{"id": "si_stripeonce_trial_%[1]s", "created": 1767225599, "price": {"id": "price_東京", "product": "prod_%[1]s"}, "quantity": 3, "metadata": {},
			"current_period_start": 1767225599, "current_period_end": 1769904000}%[2]s
	]}
}`

const trialItem = `, {"id": "si_stripeonce_trial_%[1]s_2", "created": 1767225600, "price": {"id": "price_%[1]s"}, "quantity": 9007199254740993, "metadata": {"ß": "é"}}`

// try stores a subscription with a random id, then its next state, and reads both back. It does not call OnChange.
func (s store) try(ctx context.Context, tx pgx.Tx) error {
	id := rand.Text()
	hasItems := func(sub *Subscription) bool { return len(sub.Items) > 0 }
	return engine.Try(ctx, tx, s, hasItems, trialEvent(id, trialItem), trialEvent(id, ""))
}

func trialEvent(id, secondItem string) *webhooks.Event {
	return &webhooks.Event{
		ID: "evt_stripeonce_trial_" + id, Type: "customer.subscription.updated", Created: time.Now().Truncate(time.Second),
		APIVersion: "2024-06-20", Object: json.RawMessage(fmt.Sprintf(strings.Replace(trialObject, "%[2]s", secondItem, 1), id)),
	}
}
