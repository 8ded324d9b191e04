// Package reason carries the reason why a delivery took no effect from the receiver to a test in the same process, in a header
// of the response. Other responses have no such header.
package reason

import (
	"context"
	"net/http"
	"strconv"
)

const header = "Webhookstest-Reason"

type key struct{}

// With returns the context of a request whose response gets the reason. The receiver handles one request with it.
func With(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, new(string)) }

// Note keeps the reason for WriteHeader.
func Note(ctx context.Context, text string) {
	if at, ok := ctx.Value(key{}).(*string); ok {
		*at = text
	}
}

// WriteHeader adds the noted reason to the header of a response that is not yet written.
func WriteHeader(ctx context.Context, to http.Header) {
	if at, ok := ctx.Value(key{}).(*string); ok && *at != "" {
		to.Set(header, strconv.QuoteToASCII(*at))
	}
}

// In returns the reason in the header of a response. Empty: there is none.
func In(from http.Header) string {
	text, err := strconv.Unquote(from.Get(header))
	if err != nil {
		return ""
	}
	return text
}
