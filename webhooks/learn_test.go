package webhooks_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/webhooks"
)

// nameless is the notification of a thin event about an object without an id.
func nameless(id, eventType string, at time.Time, more string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"object":"v2.core.event","type":%q,"created":%q,"livemode":false,"related_object":null%s}`,
		id, eventType, at.UTC().Format(time.RFC3339), more)
}

const (
	snapshotPath = "/v1/events/evt_twin"
	upcoming     = `{"object":"invoice","customer":"cus_1","total":7}`
)

// A thin event about an object without an id takes effect with what its snapshot event has, once with it.
func TestObjectInSnapshot(t *testing.T) {
	t.Parallel()
	at := time.Now()
	for name, c := range map[string]struct {
		more string
		asks []string
	}{
		"named": {`,"snapshot_event":"evt_twin","context":"acct_1"`, []string{snapshotPath + "||acct_1||event=evt_thin"}},
		"bare":  {`,"context":"acct_1"`, []string{"/v2/core/events/evt_thin||acct_1|2026-09-30.endive|event=evt_thin", snapshotPath + "||acct_1||event=evt_thin"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := &seenBy{}
			twin := hooktest.Event("evt_twin", "invoice.upcoming", at.Unix(), upcoming)
			api := newStripeAPI(t, map[string]string{
				snapshotPath:               string(twin),
				"/v2/core/events/evt_thin": string(nameless("evt_thin", "v1.invoice.upcoming", at, `,"snapshot_event":"evt_twin"`)),
			})
			host := hooktest.New(t, seen.handlers("invoice.upcoming"), api.config)
			body := nameless("evt_thin", "v1.invoice.upcoming", at, c.more)
			host.Expect(t, body, 200, webhooks.OutcomeProcessed)
			expectAsked(t, api, c.asks...)
			seen.expect(t, "evt_twin invoice.upcoming acct_1 "+upcoming+" ")
			host.Expect(t, body, 200, webhooks.OutcomeDuplicate)
			expectAsked(t, api)
			host.Expect(t, []byte(strings.Replace(string(twin), `"object":"event"`, `"object":"event","account":"acct_1"`, 1)), 200, webhooks.OutcomeDuplicate)
			row := pgtest.Scan[string](t, host.Pool, `SELECT string_agg(concat_ws(' ', event_id, event_type, account_id, object_id), ', ') FROM stripe_webhook_events`)
			if row != "evt_twin invoice.upcoming acct_1 cus_1" {
				t.Errorf("the ledger has %s", row)
			}
		})
	}
}

// Where Stripe does not have the snapshot event yet, or cannot be asked, the event is refused and takes effect later. One that was
// ignored, since there was no key, leaves no row of its own.
func TestObjectInSnapshotLater(t *testing.T) {
	t.Parallel()
	seen := &seenBy{}
	api := newStripeAPI(t, map[string]string{})
	host := hooktest.New(t, seen.handlers("invoice.upcoming"), api.config)
	body := nameless("evt_thin", "v1.invoice.upcoming", time.Now(), `,"snapshot_event":"evt_twin"`)
	hooktest.On(t, host.Pool, seen.handlers("invoice.upcoming"), nil).Expect(t, body, 200, webhooks.OutcomeIgnored)
	host.Expect(t, body, 503, "") // 404
	api.set(snapshotPath, "500")
	host.Expect(t, body, 503, "")
	api.set(snapshotPath, string(hooktest.Event("evt_other", "invoice.upcoming", 1, upcoming)))
	host.Expect(t, body, 503, "")
	seen.expect(t)
	api.set(snapshotPath, string(hooktest.Event("evt_twin", "invoice.upcoming", 1, upcoming)))
	host.Expect(t, body, 200, webhooks.OutcomeProcessed)
	if n := pgtest.Scan[string](t, host.Pool, `SELECT string_agg(event_id || ' ' || outcome, ', ') FROM stripe_webhook_events`); n != "evt_twin processed" {
		t.Errorf("the ledger has %s", n)
	}
	if n := pgtest.Scan[int](t, host.Pool, `SELECT count(*)::int FROM stripe_webhook_failures AS f WHERE NOT EXISTS (SELECT FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id)`); n != 0 {
		t.Errorf("%d failures are left", n)
	}
}

// A summary of entitlements is applied by the mirror. Events of other objects that have no id, and those that name nothing at all,
// are ignored; of the latter the metric tells.
func TestMirroredObjectInSnapshot(t *testing.T) {
	t.Parallel()
	object, err := json.Marshal(map[string]any{"object": mirror.Entitlements[0], "customer": "cus_1", "entitlements": map[string]any{
		"object": "list", "has_more": false, "data": []any{map[string]any{"id": "ent_1", "lookup_key": "sso", "feature": "feat_1"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	api := newStripeAPI(t, map[string]string{
		snapshotPath:         string(hooktest.Event("evt_twin", mirror.Entitlements[0]+".updated", at.Unix(), string(object))),
		"/v1/events/evt_two": string(hooktest.Event("evt_two", "invoice.upcoming", at.Unix(), upcoming)),
	})
	h := webhooks.NewHandlers()
	mirror.Register(h, &mirror.Config{Types: []string{"invoice", mirror.Entitlements[0]}, Refetch: mirror.RefetchNever, Logger: hooktest.NoLog()})
	host := hooktest.New(t, h, api.config)
	host.Expect(t, nameless("evt_1", "v1."+mirror.Entitlements[0]+".updated", at, `,"snapshot_event":"evt_twin"`), 200, webhooks.OutcomeProcessed)
	if keys := pgtest.Scan[string](t, host.Pool, `SELECT string_agg(customer_id || ' ' || lookup_key, ', ') FROM stripe_entitlements`); keys != "cus_1 sso" {
		t.Errorf("the entitlements are %s", keys)
	}
	host.Expect(t, nameless("evt_2", "v1.invoice.upcoming", at, `,"snapshot_event":"evt_two"`), 200, webhooks.OutcomeIgnored)
	if n := host.Receiver.Stats().MissingObjects; n != 0 {
		t.Errorf("%d objects are missing", n)
	}
	host.Expect(t, nameless("evt_3", "v1."+mirror.Entitlements[0]+".updated", at, noTwin), 200, webhooks.OutcomeIgnored)
	if n := host.Receiver.Stats().MissingObjects; n != 1 {
		t.Errorf("%d objects are missing, want 1", n)
	}
}
