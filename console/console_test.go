package console_test

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
)

// stage is a receiver whose handler of test.flaky fails while it is broken, and its console, mounted in a host's group.
type stage struct {
	*hooktest.Host
	server *httptest.Server
	broken atomic.Bool
}

const mountedAt = "/admin/acme/stripe"

// newStage starts a stage that mirrors types of objects.
func newStage(t *testing.T, config *console.Config, mirrored ...string) *stage {
	t.Helper()
	s := &stage{}
	s.broken.Store(true)
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	if len(mirrored) > 0 {
		mirror.Register(h, &mirror.Config{Types: mirrored})
	}
	webhooks.On(h, "test.flaky", func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error {
		if s.broken.Load() {
			return errors.New(`no <b>credit</b> "left"`)
		}
		return nil
	})
	s.Host = hooktest.New(t, h, nil)
	e := echo.New()
	echov4.MountConsole(e.Group("/admin/:tenant/stripe"), console.New(s.Pool, s.Receiver, config))
	s.server = httptest.NewServer(e)
	t.Cleanup(s.server.Close)
	return s
}

// get returns a page. The path is below the mount point.
func (s *stage) get(t *testing.T, path string, want int) string {
	t.Helper()
	resp, err := http.Get(s.server.URL + mountedAt + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%s is %d, %v, want %d:\n%s", path, resp.StatusCode, err, want, text)
	}
	if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("%s has the policy %q", path, policy)
	}
	return string(text)
}

func (s *stage) shows(t *testing.T, path string, want ...string) {
	t.Helper()
	page := s.get(t, path, 200)
	for _, text := range want {
		if !strings.Contains(page, text) {
			t.Errorf("%s does not show %q:\n%s", path, text, page)
		}
	}
}

// post posts a form as a browser does, and returns the status and the redirect's location.
func (s *stage) post(t *testing.T, path, site string, form url.Values) (status int, location string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+mountedAt+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", site)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, strings.TrimPrefix(resp.Header.Get("Location"), mountedAt)
}

// replay presses the button of an event, and returns the redirect's location.
func (s *stage) replay(t *testing.T, id, site string) (status int, location string) {
	t.Helper()
	return s.post(t, "/events/"+url.PathEscape(id)+"/replay", site, nil)
}

// An empty console explains how it is filled.
func TestEmpty(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.shows(t, "", "none yet", "STRIPE_API_KEY", "customer.subscription.*", `href="`+mountedAt+`/events"`)
	s.shows(t, "/events", "The ledger is empty")
	s.shows(t, "/failures", "No failing events")
	s.shows(t, "/subscriptions", "No subscriptions")
	s.get(t, "/events/evt_unknown", 404)
	e := echo.New() // at the root
	echov4.MountConsole(e, console.New(s.Pool, s.Receiver, nil))
	for path, want := range map[string]string{"/": `aria-current="page">Overview`, "/events": `href="/failures"`} {
		answer := httptest.NewRecorder()
		e.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code != 200 || !strings.Contains(answer.Body.String(), want) {
			t.Errorf("at the root, %s is %d:\n%s", path, answer.Code, answer.Body)
		}
	}
	s.get(t, "/subscriptions/sub_unknown", 404)
}

// A failing event is shown, replayed, and then shown as processed.
func TestReplay(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	const id = `evt_<script>alert(1)</script>/"1`
	s.Expect(t, hooktest.Event(id, "test.flaky", 1, `{"id":"obj_1","secret":"<i>"}`), 500, "")
	path := "/events/" + url.PathEscape(id)
	escaped := `no &lt;b&gt;credit&lt;/b&gt; &#34;left&#34;`
	s.shows(t, "", ">1</a>", "failed")
	s.shows(t, "/failures", escaped, mountedAt+path+"/replay")
	s.shows(t, path, mountedAt+"/events?object=obj_1", "<dt>Mode</dt>", escaped, "This event is failing and has not taken effect", "&lt;i&gt;", `method="post"`)
	for _, page := range []string{"", "/failures", path} {
		if text := s.get(t, page, 200); strings.Contains(text, "<script") || strings.Contains(text, "<b>") {
			t.Errorf("%s shows an event's text without escaping it", page)
		}
	}
	if status, _ := s.replay(t, id, "cross-site"); status != http.StatusForbidden {
		t.Errorf("from another site it is %d", status)
	}
	status, to := s.replay(t, id, "same-origin")
	if status != http.StatusSeeOther || to != path+"?replayed=failed" {
		t.Fatalf("while it fails, replay leads to %d %s", status, to)
	}
	s.shows(t, to, "The replay failed: ", "<dd>2</dd>", escaped)
	s.broken.Store(false)
	status, to = s.replay(t, id, "same-origin")
	if status != http.StatusSeeOther || to != path+"?replayed=processed" {
		t.Fatalf("replay leads to %d %s", status, to)
	}
	s.shows(t, to, "Replayed: processed. It has taken effect.", "Took effect")
	s.shows(t, "/failures", "No failing events")
	if page := s.get(t, path, 200); strings.Contains(page, "<form method=\"post\"") {
		t.Error("a processed event can be replayed")
	}
	if page := s.get(t, path+"?replayed=%3Cb%3E", 200); strings.Contains(page, "eplayed") {
		t.Error("a link can set any text")
	}
	if page := s.get(t, path+"?replayed=failed", 200); strings.Contains(page, "eplayed") {
		t.Error("a link can claim a failure of an event that did not fail")
	}
}

// The page names a missing migration.
func TestNotMigrated(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	pgtest.Exec(t, s.Pool, `DROP TABLE stripe_webhook_failures`)
	if page := s.get(t, "/failures", 503); !strings.Contains(page, "lacks a migration") {
		t.Errorf("without a table it is\n%s", page)
	}
}

// The ledger is searched page by page.
func TestLedger(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	for n := range 120 {
		s.Expect(t, hooktest.Event(fmt.Sprintf("evt_%03d", n), fmt.Sprintf("test.kind%d", n%2), 1, fmt.Sprintf(`{"id":"obj_%d"}`, n%3)), 200, webhooks.OutcomeIgnored)
	}
	link := regexp.MustCompile(`rel="next" href="([^"]*)"`)
	row := regexp.MustCompile(`href="` + mountedAt + `/events/(evt_\d+)"`)
	seen := map[string]bool{}
	pages := 0
	for path := "/events?type=test.kind1&span=24h"; path != ""; pages++ {
		page := s.get(t, path, 200)
		for _, match := range row.FindAllStringSubmatch(page, -1) {
			if seen[match[1]] {
				t.Errorf("%s is shown twice", match[1])
			}
			seen[match[1]] = true
		}
		path = ""
		if next := link.FindStringSubmatch(page); next != nil {
			path = strings.TrimPrefix(html.UnescapeString(next[1]), mountedAt)
		}
	}
	if len(seen) != 60 || pages != 2 {
		t.Errorf("%d events on %d pages", len(seen), pages)
	}
	s.shows(t, "/events?id=evt_007", "evt_007")
	s.shows(t, "/events?object=obj_1", "obj_1")
	s.shows(t, "/events?outcome=processed", "No matching events")
	s.shows(t, "/events?type=test.*", "evt_119")
	s.shows(t, "/events/evt_007", "Ignored: no handler", "test.kind1", mountedAt+"/events?object=obj_1")
	s.shows(t, "", "120 deliveries from", `class="bar ignored"`)
	s.Expect(t, hooktest.Event("evt_007", "test.kind1", 1, `{"id":"obj_1"}`), 200, webhooks.OutcomeDuplicate)
	s.shows(t, "?span=1h", "121 deliveries from", `class="bar duplicate"`)
	pgtest.Exec(t, s.Pool, "UPDATE stripe_webhook_events SET processed_at = '2026-03-03 12:00:00Z' WHERE event_id IN ('evt_004', 'evt_005')")
	pgtest.Exec(t, s.Pool, "UPDATE stripe_webhook_events SET processed_at = '2026-03-01 12:00:00Z' WHERE event_id = 'evt_006'")
	if page := s.get(t, "/events?until=2026-03-03T12:01&span=24h", 200); strings.Count(page, `href="`+mountedAt+`/events/evt_`) != 2 || !strings.Contains(page, `value="2026-03-03T12:01"`) {
		t.Errorf("the day until a time shows\n%s", page)
	}
	s.shows(t, "/events?until=2026-03-03T12:00", "evt_006")
	if page := s.get(t, "/events?until=yesterday", 400); !strings.Contains(page, "This is not a valid time.") {
		t.Errorf("no time: %s", page)
	}
}

// Subscriptions are listed and found, and a subscription's page shows its row and events.
func TestSubscriptions(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	for n := range 60 {
		object := fmt.Sprintf(`{"id":"sub_%d","object":"subscription","customer":"cus_%d","status":"active","created":%d,"metadata":{"plan":"gold"},
			"items":{"data":[{"id":"si_%d","quantity":7,"price":{"id":"price_1","product":"prod_1"}}]}}`, n, n/2, 1000+n, n)
		s.Expect(t, hooktest.Event(fmt.Sprintf("evt_%d", n), "customer.subscription.created", 1, object), 200, webhooks.OutcomeProcessed)
	}
	first := s.get(t, "/subscriptions", 200)
	next := regexp.MustCompile(`rel="next" href="([^"]*)"`).FindStringSubmatch(first)
	if strings.Index(first, "sub_59<") > strings.Index(first, "sub_10<") || next == nil {
		t.Fatalf("the first page:\n%s", first)
	}
	s.shows(t, strings.TrimPrefix(html.UnescapeString(next[1]), mountedAt), "sub_9<", "sub_0<")
	s.Expect(t, hooktest.Event("evt_schedule", "subscription_schedule.created", 1, `{"id":"sub_sched_1"}`), 200, webhooks.OutcomeIgnored)
	s.shows(t, "/events/evt_schedule", mountedAt+"/events?object=sub_sched_1")
	s.shows(t, "/subscriptions?q=cus_3", "sub_6<", "sub_7<")
	s.shows(t, "/subscriptions?q=sub_6", "cus_3")
	s.shows(t, "/subscriptions?q=nothing", "No matching subscriptions")
	s.shows(t, "/subscriptions/sub_6", "si_6", "prod_1", "gold", "evt_6", "&#34;customer&#34;: &#34;cus_3&#34;")
	if page := s.get(t, "/subscriptions/sub_6", 200); strings.Contains(page, "Collection") || strings.Contains(page, "Stripe has more items") {
		t.Errorf("without a pause and with all items:\n%s", page)
	}
	s.Expect(t, hooktest.Event("evt_paused", "customer.subscription.updated", 2, `{"id":"sub_6","object":"subscription","customer":"cus_3","status":"active",
		"pause_collection":{"behavior":"keep_as_draft","resumes_at":1893456000},"schedule":"sub_sched_6","default_payment_method":"pm_6",
		"billing_mode":{"type":"flexible"},"customer_account":"acct_6","discounts":["di_6","di_7"],
		"items":{"has_more":true,"data":[{"id":"si_6","quantity":7,"price":{"id":"price_1","product":"prod_1"}}]}}`), 200, webhooks.OutcomeProcessed)
	s.shows(t, "/subscriptions/sub_6", "paused: keep_as_draft", "Collection resumes", "2030-01-01", "sub_sched_6", "pm_6", "flexible", "acct_6", "di_6 di_7", "Stripe has more items")
	s.get(t, "/subscriptions?before=yesterday+x", 404)
	s.Expect(t, hooktest.Event("evt_flaky", "test.flaky", 1, `{"id":"sub_6"}`), 500, "")
	s.shows(t, "/subscriptions/sub_6", "evt_flaky</a> (test.flaky) is failing: ")
	if page := s.get(t, "/subscriptions/sub_7", 200); strings.Contains(page, "evt_flaky") {
		t.Error("another subscription's page shows the failing event")
	}
}

// HidePayloads hides payloads and objects.
func TestHiddenPayloads(t *testing.T) {
	t.Parallel()
	s := newStage(t, &console.Config{HidePayloads: true})
	s.Expect(t, hooktest.Event("evt_1", "test.flaky", 1, `{"email":"jenny@example.com"}`), 500, "")
	s.Expect(t, hooktest.Event("evt_2", "customer.subscription.created", 1, `{"id":"sub_1","status":"active","note":"jenny@example.com","metadata":{"mail":"jenny@example.com"}}`), 200, webhooks.OutcomeProcessed)
	for _, path := range []string{"/events/evt_1", "/subscriptions/sub_1", "/failures"} {
		if page := s.get(t, path, 200); strings.Contains(page, "jenny") {
			t.Errorf("%s shows a payload", path)
		}
	}
	s.shows(t, "/events/evt_1", "not shown here")
}

// The page says that PostgreSQL did not respond in time.
func TestSlowDatabase(t *testing.T) {
	t.Parallel()
	s := newStage(t, &console.Config{Timeout: 100 * time.Millisecond})
	tx, err := s.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `LOCK TABLE stripe_webhook_events`); err != nil {
		t.Fatal(err)
	}
	if page := s.get(t, "/events", 503); !strings.Contains(page, "The query took too long") {
		t.Error(page)
	}
}
