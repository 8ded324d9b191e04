package webhooks

import (
	"errors"
	"fmt"
	"testing"
)

// What is wrong with a request is the sender's mistake only until the event is accepted.
func TestReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err               error
		refused, accepted int
	}{
		{errMethod, 405, 500}, {errBodyTooLarge, 413, 500}, {ErrInvalidSignature, 400, 500}, {ErrInvalidEvent, 400, 500},
		{fmt.Errorf("%w: %w", ErrUnavailable, ErrInvalidEvent), 400, 503}, {ErrTimeout, 500, 500}, {errors.New("no"), 500, 500},
		{fmt.Errorf("%w: %w", ErrUnavailable, ErrNotMigrated), 503, 503}, {fmt.Errorf("%w: %w", ErrUnavailable, ErrShutdown), 503, 503},
		{&HandlerError{EventType: "test.event", Err: ErrUnavailable}, 500, 500}, {&duplicateError{&HandlerError{EventType: "test.event", Err: ErrInvalidSignature}}, 400, 500},
	} {
		refused, _ := reply(c.err, false)
		accepted, _ := reply(c.err, true)
		if refused != c.refused || accepted != c.accepted {
			t.Errorf("%v is %d before the event is accepted and %d after, want %d and %d", c.err, refused, accepted, c.refused, c.accepted)
		}
	}
}
