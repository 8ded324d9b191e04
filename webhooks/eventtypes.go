package webhooks

import (
	"log/slog"
	"strings"

	"github.com/pook/stripeonce/internal/eventtypes"
)

// warnOfUnknownTypes warns of each registered type that matches no known type of Stripe's events: its handler may never run.
func warnOfUnknownTypes(h *Handlers, logger *slog.Logger) {
	for _, pattern := range h.Types() {
		if eventtypes.Matches(pattern) {
			continue
		}
		if v1, thin := strings.CutPrefix(pattern, thinPrefix); thin && eventtypes.Matches(v1) {
			logger.Warn("a handler is registered for a type of thin events, which run the handlers of the type without v1.",
				"event_type", pattern, "fix", "register "+v1)
			continue
		}
		logger.Warn("a handler is registered for a type that matches no known Stripe event type", "event_type", pattern,
			"fix", "check the spelling"+eventtypes.Meant(pattern)+"; a type may also be newer than this version's list")
	}
}
