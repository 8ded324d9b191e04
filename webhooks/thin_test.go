package webhooks_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// The context of a thin event names its account. All of it goes back to Stripe, and its last part is the account.
func TestThinContext(t *testing.T) {
	t.Parallel()
	seen := &seenBy{}
	api := newStripeAPI(t, map[string]string{customerPath: aCustomer})
	host := hooktest.New(t, seen.handlers("customer.updated"), api.config)
	for context, want := range map[string]string{`"acct_1"`: "|acct_1|", `"org_1/acct_2"`: "|org_1/acct_2|", `"org_1/org_2/acct_3"`: "|org_1/org_2/acct_3|", `null`: "||"} {
		id := "evt_" + want
		host.Expect(t, thinEvent(id, "v1.customer.updated", time.Now(), noTwin+`,"context":`+context), 200, webhooks.OutcomeProcessed)
		expectAsked(t, api, customerPath+"|"+want+"|event="+id)
		account := strings.Trim(want, "|")
		account = account[strings.LastIndexByte(account, '/')+1:]
		seen.expect(t, id+" customer.updated "+account+" "+aCustomer+" ")
		if got := pgtest.Scan[string](t, host.Pool, `SELECT COALESCE(account_id, '') FROM stripe_webhook_events WHERE event_id = $1`, id); got != account {
			t.Errorf("the ledger's account is %q, want %q", got, account)
		}
	}
	host.Expect(t, thinEvent("evt_1", "v1.customer.updated", time.Now(), `,"context":7`), 400, "")
}

// The snapshot events of an organization have a context and no account.
func TestSnapshotContext(t *testing.T) {
	t.Parallel()
	api := newStripeAPI(t, map[string]string{"/v1/invoices/in_1": `{"id":"in_1","object":"invoice"}`})
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
		if ev.Current == nil {
			return webhooks.Fetch(webhooks.FetchOptions{})
		}
		return nil
	})
	host := hooktest.New(t, h, api.config)
	for context, want := range map[string]string{"acct_1": "|acct_1|2024-06-20|", "org_1/acct_2": "|org_1/acct_2|2024-06-20|"} {
		body := hooktest.Event("evt_"+want, "invoice.paid", 1, `{"id":"in_1","object":"invoice"}`)
		host.Expect(t, []byte(strings.Replace(string(body), `"livemode"`, `"context":"`+context+`","livemode"`, 1)), 200, webhooks.OutcomeProcessed)
		expectAsked(t, api, "/v1/invoices/in_1|"+want)
	}
	accounts := pgtest.Scan[string](t, host.Pool, `SELECT string_agg(account_id, ' ' ORDER BY account_id) FROM stripe_webhook_events`)
	if accounts != "acct_1 acct_2" {
		t.Errorf("the ledger's accounts are %s", accounts)
	}
}

// An event that comes without the member snapshot_event is fetched, to learn of its snapshot event and its changes. One that
// says null has none.
func TestThinTwinIsLearned(t *testing.T) {
	t.Parallel()
	seen := &seenBy{}
	api := newStripeAPI(t, map[string]string{
		customerPath: aCustomer,
		"/v2/core/events/evt_thin": string(thinEvent("evt_thin", "v1.customer.updated", time.Now(),
			`,"snapshot_event":"evt_twin","changes":{"before":{"name":"then"},"after":{"name":"now"}}`)),
		"/v2/core/events/evt_other": string(thinEvent("evt_another", "v1.customer.updated", time.Now(), "")),
	})
	host := hooktest.New(t, seen.handlers("customer.updated"), api.config)
	withKey := host
	withKey.Expect(t, thinEvent("evt_thin", "v1.customer.updated", time.Now(), `,"context":"acct_1"`), 200, webhooks.OutcomeProcessed)
	expectAsked(t, api, "/v2/core/events/evt_thin||acct_1|2026-09-30.endive|event=evt_thin", customerPath+"||acct_1||event=evt_thin")
	seen.expect(t, `evt_twin customer.updated acct_1 `+aCustomer+` {"name":"then"}`)
	twin := hooktest.Event("evt_twin", "customer.updated", 1, aCustomer)
	host.Expect(t, twin, 200, webhooks.OutcomeDuplicate)
	host.Expect(t, thinEvent("evt_thin", "v1.customer.updated", time.Now(), `,"context":"acct_1"`), 200, webhooks.OutcomeDuplicate)
	expectAsked(t, api) // the twin is remembered
	hooktest.On(t, host.Pool, seen.handlers("customer.updated"), api.config).Expect(t, thinEvent("evt_thin", "v1.customer.updated", time.Now(), `,"context":"acct_1"`), 200, webhooks.OutcomeDuplicate)
	expectAsked(t, api, "/v2/core/events/evt_thin||acct_1|2026-09-30.endive|event=evt_thin")
	// An event that failed is fetched again, with its changes.
	seen.fail = true
	api.set("/v2/core/events/evt_failing", string(thinEvent("evt_failing", "v1.customer.updated", time.Now(), `,"snapshot_event":"evt_failing_twin","changes":{"before":{"name":"then"}}`)))
	host.Expect(t, thinEvent("evt_failing", "v1.customer.updated", time.Now(), ""), 500, "")
	seen.list, seen.fail = nil, false
	host.Expect(t, thinEvent("evt_failing", "v1.customer.updated", time.Now(), ""), 200, webhooks.OutcomeProcessed)
	seen.expect(t, `evt_failing_twin customer.updated  `+aCustomer+` {"name":"then"}`)
	api.asked()

	host.Expect(t, thinEvent("evt_none", "v1.customer.updated", time.Now(), noTwin), 200, webhooks.OutcomeProcessed)
	expectAsked(t, api, customerPath+"||||event=evt_none")
	host.Expect(t, thinEvent("evt_other", "v1.customer.updated", time.Now(), ""), 503, "")
	host.Expect(t, thinEvent("evt_unhandled", "v1.customer.created", time.Now(), ""), 200, webhooks.OutcomeIgnored)
	expectAsked(t, api, "/v2/core/events/evt_other|||2026-09-30.endive|event=evt_other")
}

// A handler gets the changes of a thin event as previous attributes.
func TestThinChanges(t *testing.T) {
	t.Parallel()
	seen := &seenBy{}
	api := newStripeAPI(t, map[string]string{customerPath: aCustomer})
	host := hooktest.New(t, seen.handlers("customer.updated"), api.config)
	for changes, want := range map[string]string{
		`{"before":{"name":"then"},"after":{"name":"now"}}`: `{"name":"then"}`, `null`: "", `{"before":null}`: "", `{"before":{"a\u0000":1}}`: `{"a\ufffd":1}`, `[]`: "", `{}`: "",
	} {
		id := "evt_" + want
		if len(changes) < 18 {
			id += changes
		}
		id = strings.Map(func(r rune) rune {
			if r == '"' || r == '\\' {
				return -1
			}
			return r
		}, id)
		host.Expect(t, thinEvent(id, "v1.customer.updated", time.Now(), noTwin+`,"changes":`+changes), 200, webhooks.OutcomeProcessed)
		seen.expect(t, id+" customer.updated  "+aCustomer+" "+want)
	}
}

// Handlers that are registered for exactly a v2 event's type run with the object of its related_object.url; others do not.
func TestV2Events(t *testing.T) {
	t.Parallel()
	const eventType, path = "v2.core.account[configuration.merchant].capability_status_updated", "/v2/core/accounts/acct_7"
	seen, all := &seenBy{}, &seenBy{}
	h := seen.handlers(eventType, "v2.core.thing.pinged")
	webhooks.On(h, "*", all.handle)
	webhooks.On(h, "v2.*", all.handle)
	api := newStripeAPI(t, map[string]string{path: `{"id":"acct_7","object":"v2.core.account"}`})
	host := hooktest.New(t, h, func(c *webhooks.Config) { api.config(c); c.APIVersion = "2025-03-31.basil" })
	about := `,"related_object":{"id":"acct_7","type":"v2.core.account","url":"` + path + `"}`
	host.Expect(t, thinEvent("evt_1", eventType, time.Now(), about), 200, webhooks.OutcomeProcessed)
	expectAsked(t, api, path+"|||2026-09-30.endive|event=evt_1")
	seen.expect(t, `evt_1 `+eventType+`  {"id":"acct_7","object":"v2.core.account"} `)
	host.Expect(t, thinEvent("evt_2", "v2.core.account.updated", time.Now(), about), 200, webhooks.OutcomeIgnored)
	// One about nothing that can be fetched has its data.
	host.Expect(t, thinEvent("evt_3", "v2.core.thing.pinged", time.Now(), `,"related_object":null,"data":{"pings":1}`), 200, webhooks.OutcomeProcessed)
	expectAsked(t, api)
	seen.expect(t, `evt_3 v2.core.thing.pinged  {"pings":1} `)
	all.expect(t)
	withoutKey := hooktest.On(t, host.Pool, h, nil)
	withoutKey.Expect(t, thinEvent("evt_4", eventType, time.Now(), about), 200, webhooks.OutcomeIgnored)
	host.Expect(t, thinEvent("evt_4", eventType, time.Now(), about), 200, webhooks.OutcomeProcessed)
}

// An object that Stripe does not have (yet) is asked for again for an hour. Then the event is ignored, provisionally. A
// deletion's event has a stub.
func TestThinObjectIsMissing(t *testing.T) {
	t.Parallel()
	seen, logs := &seenBy{}, &logged{}
	api := newStripeAPI(t, map[string]string{})
	host := hooktest.New(t, seen.handlers("customer.updated", "customer.deleted"), func(c *webhooks.Config) { api.config(c); logs.config(c) })
	young := thinEvent("evt_young", "v1.customer.updated", time.Now().Add(-59*time.Minute), noTwin)
	host.Expect(t, young, 503, "")
	if n := host.Count(t, "stripe_webhook_failures") + host.Count(t, "stripe_webhook_events"); n != 0 {
		t.Errorf("an event whose object may come leaves %d rows", n)
	}
	old := thinEvent("evt_old", "v1.customer.updated", time.Now().Add(-61*time.Minute), noTwin)
	host.Expect(t, old, 200, webhooks.OutcomeIgnored)
	if got := host.Receiver.Stats().MissingObjects; got != 1 || !strings.Contains(logs.String(), "evt_old") {
		t.Errorf("%d missing objects are counted, and the log is:\n%s", got, logs)
	}
	host.Expect(t, thinEvent("evt_deleted", "v1.customer.deleted", time.Now(), noTwin), 200, webhooks.OutcomeProcessed)
	seen.expect(t, `evt_deleted customer.deleted  {"deleted":true,"id":"cus_1","object":"customer"} `)
	api.set(customerPath, aCustomer)
	host.Expect(t, young, 200, webhooks.OutcomeProcessed)
	host.Expect(t, old, 200, webhooks.OutcomeProcessed)
	seen.expect(t, "evt_young customer.updated  "+aCustomer+" ", "evt_old customer.updated  "+aCustomer+" ")
}

// A key that may not see the object is no reason to forget the event: 503, and a record, since that does not pass by itself.
func TestThinObjectIsForbidden(t *testing.T) {
	t.Parallel()
	seen := &seenBy{}
	for _, status := range []string{"401", "403"} {
		for name, c := range map[string]struct {
			body func(id string) []byte
			path string
		}{
			"the object": {func(id string) []byte {
				return thinEvent(id, "v1.customer.updated", time.Now().Add(-2*time.Hour), noTwin)
			}, customerPath},
			"the event": {func(id string) []byte { return thinEvent(id, "v1.customer.updated", time.Now().Add(-2*time.Hour), "") }, "/v2/core/events/evt_1"},
		} {
			t.Run(name+" "+status, func(t *testing.T) {
				t.Parallel()
				api := newStripeAPI(t, map[string]string{customerPath: aCustomer, "/v2/core/events/evt_1": string(thinEvent("evt_1", "v1.customer.updated", time.Now(), ""))})
				api.set(c.path, status)
				host := hooktest.New(t, seen.handlers("customer.updated"), api.config)
				host.Expect(t, c.body("evt_1"), 503, "")
				record := pgtest.Scan[string](t, host.Pool, `SELECT event_id || ' ' || attempts || ' ' || state || ' ' || last_error FROM stripe_webhook_failures`)
				if !strings.HasPrefix(record, "evt_1 1 failing ") || !strings.Contains(record, "the API key may not read the object") {
					t.Errorf("the record is %q", record)
				}
				if strings.Contains(record, "sk_test") {
					t.Error("the record shows the key")
				}
			})
		}
	}
}

// A burst of thin events of one object takes two requests: one of the first, and one for those that arrived meanwhile.
func TestThinBurstSharesRequests(t *testing.T) {
	t.Parallel()
	const events = 20
	seen := &seenBy{}
	h := seen.handlers("customer.subscription.updated")
	subscriptions.Register(h, nil)
	const path = "/v1/subscriptions/sub_1"
	api := newStripeAPI(t, map[string]string{path: `{"id":"sub_1","object":"subscription","customer":"cus_1","status":"active"}`})
	api.reached, api.release = make(chan string, events), make(chan struct{})
	host := hooktest.New(t, h, func(c *webhooks.Config) {
		api.config(c)
		c.Timeout, c.LockTimeout, c.FetchTimeout = pgtest.WaitLimit, pgtest.WaitLimit, pgtest.WaitLimit
	})
	body := func(i int) []byte {
		return thinEvent(fmt.Sprint("evt_", i), "v1.customer.subscription.updated", time.Now(),
			noTwin+`,"related_object":{"id":"sub_1","type":"subscription","url":"`+path+`"}`)
	}
	var wg sync.WaitGroup
	outcomes := make(chan webhooks.Outcome, events)
	send := func(i int) {
		wg.Go(func() { outcomes <- host.Send(t, body(i)).Outcome() })
	}
	send(0)
	pgtest.Receive(t, "the first request", api.reached)
	for i := 1; i < events; i++ {
		send(i)
	}
	pgtest.AwaitEqual(t, "the number of deliveries in flight", events, func() int { return host.Receiver.Stats().InFlight })
	close(api.release)
	wg.Wait()
	for range events {
		if outcome := <-outcomes; outcome != webhooks.OutcomeProcessed {
			t.Errorf("an outcome is %q", outcome)
		}
	}
	if n := len(api.asked()); n != 2 {
		t.Errorf("%d requests for %d events, want 2", n, events)
	}
	if n := host.Count(t, "stripe_webhook_events"); n != events {
		t.Errorf("%d events are in the ledger", n)
	}
}

// Stripe says that it failed to generate an event: the object is fetched, and the projections of the event's type store it.
func TestEventGenerationFailure(t *testing.T) {
	t.Parallel()
	const path = "/v1/subscriptions/sub_1"
	seen, own := &seenBy{}, &seenBy{}
	h := seen.handlers("customer.subscription.updated", "*")
	webhooks.On(h, webhooks.HealthEvent, own.handle)
	subscriptions.Register(h, nil)
	object := `{"id":"sub_1","object":"subscription","customer":"cus_1","status":"past_due"}`
	api := newStripeAPI(t, map[string]string{path: object})
	host := hooktest.New(t, h, api.config)
	data := `,"data":{"alert_id":"a","impact":{"context":"org_1/acct_1","event_type":"customer.subscription.updated",
		"related_object":{"id":"sub_1","type":"subscription","url":"` + path + `"}}}`
	health := func(id, more string) []byte {
		return []byte(strings.Replace(string(thinEvent(id, webhooks.HealthEvent, time.Now(), more)), `"related_object":{"id":"cus_1","type":"customer","url":"/v1/customers/cus_1"}`, `"related_object":null`, 1))
	}
	host.Expect(t, health("evt_1", data), 200, webhooks.OutcomeProcessed)
	expectAsked(t, api, path+"||org_1/acct_1||event=evt_1")
	own.expect(t, "evt_1 "+webhooks.HealthEvent+" acct_1 "+object+" ")
	seen.expect(t)
	if got := pgtest.Scan[string](t, host.Pool, `SELECT status || ' ' || account_id || ' ' || last_event_id FROM subscriptions`); got != "past_due acct_1 evt_1" {
		t.Errorf("the subscription is %s", got)
	}
	// The notification may lack the data, which the event at Stripe has.
	api.set("/v2/core/events/evt_2", string(health("evt_2", data)))
	api.set(path, strings.Replace(object, "past_due", "canceled", 1))
	host.Expect(t, health("evt_2", ""), 200, webhooks.OutcomeProcessed)
	expectAsked(t, api, "/v2/core/events/evt_2|||2026-09-30.endive|event=evt_2", path+"||org_1/acct_1||event=evt_2")
	if got := pgtest.Scan[string](t, host.Pool, `SELECT status FROM subscriptions`); got != "canceled" {
		t.Errorf("the subscription is %s", got)
	}
	// One that does not say which event was lost runs the handlers of the health event alone.
	api.set("/v2/core/events/evt_silent", string(health("evt_silent", `,"data":{"alert_id":"a"}`)))
	own.list = nil
	host.Expect(t, health("evt_silent", ""), 200, webhooks.OutcomeProcessed)
	own.expect(t, "evt_silent "+webhooks.HealthEvent+`  {"alert_id":"a"} `)
	api.asked()
	// Of an event type without a projection only the handlers of the health event run.
	own.list = nil
	host.Expect(t, health("evt_3", strings.Replace(data, "customer.subscription.updated", "invoice.created", 1)), 200, webhooks.OutcomeProcessed)
	own.expect(t, "evt_3 "+webhooks.HealthEvent+" acct_1 "+strings.Replace(object, "past_due", "canceled", 1)+" ")
}

// Config.APIVersion is the version of objects of /v1, whatever the event's is.
func TestAPIVersion(t *testing.T) {
	t.Parallel()
	seen := &seenBy{}
	for version, want := range map[string]string{"": "", "2025-03-31.basil": "2025-03-31.basil"} {
		api := newStripeAPI(t, map[string]string{customerPath: aCustomer})
		host := hooktest.New(t, seen.handlers("customer.updated"), func(c *webhooks.Config) { api.config(c); c.APIVersion = version })
		host.Expect(t, thinEvent("evt_1", "v1.customer.updated", time.Now(), noTwin), 200, webhooks.OutcomeProcessed)
		expectAsked(t, api, customerPath+"|||"+want+"|event=evt_1")
	}
	// An organization's key needs a version and an account.
	api := newStripeAPI(t, map[string]string{customerPath: aCustomer})
	host := hooktest.New(t, seen.handlers("customer.updated"), func(c *webhooks.Config) { api.config(c); c.APIKey = "sk_org_test_1" })
	host.Expect(t, thinEvent("evt_1", "v1.customer.updated", time.Now(), noTwin+`,"context":"org_1/acct_1"`), 200, webhooks.OutcomeProcessed)
	expectAsked(t, api, customerPath+"||org_1/acct_1|2026-09-30.endive|event=evt_1")
}

// An event that failed before its twin was known has its record settled once it takes effect under the twin's id.
func TestFailureBeforeTheTwinIsKnown(t *testing.T) {
	t.Parallel()
	seen := &seenBy{}
	api := newStripeAPI(t, map[string]string{customerPath: aCustomer, "/v2/core/events/evt_thin": "403"})
	host := hooktest.New(t, seen.handlers("customer.updated"), api.config)
	bare := thinEvent("evt_thin", "v1.customer.updated", time.Now(), "")
	host.Expect(t, bare, 503, "")
	api.set("/v2/core/events/evt_thin", string(thinEvent("evt_thin", "v1.customer.updated", time.Now(), `,"snapshot_event":"evt_twin"`)))
	host.Expect(t, bare, 200, webhooks.OutcomeProcessed)
	record := pgtest.Scan[string](t, host.Pool, `SELECT concat_ws(' ', event_id, state, reason) FROM stripe_webhook_failures`)
	if record != "evt_thin dismissed it took effect as evt_twin" {
		t.Errorf("the record is %s", record)
	}
}

// Concurrent duplicates of an event that must be fetched share the request.
func TestConcurrentBareDuplicates(t *testing.T) {
	t.Parallel()
	seen := &seenBy{}
	const path = "/v2/core/events/evt_thin"
	api := newStripeAPI(t, map[string]string{customerPath: aCustomer, path: string(thinEvent("evt_thin", "v1.customer.updated", time.Now(), `,"snapshot_event":"evt_twin"`))})
	api.reached, api.release = make(chan string, 10), make(chan struct{})
	host := hooktest.New(t, seen.handlers("customer.updated"), func(c *webhooks.Config) {
		api.config(c)
		c.Timeout, c.FetchTimeout = pgtest.WaitLimit, pgtest.WaitLimit
	})
	bare := thinEvent("evt_thin", "v1.customer.updated", time.Now(), "")
	replies := sendAll(t, host, bare, bare, bare, bare)
	pgtest.Receive(t, "the first request", api.reached)
	pgtest.AwaitEqual(t, "the number of deliveries in flight", 4, func() int { return host.Receiver.Stats().InFlight })
	close(api.release)
	for _, reply := range replies() {
		if !reply.OK() {
			t.Error(reply)
		}
	}
	requests := 0
	for _, asked := range api.asked() {
		if strings.HasPrefix(asked, path) {
			requests++
		}
	}
	if requests != 1 || len(seen.list) != 1 {
		t.Errorf("%d requests for the event, and %d runs of the handler", requests, len(seen.list))
	}
}
