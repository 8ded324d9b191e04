package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// An event that took effect is reprocessed after a confirmation that names its handlers, with a reason. The second time needs a
// confirmation of its own. If the handler fails, the page says so, and the ledger stays as it was.
func TestReprocess(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	const path = "/events/evt_1"
	s.Expect(t, hooktest.Event("evt_1", "test.flaky", 1, `{"id":"obj_1"}`), 500, "") // its payload is kept
	s.broken.Store(false)
	s.Expect(t, hooktest.Event("evt_1", "test.flaky", 1, `{"id":"obj_1"}`), 200, webhooks.OutcomeProcessed)
	s.shows(t, path, `href="`+mountedAt+path+`/reprocess"`)
	s.shows(t, path+"/reprocess", "The handlers of the receiver <code>host</code>", "<code>test.flaky</code>", "Reason")
	form := url.Values{"reason": {"credits were lost <7>"}}
	expect := func(form url.Values, site string, status int, location, count string) {
		t.Helper()
		if got, to := s.post(t, path+"/reprocess", site, form); got != status || to != location {
			t.Errorf("the answer is %d %s, want %d %s", got, to, status, location)
		}
		if got := pgtest.Scan[string](t, s.Pool, `SELECT outcome || ' ' || reprocess_count FROM stripe_webhook_events`); got != "processed "+count {
			t.Errorf("the event is %s, want processed %s", got, count)
		}
	}
	expect(form, "cross-site", 403, "", "0")
	expect(url.Values{"reason": {" "}}, "same-origin", 400, "", "0")
	s.broken.Store(true)
	expect(form, "same-origin", 200, "", "0")
	s.broken.Store(false)
	expect(form, "same-origin", 303, path+"?done=reprocessed", "1")
	s.shows(t, path+"?done=reprocessed", "its handlers have run once more", "credits were lost &lt;7&gt;")
	expect(form, "same-origin", 303, path+"?done=skipped", "1")
	s.shows(t, path+"/reprocess", "It has been reprocessed 1 times", `name="again"`)
	form.Set("again", "yes")
	form.Set("handler", "nobody")
	expect(form, "same-origin", 200, "", "1")
	form.Set("handler", "test.flaky")
	expect(form, "same-origin", 303, path+"?done=reprocessed", "2")
	if runs := pgtest.Scan[string](t, s.Pool, `SELECT string_agg(DISTINCT concat_ws(' ', kind, operator, reason), ',') FROM stripe_webhook_runs`); runs != "reprocess console credits were lost <7>" {
		t.Errorf("the runs are %s", runs)
	}
	s.Expect(t, hooktest.Event("evt_ignored", "other.event", 1, `{"id":"obj_2"}`), 200, webhooks.OutcomeIgnored)
	s.get(t, "/events/evt_ignored/reprocess", 404)
}

// A failing event is dismissed with a reason, and can still be replayed. A user who may only look can do neither.
func TestDismiss(t *testing.T) {
	t.Parallel()
	readOnly := false
	s := newStage(t, &console.Config{ReadOnly: func(*http.Request) bool { return readOnly }})
	s.Expect(t, hooktest.Event("evt_1", "test.flaky", 1, `{"id":"obj_1"}`), 500, "")
	const path = "/events/evt_1"
	form := url.Values{"reason": {"paid by <bank> transfer"}}
	readOnly = true
	for _, action := range []string{"/dismiss", "/reprocess"} {
		if status, _ := s.post(t, path+action, "same-origin", form); status != 403 {
			t.Errorf("%s of a user who may only look is %d", action, status)
		}
	}
	s.get(t, path+"/reprocess", 403)
	if page := s.get(t, path, 200); strings.Contains(page, "/dismiss") {
		t.Error("the button is shown to a user who may only look")
	}
	readOnly = false
	s.shows(t, path, mountedAt+path+"/dismiss")
	if status, _ := s.post(t, path+"/dismiss", "same-origin", nil); status != 400 {
		t.Errorf("without a reason it is %d", status)
	}
	if status, to := s.post(t, path+"/dismiss", "same-origin", form); status != 303 || to != path+"?done=dismissed" {
		t.Errorf("it leads to %d %s", status, to)
	}
	s.shows(t, path+"?done=dismissed", "Dismissed: the event will not be applied", "This event was dismissed: paid by &lt;bank&gt; transfer")
	s.shows(t, "/failures", "No failing events")
	if page := s.get(t, path, 200); strings.Contains(page, "/dismiss\"") || strings.Contains(page, "/reprocess") {
		t.Error("a dismissed event can be dismissed or reprocessed")
	}
	if state := pgtest.Scan[string](t, s.Pool, `SELECT state || ' ' || reason FROM stripe_webhook_failures`); state != "dismissed paid by <bank> transfer" {
		t.Errorf("the record is %s", state)
	}
	s.broken.Store(false)
	if status, to := s.replay(t, "evt_1", "same-origin"); status != 303 || to != path+"?replayed=processed" {
		t.Errorf("the replay leads to %d %s", status, to)
	}
	if status, _ := s.post(t, path+"/dismiss", "same-origin", form); status != 409 {
		t.Errorf("of an event that took effect it is %d", status)
	}
}
