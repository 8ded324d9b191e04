package webhooks

import (
	"context"

	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/redact"
	"github.com/pook/stripeonce/internal/storable"
)

// keepPayload returns the query that stores the payloads of events that are recorded; none without Config.KeepPayloads. A payload
// that jsonb cannot hold is left out, as that of an event that is not of ParseEvent: Stripe has it. So is that of a customer
// whose data was erased.
func (t *transaction) keepPayload(writers ...*delivery) []pgpipe.Query {
	if !t.receiver.config.KeepPayloads {
		return nil
	}
	var ids, payloads []string
	for _, d := range writers {
		if d.erased {
			continue
		}
		if payload, err := storable.JSON(d.received.raw); err == nil && len(payload) > 0 {
			ids, payloads = append(ids, d.id()), append(payloads, string(redact.Secrets(payload)))
		}
	}
	queries := t.receiver.queries
	switch len(ids) {
	case 0:
		return nil
	case 1:
		return []pgpipe.Query{func(ctx context.Context, db pgpipe.DBTX) error {
			return pgpipe.Wrap("keep the payload", queries.StripeWebhookPayloadInsert(ctx, db, ids[0], []byte(payloads[0])))
		}}
	}
	return []pgpipe.Query{func(ctx context.Context, db pgpipe.DBTX) error {
		err := queries.StripeWebhookPayloadInsertAll(ctx, db, ids, payloads)
		return pgpipe.Wrap("keep payloads", err)
	}}
}
