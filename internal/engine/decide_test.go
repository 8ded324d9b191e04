package engine

import (
	"strings"
	"testing"

	"github.com/pook/stripeonce/webhooks"
)

// The warning of a tie-break says what helps: not to set a key that has been asked already.
func TestFixOfATieBreak(t *testing.T) {
	for want, c := range map[string]struct {
		current *webhooks.Current
		refetch Refetch
		path    string
	}{
		"set STRIPE_API_KEY":                {nil, RefetchAmbiguous, "/v1/subscriptions"},
		"is the API key of this account":    {&webhooks.Current{Missing: true}, RefetchAmbiguous, "/v1/subscriptions"},
		"permit the API key to read":        {&webhooks.Current{}, RefetchAmbiguous, "/v1/subscriptions"},
		"compare the object with Stripe":    {&webhooks.Current{Object: []byte(`{}`)}, RefetchAmbiguous, "/v1/subscriptions"},
		"compare the object with Stripe: v": {nil, RefetchAmbiguous, ""},
		"do not set STRIPE_REFETCH":         {nil, RefetchNever, "/v1/subscriptions"},
	} {
		e := New(&Rules{Path: c.path}, nil, Config[struct{}]{Refetch: c.refetch})
		if got := e.fixOf(&webhooks.Event{Current: c.current}); !strings.Contains(got, want) {
			t.Errorf("with %+v it says %q, want %q", c, got, want)
		}
	}
}
