package subscriptions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// optional has the columns of a subscription's optional members.
type optional struct {
	Pause, Account, Schedule, PaymentMethod, BillingMode, Discounts string
}

const optionalSQL = `SELECT coalesce(pause_collection::text, ''), coalesce(customer_account_id, ''), coalesce(schedule_id, ''),
	coalesce(default_payment_method_id, ''), coalesce(billing_mode, ''), discount_ids::text FROM subscriptions`

// Values of optional members and the resulting columns. No value fails the event: the object is stored unchanged.
func TestOptionalColumns(t *testing.T) {
	t.Parallel()
	none := optional{Discounts: "{}"}
	with := func(change func(*optional)) optional {
		o := none
		change(&o)
		return o
	}
	discounts := func(text string) optional { return with(func(o *optional) { o.Discounts = text }) }
	pause := func(text string) optional { return with(func(o *optional) { o.Pause = text }) }
	for members, want := range map[string]optional{
		`"x":1`: none,
		`"pause_collection":null,"customer_account":null,"schedule":null,"default_payment_method":null,"billing_mode":null,"discounts":null,"discount":null`: none,
		// PHP's encodings of empty objects, and empty objects.
		`"pause_collection":[],"customer_account":[],"schedule":[],"default_payment_method":[],"billing_mode":[],"discounts":[],"discount":[]`:  none,
		`"pause_collection":{ },"customer_account":{},"schedule":{},"default_payment_method":{},"billing_mode":{},"discounts":{},"discount":{}`: none,
		// Shapes that Stripe never had.
		`"pause_collection":"void","customer_account":7,"schedule":true,"default_payment_method":[1],"billing_mode":3.5,"discounts":"x","discount":false`: none,
		`"pause_collection":7,"schedule":{"id":7},"default_payment_method":{"id":null},"billing_mode":{"type":{}},"discounts":[7,null,{},{"id":8},[]]`:    none,
		`"pause_collection":{"resumes_at":"tomorrow","behavior":5}`:                                                                                       pause(`{"behavior": 5, "resumes_at": "tomorrow"}`),
		// Stripe's shapes.
		`"pause_collection":{"behavior":"void","resumes_at":1800000000}`: pause(`{"behavior": "void", "resumes_at": 1800000000}`),
		`"customer_account":"acct_1","schedule":"sub_sched_1","default_payment_method":"pm_1","billing_mode":{"flexible":null,"type":"classic"}`: {
			"", "acct_1", "sub_sched_1", "pm_1", "classic", "{}"},
		`"customer_account":{"id":"acct_1"},"schedule":{"id":"sub_sched_1"},"default_payment_method":{"id":"pm_1","object":"payment_method"},"billing_mode":"flexible"`: {
			"", "acct_1", "sub_sched_1", "pm_1", "flexible", "{}"},
		`"discounts":["di_2",{"id":"di_1"},"di_3"],"discount":{"id":"di_3"}`: discounts("{di_2,di_1,di_3}"),
		`"discounts":[],"discount":{"id":"di_1","coupon":{"id":"half"}}`:     discounts("{di_1}"),
		`"discount":{"id":"di_1"}`:                  discounts("{di_1}"),
		`"discount":{"coupon":{"id":"half"}}`:       none, // in old versions, discounts have no ids
		`"discounts":["di_1"],"discounts":["di_2"]`: discounts("{di_2}"),
	} {
		t.Run(members, func(t *testing.T) {
			t.Parallel()
			var after *subscriptions.Subscription
			host := newHost(t, &subscriptions.Config{OnChange: func(_ context.Context, _ pgx.Tx, c subscriptions.Change) error {
				after = c.After
				return nil
			}})
			host.Expect(t, hooktest.Event("evt_1", updatedType, 1, object("active", ","+members)), 200, webhooks.OutcomeProcessed)
			var got optional
			row := host.Pool.QueryRow(t.Context(), optionalSQL)
			if err := row.Scan(&got.Pause, &got.Account, &got.Schedule, &got.PaymentMethod, &got.BillingMode, &got.Discounts); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the columns (-want +got):\n%s", diff)
			}
			pauseText := cmp.Transformer("text", func(raw json.RawMessage) string {
				var value any
				if err := json.Unmarshal(raw, &value); err != nil {
					return ""
				}
				return fmt.Sprint(value)
			})
			if diff := cmp.Diff(after, get(t, host, "sub_1"), pauseText); diff != "" {
				t.Errorf("OnChange and the stored row differ (-OnChange +stored):\n%s", diff)
			}
			// Another event with the same state changes nothing.
			host.Expect(t, hooktest.Event("evt_2", updatedType, 2, object("active", ","+members)), 200, webhooks.OutcomeStale)
		})
	}
}

// Each of these changes alone calls OnChange and changes the digest. An equal value in another form does neither.
func TestOptionalChanges(t *testing.T) {
	t.Parallel()
	var changes []string
	host := newHost(t, &subscriptions.Config{OnChange: func(_ context.Context, _ pgx.Tx, c subscriptions.Change) error {
		changes = append(changes, c.Event.ID)
		return nil
	}})
	bare := newHost(t, nil)
	const more = `"billing_mode":{"type":"flexible"}`
	var want []string
	for i, c := range []struct {
		members string
		outcome webhooks.Outcome
	}{
		{`"a":1`, "processed"},
		{`"pause_collection":{"behavior":"void","resumes_at":null}`, "processed"},
		{`"pause_collection":{"resumes_at": null, "behavior": "void"}`, "stale"},
		{`"pause_collection":{"behavior":"void"}`, "stale"},
		{`"pause_collection":{"behavior":"keep_as_draft"}`, "processed"},
		{`"pause_collection":{"behavior":"keep_as_draft","resumes_at":1800000000}`, "processed"},
		{`"pause_collection":{"resumes_at":1.8e9,"behavior":"keep_as_draft"}`, "stale"},
		{`"pause_collection":{"resumes_at":1800000000,"behavior":"keep_as_draft","new":"x"}`, "processed"},
		{`"pause_collection":null`, "processed"},
		{`"schedule":"sub_sched_1"`, "processed"},
		{`"schedule":{"id":"sub_sched_1","phases":[]}`, "stale"},
		{`"schedule":"sub_sched_2"`, "processed"},
		{`"default_payment_method":"pm_1"`, "processed"},
		{`"default_payment_method":null`, "processed"},
		{`"customer_account":"acct_1"`, "processed"},
		{`"customer_account":"acct_1",` + more, "processed"},
		{`"customer_account":"acct_1","billing_mode":"flexible"`, "stale"},
		{more, "processed"},
		{more + `,"discounts":["di_1","di_2"]`, "processed"},
		{more + `,"discounts":[{"id":"di_1"},{"id":"di_2"}]`, "stale"},
		{more + `,"discounts":["di_2","di_1"]`, "processed"}, // in Stripe's order
		{more + `,"discount":{"id":"di_1"}`, "processed"},
		{more + `,"discounts":["di_1"]`, "stale"},
	} {
		id := fmt.Sprintf("evt_%02d", i)
		body := hooktest.Event(id, updatedType, int64(i), object("active", ","+c.members))
		host.Expect(t, body, 200, c.outcome)
		bare.Expect(t, body, 200, c.outcome)
		if c.outcome == "processed" {
			want = append(want, id)
		}
	}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Errorf("OnChange was called for (-want +got):\n%s", diff)
	}
}

// A row whose digest covers other fields, written by an earlier version, counts as changed once.
func TestDigestOfOtherFields(t *testing.T) {
	t.Parallel()
	host := newHost(t, nil)
	for i, want := range []webhooks.Outcome{"processed", "stale", "processed", "stale", "stale"} {
		if i == 2 {
			pgtest.Exec(t, host.Pool, `UPDATE subscriptions SET digest = overlay(digest placing '\x00112233445566778899aabbccddeeff' from 1)`)
		}
		host.Expect(t, hooktest.Event(fmt.Sprintf("evt_%d", i), updatedType, int64(i), object("active", `,"items":{"data":[{"id":"si_1"}]}`)), 200, want)
	}
}
