package mirror

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/webhooks"
)

// trialObject has every kind of value that the table holds: text in several scripts, plain and escaped, times and JSON.
const trialObject = `{
	"id": "trial_stripeonce_%[1]s", "object": "stripeonce_trial", "status": "%[2]s", "customer": "cus_stripeonce_trial_%[1]s", "created": 1767225599,
	"subscription": "sub_stripeonce_trial_%[1]s", "metadata": {"name": "Zoë Groß, 東京 🧾", "escaped": "Zo\u00eb, \u6771\u4eac \ud83e\uddfe"}, "amount": 9007199254740993
}`

// try stores an object with a random id, then its next state, and reads both back. It does not call OnChange.
func try(ctx context.Context, tx pgx.Tx) error {
	s, id := store{ruleOf("stripeonce_trial"), db.New()}, rand.Text()
	trial := func(status string) *webhooks.Event {
		return &webhooks.Event{
			ID: "evt_stripeonce_trial_" + id, Type: "stripeonce_trial.updated", Created: time.Now().Truncate(time.Second),
			APIVersion: "2024-06-20", Object: json.RawMessage(fmt.Sprintf(trialObject, id, status)),
		}
	}
	return engine.Try(ctx, tx, s, func(*Object) bool { return true }, trial("draft"), trial("open"))
}
