package webhooks

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/storable"
)

// failureTimeout bounds the writing of a failure's record. Its own short transaction, after the
// rollback: the failed one keeps nothing.
const failureTimeout = 2 * time.Second

// noteFailure records that an event failed, so that it can be seen and applied again. What is not the
// event's failure (ErrUnavailable) or no event (ErrInvalidEvent) leaves no record. If the record cannot
// be written, the log has the failure all the same.
func (r *Receiver) noteFailure(ctx context.Context, w *work, failure error) {
	if errors.Is(failure, ErrUnavailable) || errors.Is(failure, ErrInvalidEvent) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), failureTimeout)
	defer cancel()
	params := db.StripeWebhookFailureUpsertParams{EventID: w.recordedID, EventType: w.snapshotType(), LastError: errorText(failure)}
	if raw := w.delivered.raw; raw != nil && !r.config.DropPayloads {
		// A payload that jsonb cannot hold is left out; Stripe has it.
		if payload, err := storable.JSON(raw); err == nil {
			params.Payload = payload
		}
	}
	if err := r.queries.StripeWebhookFailureUpsert(ctx, r.pool, params); err != nil {
		r.config.Logger.ErrorContext(ctx, "a failure's record could not be written", "event_id", w.recordedID, "error", err)
	}
}

// errorText is an error's text as the column holds it: valid, without NUL, and cut to MaxErrorLength.
func errorText(err error) string {
	text := strings.ToValidUTF8(strings.ReplaceAll(safeError(err), "\x00", ""), string(utf8.RuneError))
	for i := range text {
		if i >= MaxErrorLength {
			return text[:i] + "…"
		}
	}
	return text
}

// safeError is err.Error() of an error that may panic.
func safeError(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = "an error whose Error method panics"
		}
	}()
	return err.Error()
}
