// Package notifications sends alerts for Stripe webhook events that fail or park: to Slack, by e-mail and to Sentry. Each
// recipe returns a function for webhooks.Config.OnFailure and OnParked. Copy this file and the one that you need.
package notifications

import (
	"context"
	"fmt"
	"strings"
	"unicode"

	"github.com/pook/stripeonce/webhooks"
)

// FirstAttempts returns a function that notifies of an event's first failure and of an event that parks, and not of Stripe's
// retries.
func FirstAttempts(notify func(ctx context.Context, n webhooks.Notice)) func(ctx context.Context, n webhooks.Notice) {
	return func(ctx context.Context, n webhooks.Notice) {
		if n.Attempts > 1 && !n.Parked && n.Suppressed == 0 { // suppressed notices may be of other events' first failures
			return
		}
		notify(ctx, n)
	}
}

// Describe returns a notice as lines of plain text. Each value is one line, whatever it contains.
func Describe(n webhooks.Notice) string {
	var text strings.Builder
	write := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&text, "%s: %s\n", label, OneLine(value, 1000))
		}
	}
	if n.Parked {
		text.WriteString("A Stripe event is parked: it waits for a person.\n")
	} else {
		text.WriteString("A Stripe event could not be processed.\n")
	}
	write("Event", n.EventID)
	write("Type", n.EventType)
	write("Object", n.ObjectID)
	write("Account", n.Account)
	write("Mode", map[bool]string{true: "live", false: "test"}[n.Livemode])
	write("Receiver", n.Receiver)
	write("Attempts", attempts(n))
	write("Error", fmt.Sprint(n.Err))
	if n.Suppressed > 0 {
		fmt.Fprintf(&text, "Not reported since the last message: %d more. \"stripeonce failures\" lists all.\n", n.Suppressed)
	}
	return text.String()
}

func attempts(n webhooks.Notice) string {
	if n.Attempts == 0 {
		return "unknown, since its record could not be written: only the log has it"
	}
	return fmt.Sprint(n.Attempts)
}

// OneLine returns at most limit characters of a text as one line: a space replaces each line break, control character and
// invisible character, such as those that reverse the direction of text.
func OneLine(text string, limit int) string {
	characters := []rune(strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)))
	if len(characters) > limit {
		return string(characters[:limit-1]) + "…"
	}
	return string(characters)
}
