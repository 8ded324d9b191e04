package console_test

import (
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
)

// An event that failed in a process with another set of handlers is not replayed here, and the page says so instead of the old error. A
// dismissed event was not parked by a handler.
func TestReplayWithoutHandler(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error, payload) VALUES ('evt_other', 'invoice.payment_failed', 'no plan "gold"', $1)`,
		string(hooktest.Event("evt_other", "invoice.payment_failed", 1, `{"id":"in_1","object":"invoice"}`)))
	status, location := s.replay(t, "evt_other", "same-origin")
	_, query, _ := strings.Cut(location, "?")
	if page := s.get(t, "/events/evt_other?"+query, 200); status != 303 || !strings.Contains(page, "The replay failed: no handler of this process takes the event. None is registered for invoice.payment_failed") {
		t.Errorf("after %d %s the page is\n%s", status, location, page)
	}
	pgtest.Exec(t, s.Pool, `UPDATE stripe_webhook_events SET outcome = 'parked'`)
	pgtest.Exec(t, s.Pool, `UPDATE stripe_webhook_failures SET state = 'dismissed', reason = 'refunded'`)
	if page := s.get(t, "/events/evt_other", 200); !strings.Contains(page, "<strong>Dismissed</strong>") || strings.Contains(page, "Parked by a handler") {
		t.Errorf("the page of a dismissed event is\n%s", page)
	}
}
