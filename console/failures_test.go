package console_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
)

// seedFailures makes failures of three causes: 60 that fail in test.flaky, 2 of another type, and a parked one.
func (s *stage) seedFailures(t *testing.T) {
	t.Helper()
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, first_failed_at, last_failed_at, last_error, payload)
		SELECT 'evt_flaky' || to_char(n, 'FM000'), 'test.flaky', now() - n * interval '1 minute', now() - n * interval '1 second', 'handler of test.flaky: no <credit> for cus_' || n || 'x',
			jsonb_build_object('id', 'evt_flaky' || to_char(n, 'FM000'), 'object', 'event', 'type', 'test.flaky', 'created', 1, 'livemode', false, 'data', '{"object": {"id": "obj_1"}}'::jsonb)
		FROM generate_series(1, 60) AS n`)
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, first_failed_at, last_failed_at, last_error, account_id)
		SELECT 'evt_other' || n, 'test.other', now() - interval '2 hours', now() - interval '2 hours', 'timeout', 'acct_1' FROM generate_series(1, 2) AS n`)
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error, state) VALUES ('evt_parked', 'test.parked', 'who?', 'parked')`)
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_parked', 'test.parked', 'parked', false)`)
}

var (
	linkToEvent = regexp.MustCompile(`/events/(evt_\w+)"`)
	linkToGroup = regexp.MustCompile(`href="` + mountedAt + `(/failures\?group=[^"]*)"`)
)

// idsIn are the events that a page links to, without repetition.
func idsIn(page string) (ids []string) {
	seen := map[string]bool{}
	for _, match := range linkToEvent.FindAllStringSubmatch(page, -1) {
		if !seen[match[1]] {
			ids = append(ids, match[1])
		}
		seen[match[1]] = true
	}
	return ids
}

// Failures are grouped by their error, with the ids of their events, and filtered by type, state and account.
func TestFailuresAreGrouped(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.seedFailures(t)
	page := s.get(t, "/failures", 200)
	for _, want := range []string{
		"63 events, grouped by type and error", "no &lt;credit&gt; for cus_…</h2>", "<strong>60 events</strong>", "Replay these 60</a>", "Dismiss these 60</a>", "All 60 events",
		"The last error:</span> <code>no &lt;credit&gt; for cus_1x</code>", "<summary>45 more</summary>", "<strong>1 event</strong>", "first failure <time", " UTC)</span>",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the groups do not show %q:\n%s", want, page)
		}
	}
	// The newest come first, in each group and among the groups. A group of 60 names 50.
	ids := strings.Join(idsIn(page), " ")
	if n := strings.Count(ids, "evt_"); n != 53 || !strings.HasPrefix(ids, "evt_parked evt_flaky001 evt_flaky002 ") || !strings.Contains(ids, "evt_flaky050 evt_other") {
		t.Errorf("it names the events %s", ids)
	}
	for path, want := range map[string]string{
		"?type=test.other": "evt_other2 evt_other1", "?state=parked": "evt_parked", "?state=failing&type=test.p*": "", "?account=acct_1&type=test.*": "evt_other2 evt_other1",
		"?account=acct_2": "", "?view=list&type=test.other": "evt_other2 evt_other1", "?view=list&state=parked": "evt_parked",
	} {
		page := s.get(t, "/failures"+path, 200)
		if got := strings.Join(idsIn(page), " "); got != want {
			t.Errorf("%s shows %q, want %q", path, got, want)
		}
		if shown := strings.Contains(page, "No matching events"); shown != (want == "") {
			t.Errorf("%s says that nothing matches: %t", path, shown)
		}
	}
	s.get(t, "/failures?state=dismissed", 404)
	s.get(t, "/failures?group=x", 404)
	s.shows(t, "/failures?group=000000000000", "No event of this group is left")
}

// A group lists all of its events, page by page. So does the plain list.
func TestFailuresOfGroup(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.seedFailures(t)
	next := regexp.MustCompile(`rel="next" href="([^"]*)"`)
	for first, want := range map[string]int{html.UnescapeString(linkToGroup.FindStringSubmatch(s.get(t, "/failures?type=test.flaky", 200))[1]): 60, "/failures?view=list": 63} {
		seen, pages := map[string]bool{}, 0
		for path := first; path != ""; pages++ {
			page := s.get(t, path, 200)
			for _, id := range idsIn(page) {
				seen[id] = true
			}
			path = ""
			if link := next.FindStringSubmatch(page); link != nil {
				path = strings.TrimPrefix(html.UnescapeString(link[1]), mountedAt)
			}
		}
		if len(seen) != want || pages != 2 {
			t.Errorf("%s shows %d events on %d pages, want %d on 2", first, len(seen), pages, want)
		}
	}
}

// ask follows a group's button to the page that asks, and returns that page and its form.
func (s *stage) ask(t *testing.T, path, button string) (page string, form url.Values) {
	t.Helper()
	match := regexp.MustCompile(`href="` + mountedAt + `(/runs/new\?[^"]*)"[^>]*>` + button + `<`).FindStringSubmatch(s.get(t, path, 200))
	if match == nil {
		t.Fatalf("%s has no button %q", path, button)
	}
	page = s.get(t, html.UnescapeString(match[1]), 200)
	form = url.Values{}
	for _, input := range hiddenInput.FindAllStringSubmatch(page, -1) {
		form.Set(input[1], html.UnescapeString(input[2]))
	}
	return page, form
}

// ended starts a run with a form, and waits for its end.
func (s *stage) ended(t *testing.T, form url.Values) (run *operations.Run, path string) {
	t.Helper()
	pgtest.Await(t, "the run before has ended", func() bool {
		status, location := s.post(t, "/runs", "same-origin", form)
		path = location
		return status == http.StatusSeeOther
	})
	pgtest.Await(t, "the run ends", func() bool {
		var err error
		if run, err = operations.New(s.Pool, nil).Run(t.Context(), strings.TrimPrefix(path, "/runs/")); err != nil {
			t.Fatal(err)
		}
		return run.FinishedAt != nil
	})
	return run, path
}

// A group is dismissed in the background, with a reason, after a page that names what will happen. What fails after that page was shown
// is left.
func TestDismissGroupFromConsole(t *testing.T) {
	t.Parallel()
	s := newStage(t, &console.Config{User: func(*http.Request) string { return "ada" }, Logger: hooktest.NoLog()})
	s.seedFailures(t)
	page, form := s.ask(t, "/failures", "Dismiss these 60")
	for _, want := range []string{"<h1>Dismiss 60 events</h1>", "60 events of the type <code>test.flaky</code>", "no &lt;credit&gt; for cus_…", "need not be applied", "required", "those that fail after 20"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page that asks does not show %q:\n%s", want, page)
		}
	}
	for _, reason := range []string{"", " ", strings.Repeat("x", 501)} {
		form.Set("reason", reason)
		if status, _ := s.post(t, "/runs", "same-origin", form); status != http.StatusBadRequest {
			t.Errorf("with the reason %.9q it is %d", reason, status)
		}
	}
	if n := s.Count(t, "stripe_webhook_runs"); n != 0 {
		t.Fatalf("without a reason there are %d runs", n)
	}
	s.Expect(t, hooktest.Event("evt_late", "test.flaky", 1, `{}`), 500, "")
	pgtest.Exec(t, s.Pool, `UPDATE stripe_webhook_failures SET last_error = 'handler of test.flaky: no <credit> for cus_9x' WHERE event_id = 'evt_late'`)
	form.Set("reason", "never <paid>")
	run, path := s.ended(t, form)
	if run.Kind != operations.RunDismiss || run.CountsText() != "dismissed 60, failed 0, skipped 0" || run.Operator != "console (ada)" || run.Reason != "never <paid>" || run.Error != "" {
		t.Errorf("the run is %+v: %s", run, run.CountsText())
	}
	s.shows(t, path, "<dt>dismissed</dt><dd>60 </dd>", "never &lt;paid&gt;", mountedAt+"/failures?group="+form.Get("group"))
	if got := strings.Join(idsIn(s.get(t, "/failures?type=test.flaky", 200)), " "); got != "evt_late" {
		t.Errorf("left are %s", got)
	}
	if got := pgtest.Scan[string](t, s.Pool, `SELECT concat_ws(' ', count(*), min(reason), max(reason)) FROM stripe_webhook_failures WHERE state = 'dismissed'`); got != "60 never <paid> never <paid>" {
		t.Errorf("dismissed are %s", got)
	}
	if text := s.get(t, "/runs/new?"+url.Values{"do": {"dismiss"}, "group": {"000000000000"}}.Encode(), 409); !strings.Contains(text, "No event of this group is left") {
		t.Errorf("of an empty group it says\n%s", text)
	}
}

// A group is replayed in the background, its failing events and its parked ones. The run counts what fails again.
func TestReplayGroupFromConsole(t *testing.T) {
	t.Parallel()
	s := newStage(t, &console.Config{Logger: hooktest.NoLog()})
	s.seedFailures(t)
	page, form := s.ask(t, "/failures", "Replay these 60")
	for _, want := range []string{"<h1>Replay 60 events</h1>", "an event takes effect once", "the receiver <code>host</code>", "<code>test.flaky</code>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page that asks does not show %q:\n%s", want, page)
		}
	}
	pgtest.Exec(t, s.Pool, `UPDATE stripe_webhook_failures SET state = 'parked' WHERE event_id = 'evt_flaky003'`)
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_flaky003', 'test.flaky', 'parked', false)`)
	if run, _ := s.ended(t, form); run.Kind != operations.RunReplay || run.CountsText() != "failed 60, tried 60" || run.ArgumentsText() != "group "+form.Get("group") {
		t.Errorf("while it is broken the run is %+v: %s", run, run.CountsText())
	}
	s.broken.Store(false)
	_, form = s.ask(t, "/failures", "Replay these 60") // of another error now
	form.Set("reason", "fixed")
	run, path := s.ended(t, form)
	if run.CountsText() != "failed 0, tried 60" || run.Reason != "fixed" || run.Error != "" {
		t.Errorf("the run is %+v: %s", run, run.CountsText())
	}
	s.shows(t, path, "<dt>tried</dt><dd>60 </dd>", ">finished<")
	if got := pgtest.Scan[string](t, s.Pool, `SELECT string_agg(DISTINCT outcome, ' ') FROM stripe_webhook_events WHERE event_type = 'test.flaky'`); got != "processed" {
		t.Errorf("the events are %s", got)
	}
}

// What failed in another program's receiver is left to that program.
func TestReplayGroupOfAnotherReceiver(t *testing.T) {
	t.Parallel()
	s := newStage(t, &console.Config{Logger: hooktest.NoLog()})
	s.seedFailures(t)
	pgtest.Exec(t, s.Pool, `UPDATE stripe_webhook_failures SET receiver = 'billing' WHERE event_id = 'evt_flaky003'`)
	page, form := s.ask(t, "/failures", "Replay these 60")
	for _, want := range []string{"<h1>Replay 59 events</h1>", "1 event of this group failed in another receiver, and is left out"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page that asks does not show %q:\n%s", want, page)
		}
	}
	s.broken.Store(false)
	if run, _ := s.ended(t, form); run.CountsText() != "failed 0, tried 59" {
		t.Errorf("the run is %+v: %s", run, run.CountsText())
	}
	if left := pgtest.Scan[string](t, s.Pool, `SELECT string_agg(event_id, ' ') FROM stripe_webhook_failures AS f WHERE event_type = 'test.flaky' AND NOT EXISTS (SELECT FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id)`); left != "evt_flaky003" {
		t.Errorf("not applied are %s", left)
	}
	if page := s.get(t, "/runs/new?"+form.Encode(), 409); !strings.Contains(page, "failed in another receiver, whose handlers this process does not have: billing") {
		t.Errorf("it shows\n%s", page)
	}
}

// A user who may only look has no button of a group, and can start nothing.
func TestGroupsReadOnly(t *testing.T) {
	t.Parallel()
	s := newStage(t, &console.Config{ReadOnly: func(*http.Request) bool { return true }})
	s.seedFailures(t)
	page := s.get(t, "/failures", 200)
	if strings.Contains(page, "Replay") || strings.Contains(page, "/runs/new") || !strings.Contains(page, "evt_flaky001") {
		t.Errorf("a user who may only look sees\n%s", page)
	}
	form := url.Values{"do": {"dismiss"}, "group": {"000000000000"}, "reason": {"x"}}
	s.get(t, "/runs/new?"+form.Encode(), 403)
	if status, _ := s.post(t, "/runs", "same-origin", form); status != http.StatusForbidden || s.Count(t, "stripe_webhook_runs") != 0 {
		t.Errorf("a user who may only look gets %d", status)
	}
}

// The ledger is searched by customer, and an event links to Stripe's dashboard, of its account and mode.
func TestEventsOfCustomer(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil, "invoice")
	for n := range 3 {
		s.Expect(t, hooktest.Event(fmt.Sprint("evt_in", n), "invoice.paid", int64(n), fmt.Sprintf(`{"id":"in_%d","object":"invoice","customer":"cus_%d"}`, n, n%2)), 200, "processed")
	}
	if got := strings.Join(idsIn(s.get(t, "/events?customer=cus_0", 200)), " "); got != "evt_in2 evt_in0" {
		t.Errorf("the customer's events are %s", got)
	}
	s.shows(t, "/events?customer=cus_0&type=invoice.*", `name="customer" value="cus_0"`, "The events of 3 objects of this customer", mountedAt+"/customers/cus_0")
	s.shows(t, "/events?customer=cus_9", "No matching events")
	if text := s.get(t, "/events?customer=cus_0&object=in_0", 400); !strings.Contains(text, "leave one of the two fields empty") {
		t.Errorf("an object and a customer give\n%s", text)
	}
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error, account_id) VALUES ('evt_bare', 'a.b', 'x', 'acct_1')`)
	pgtest.Exec(t, s.Pool, `UPDATE stripe_webhook_events SET livemode = true, account_id = 'acct_1' WHERE event_id = 'evt_in1'`)
	for path, want := range map[string]string{
		"/events/evt_in0":       `href="https://dashboard.stripe.com/test/events/evt_in0"`,
		"/events/evt_in1":       `href="https://dashboard.stripe.com/acct_1/events/evt_in1"`,
		"/events/evt_bare":      `href="https://dashboard.stripe.com/acct_1/events/evt_bare" rel="noreferrer">in live mode</a> · <a href="https://dashboard.stripe.com/acct_1/test/events/evt_bare"`,
		"/objects/invoice/in_0": `href="https://dashboard.stripe.com/test/invoices/in_0"`,
		"/customers/cus_0":      `href="https://dashboard.stripe.com/test/customers/cus_0"`,
	} {
		s.shows(t, path, want)
	}
}
