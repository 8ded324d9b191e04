package notifications

import (
	"context"
	"log/slog"

	"github.com/getsentry/sentry-go"

	"github.com/pook/stripeonce/webhooks"
)

// Sentry returns a function that reports notices to Sentry, with one issue for each event type. The hub is usually
// sentry.CurrentHub(), after sentry.Init.
func Sentry(hub *sentry.Hub, logger *slog.Logger) func(ctx context.Context, n webhooks.Notice) {
	return func(ctx context.Context, n webhooks.Notice) {
		hub := hub.Clone()
		hub.ConfigureScope(func(scope *sentry.Scope) {
			scope.SetFingerprint([]string{"stripe event", n.Receiver, n.EventType}) // error texts may differ in ids
			scope.SetTags(map[string]string{                                        // at most 200 characters, without line breaks
				"stripe.event_id":   OneLine(n.EventID, 200),
				"stripe.event_type": OneLine(n.EventType, 200),
				"stripe.receiver":   OneLine(n.Receiver, 200),
			})
			scope.SetContext("Stripe event", sentry.Context{
				"id": n.EventID, "type": n.EventType, "object": n.ObjectID, "account": n.Account, "livemode": n.Livemode,
				"created": n.Created, "attempts": n.Attempts, "suppressed": n.Suppressed,
			})
		})
		if hub.CaptureException(n.Err) == nil || !hub.FlushWithContext(ctx) {
			logger.ErrorContext(ctx, "could not report an event to Sentry", "event_id", n.EventID)
		}
	}
}
