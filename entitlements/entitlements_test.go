package entitlements_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/entitlements"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/webhooks"
)

// list is a list of entitlements with lookup keys.
func list(more bool, keys ...string) string {
	elements := make([]string, len(keys))
	for i, key := range keys {
		elements[i] = fmt.Sprintf(`{"id":"ent_%[1]s","object":"entitlements.active_entitlement","feature":"feat_%[1]s","livemode":false,"lookup_key":%[1]q}`, key)
	}
	return fmt.Sprintf(`{"object":"list","data":[%s],"has_more":%v,"url":"/v1/nowhere"}`, strings.Join(elements, ","), more)
}

// summary is an event of a summary of cus_1.
func summary(id string, second int64, entitlements string) []byte {
	return hooktest.Event(id, "entitlements.active_entitlement_summary.updated", 1767225600+second,
		`{"object":"entitlements.active_entitlement_summary","customer":"cus_1","livemode":false,"entitlements":`+entitlements+`}`)
}

// has is the answer of Has in words.
func has(t *testing.T, host *hooktest.Host, customer, key string) string {
	t.Helper()
	may, err := entitlements.New(host.Pool).Has(t.Context(), customer, key)
	switch {
	case errors.Is(err, entitlements.ErrIncomplete):
		return "incomplete"
	case err != nil:
		t.Fatal(err)
	}
	return fmt.Sprint(may)
}

func TestWithoutAKey(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	entitlements.Register(h, &entitlements.Config{Logger: hooktest.NoLog()})
	host := hooktest.New(t, h, nil)
	for i, step := range []struct {
		event       []byte
		outcome     webhooks.Outcome
		sso, audit  string // the answers of Has
		listedCount int
	}{
		{summary("evt_1", 1, list(false, "sso", "audit")), "processed", "true", "true", 2},
		{summary("evt_0", 0, list(false)), "stale", "true", "true", 2},
		{summary("evt_2", 2, list(false, "audit", "sso")), "stale", "true", "true", 2}, // the order makes no difference
		{summary("evt_3", 3, list(true, "sso")), "processed", "true", "incomplete", 1},
		{summary("evt_4", 4, list(false)), "processed", "false", "false", 0},
		{summary("evt_5", 5, list(false, "sso")), "processed", "true", "false", 1},
		{summary("evt_5b", 5, list(false, "sso")), "stale", "true", "false", 1}, // the same one of the same second
		{summary("evt_5a", 5, list(false, "sso")), "stale", "true", "false", 1},
		{summary("evt_6", 5, list(false, "audit", "sso")), "processed", "true", "incomplete", 1}, // others of the same second: what all have
		{summary("evt_5c", 5, list(false, "audit")), "processed", "incomplete", "incomplete", 0},
		{summary("evt_6", 5, list(false, "audit", "sso")), "duplicate", "incomplete", "incomplete", 0},
		{summary("evt_7", 6, list(false, "sso")), "processed", "true", "false", 1},
		{summary("evt_8", 7, `null`), "processed", "incomplete", "incomplete", 0},
		{summary("evt_9", 8, list(false, "sso")), "processed", "true", "false", 1},
	} {
		host.Expect(t, step.event, http.StatusOK, step.outcome)
		if sso, audit := has(t, host, "cus_1", "sso"), has(t, host, "cus_1", "audit"); sso != step.sso || audit != step.audit {
			t.Errorf("step %d: sso is %s, audit is %s", i, sso, audit)
		}
		all, err := entitlements.New(host.Pool).List(t.Context(), "cus_1")
		if incomplete := step.sso == "incomplete" || step.audit == "incomplete"; len(all) != step.listedCount || errors.Is(err, entitlements.ErrIncomplete) != incomplete {
			t.Errorf("step %d: the list is %v, %v", i, all, err)
		}
	}
	if may := has(t, host, "cus_2", "sso"); may != "false" {
		t.Errorf("of a customer without events, Has is %s", may)
	}
	view := pgtest.Scan[string](t, host.Pool, `SELECT concat_ws(' ', customer_id, feature_id, lookup_key, id, list_complete) FROM stripe_entitlements`)
	if view != "cus_1 feat_sso sso ent_sso t" {
		t.Errorf("the view has %q", view)
	}
}

// Every order of two summaries of one second ends in the same row, which is incomplete.
func TestOneSecondIsAmbiguous(t *testing.T) {
	t.Parallel()
	events := [][]byte{summary("evt_1", 1, list(false, "sso")), summary("evt_2", 1, list(false)), summary("evt_3", 1, list(false, "sso", "audit"))}
	var rows []string
	hooktest.Permutations(len(events), func(order []int) {
		h := webhooks.NewHandlers()
		entitlements.Register(h, &entitlements.Config{Logger: hooktest.NoLog()})
		host := hooktest.New(t, h, nil)
		for _, i := range order {
			host.Send(t, events[i])
		}
		rows = append(rows, pgtest.Scan[string](t, host.Pool, `SELECT concat_ws(' ', last_event_id, lists_complete, object) FROM stripe_objects`))
	})
	if rows = slices.Compact(rows); len(rows) != 1 || !strings.HasPrefix(rows[0], "evt_3 f ") || !strings.Contains(rows[0], `"data": []`) {
		t.Errorf("the rows are %s", strings.Join(rows, "\n"))
	}
}

// stripe answers with the entitlements of cus_1, two a page.
type stripe struct {
	mu       sync.Mutex
	keys     []string
	status   int // 0: 200
	requests []string
	changes  func(s *stripe) // called after each page
}

func (s *stripe) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	query := req.URL.Query()
	s.requests = append(s.requests, req.URL.Path+" "+query.Get("customer")+" "+query.Get("starting_after"))
	if s.status != 0 {
		http.Error(w, `{"error":{"type":"invalid_request_error","message":"refused"}}`, s.status)
		return
	}
	from := 0
	if after := query.Get("starting_after"); after != "" {
		from = slices.Index(s.keys, strings.TrimPrefix(after, "ent_")) + 1
	}
	to := min(from+2, len(s.keys))
	fmt.Fprint(w, list(to < len(s.keys), s.keys[from:to]...))
	if s.changes != nil {
		s.changes(s)
	}
}

func withStripe(t *testing.T, s *stripe, config *entitlements.Config) *hooktest.Host {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	h := webhooks.NewHandlers()
	entitlements.Register(h, config)
	return hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", server.URL })
}

// With a key, each event fetches all entitlements, from the list and never from the url that the event has.
func TestAllPagesAreFetched(t *testing.T) {
	t.Parallel()
	s := &stripe{keys: []string{"a", "b", "c"}}
	var changes []string
	host := withStripe(t, s, &entitlements.Config{OnChange: func(_ context.Context, _ pgx.Tx, c entitlements.Change) error {
		changes = append(changes, fmt.Sprintf("%s %s granted %v revoked %v complete %v", c.CustomerID, c.Event.ID, keys(c.Granted()), keys(c.Revoked()), c.Complete))
		return nil
	}})
	host.Expect(t, summary("evt_1", 1, list(true, "a")), http.StatusOK, webhooks.OutcomeProcessed)
	const path = "/v1/entitlements/active_entitlements cus_1 "
	if want := []string{path, path + "ent_b", path, path + "ent_b"}; !slices.Equal(s.requests, want) {
		t.Errorf("the requests are %q", s.requests)
	}
	for key, want := range map[string]string{"a": "true", "c": "true", "d": "false"} {
		if got := has(t, host, "cus_1", key); got != want {
			t.Errorf("has %s is %s", key, got)
		}
	}
	s.requests, s.keys = nil, []string{"a", "d"}
	host.Expect(t, summary("evt_2", 1<<33, list(false)), http.StatusOK, webhooks.OutcomeProcessed) // what it says is older than Stripe's answer
	host.Expect(t, summary("evt_3", 0, list(false)), http.StatusOK, webhooks.OutcomeStale)
	if len(s.requests) != 1 {
		t.Errorf("an event of before the answer was fetched for: %q", s.requests)
	}
	want := []string{"cus_1 evt_1 granted [a b c] revoked [] complete true", "cus_1 evt_2 granted [d] revoked [b c] complete true"}
	if !slices.Equal(changes, want) {
		t.Errorf("the changes are %q", changes)
	}
}

func keys(all []entitlements.Entitlement) (keys []string) {
	for _, e := range all {
		keys = append(keys, e.LookupKey)
	}
	return keys
}

// A list that changes while its pages are read is read again: pages of different moments are no state.
func TestAListThatChanges(t *testing.T) {
	t.Parallel()
	pages := 0
	s := &stripe{keys: []string{"a", "b", "c"}}
	s.changes = func(s *stripe) {
		if pages++; pages == 1 {
			s.keys = []string{"a", "b", "d"}
		}
	}
	host := withStripe(t, s, nil)
	host.Expect(t, summary("evt_1", 1, list(true, "a")), http.StatusOK, webhooks.OutcomeProcessed)
	if got := has(t, host, "cus_1", "d") + has(t, host, "cus_1", "c"); got != "truefalse" || len(s.requests) != 4 {
		t.Errorf("d and c are %s after %d requests", got, len(s.requests))
	}
}

// A list that changes each time that it is read leaves the customer incomplete, in a delivery and in a comparison.
func TestAListThatNeverSettles(t *testing.T) {
	t.Parallel()
	n := 0
	s := &stripe{keys: []string{"a", "b", "c"}}
	s.changes = func(s *stripe) {
		n++
		s.keys = []string{"a", "b", fmt.Sprint("c", n)}
	}
	h := webhooks.NewHandlers()
	p := entitlements.Register(h, &entitlements.Config{Logger: hooktest.NoLog()})
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	host := hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", server.URL })
	host.Expect(t, summary("evt_1", 1, list(true, "a")), http.StatusOK, webhooks.OutcomeProcessed)
	if got := has(t, host, "cus_1", "a") + " " + has(t, host, "cus_1", "z"); got != "true incomplete" {
		t.Errorf("a and z are %s", got)
	}
	sum, err := mirror.Verify(t.Context(), host.Pool, &mirror.VerifyConfig{
		Types: mirror.Entitlements, APIKey: "sk_test_1", APIBase: server.URL, Rate: 1e6, Fix: host.Receiver, Projection: p, Only: "cus_1", Logger: hooktest.NoLog(),
	})
	if err != nil || sum.Drifted != 1 || sum.Fixed != 0 {
		t.Errorf("verify: %+v, %v", sum, err)
	}
}

// An event of about the second of Stripe's answer, which nothing orders against it any more, leaves what both have.
func TestAnEventInTheSecondOfAnAnswer(t *testing.T) {
	t.Parallel()
	s := &stripe{keys: []string{"a", "b"}}
	host := withStripe(t, s, &entitlements.Config{Logger: hooktest.NoLog()})
	host.Expect(t, summary("evt_1", 1, list(false)), http.StatusOK, webhooks.OutcomeProcessed)
	at := pgtest.Scan[int64](t, host.Pool, `SELECT extract(epoch FROM as_of)::bigint FROM stripe_objects`) - 1767225600
	s.status = http.StatusForbidden
	host.Expect(t, summary("evt_2", at, list(false, "b", "a")), http.StatusOK, webhooks.OutcomeStale) // the same
	host.Expect(t, summary("evt_3", at, list(false, "b", "c")), http.StatusOK, webhooks.OutcomeProcessed)
	if got := has(t, host, "cus_1", "a") + " " + has(t, host, "cus_1", "b") + " " + has(t, host, "cus_1", "c"); got != "incomplete true incomplete" {
		t.Errorf("a, b and c are %s", got)
	}
}

// A customer of whom there are two rows, since the receiver's account got a name in between, has what the newer one says.
func TestANamedAccount(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	entitlements.Register(h, &entitlements.Config{Logger: hooktest.NoLog()})
	before := hooktest.New(t, h, nil)
	before.Expect(t, summary("evt_1", 1, list(false, "sso")), http.StatusOK, webhooks.OutcomeProcessed)
	named := hooktest.On(t, before.Pool, h, func(c *webhooks.Config) { c.AccountID = "acct_1" })
	named.Expect(t, summary("evt_2", 2, list(false, "audit")), http.StatusOK, webhooks.OutcomeProcessed)
	if got := has(t, named, "cus_1", "sso") + " " + has(t, named, "cus_1", "audit"); got != "false true" {
		t.Errorf("sso and audit are %s", got)
	}
}

// Where the key must not read entitlements, those of the event are stored.
func TestStripeRefuses(t *testing.T) {
	t.Parallel()
	host := withStripe(t, &stripe{status: http.StatusForbidden}, &entitlements.Config{Logger: hooktest.NoLog()})
	host.Expect(t, summary("evt_1", 1, list(false, "a")), http.StatusOK, webhooks.OutcomeProcessed)
	host.Expect(t, summary("evt_2", 2, list(true, "a")), http.StatusOK, webhooks.OutcomeProcessed)
	if got := has(t, host, "cus_1", "a") + " " + has(t, host, "cus_1", "b"); got != "true incomplete" {
		t.Errorf("a and b are %s", got)
	}
}
