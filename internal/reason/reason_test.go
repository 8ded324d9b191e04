package reason_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/pook/stripeonce/internal/reason"
)

// Only a request that wants the reason gets it, and only if there is one.
func TestWriteHeader(t *testing.T) {
	t.Parallel()
	const text = "no such organization\nin line two, \"ü\""
	for _, c := range []struct {
		ctx        context.Context
		text, want string
	}{{context.Background(), text, ""}, {reason.With(context.Background()), "", ""}, {reason.With(context.Background()), text, text}} {
		header := http.Header{}
		reason.Note(c.ctx, c.text)
		reason.WriteHeader(c.ctx, header)
		if got := reason.In(header); got != c.want || c.want == "" && len(header) > 0 {
			t.Errorf("%q gives %q in %v, want %q", c.text, got, header, c.want)
		}
	}
}
