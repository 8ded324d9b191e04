package stripeapi_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/internal/stripeapi"
)

// A run in which everything that failed was refused has come to its end. Any other error can be resolved by running it again.
func TestOnlyRefusals(t *testing.T) {
	t.Parallel()
	refused := stripeapi.Explain(&stripe.Error{HTTPStatusCode: 403})
	broken := errors.New("unexpected end of JSON input")
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nothing":                        {nil, false},
		"a refusal":                      {fmt.Errorf("account acct_1: %w", refused), true},
		"refusals of two accounts":       {errors.Join(refused, fmt.Errorf("account acct_1: %w", refused)), true},
		"a refusal and another error":    {fmt.Errorf("invoice: %w", errors.Join(refused, broken)), false},
		"too many requests":              {&stripe.Error{HTTPStatusCode: 429}, false},
		"no answer":                      {&stripe.Error{HTTPStatusCode: 500}, false},
		"the end of the context":         {errors.Join(refused, context.Canceled), false},
		"an error with two causes, both": {fmt.Errorf("%w: %w", refused, refused), true},
	} {
		if got := stripeapi.OnlyRefusals(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
