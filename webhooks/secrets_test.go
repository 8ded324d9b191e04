package webhooks_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v79/webhook"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// A key that was read from a file with a line end goes to Stripe without it.
func TestAPIKeyIsTrimmed(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[string]
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		authorization := r.Header.Get("Authorization")
		got.Store(&authorization)
	}))
	t.Cleanup(api.Close)
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error { return nil })
	host := hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = " sk_test_1\n", api.URL })
	const thin = `{"id":"evt_thin","object":"v2.core.event","type":"v1.invoice.paid","created":"2026-11-26T00:00:00Z","livemode":false,` +
		`"related_object":{"id":"in_1","type":"invoice","url":"/v1/invoices/in_1"}}`
	if _, err := host.Sender.Send(t.Context(), []byte(thin)); err != nil {
		t.Fatal(err)
	}
	if authorization := got.Load(); authorization == nil || *authorization != "Bearer sk_test_1" {
		t.Errorf("Stripe is asked with %v", authorization)
	}
}

// Which secret verified a delivery, and when, so that an operator knows when the old one can go.
func TestSecretThatMatched(t *testing.T) {
	t.Parallel()
	host := hooktest.New(t, webhooks.NewHandlers(), func(c *webhooks.Config) {
		c.Secrets = []string{"new=whsec_n", "old=whsec_o", "whsec_p"}
	})
	const body = `{"id":"evt_1","type":"x"}`
	start := time.Now()
	for _, secret := range []string{"whsec_o", "whsec_n", "whsec_n", "whsec_other"} {
		reply, err := host.Sender.Post(t.Context(), []byte(body), sign(body, secret, time.Now()))
		if err != nil || (reply.Status == http.StatusOK) != (secret != "whsec_other") {
			t.Errorf("%s: %s, %v", secret, reply, err)
		}
	}
	var got []string
	for _, s := range host.Receiver.Stats().Secrets {
		got = append(got, s.Label, string('0'+rune(s.Matched)))
		if s.Matched > 0 != s.LastMatch.After(start) {
			t.Errorf("%s matched last at %s", s.Label, s.LastMatch)
		}
	}
	if want := "new 2 old 1 3 0"; strings.Join(got, " ") != want {
		t.Errorf("the matches are %q, want %q", strings.Join(got, " "), want)
	}
}

// A signing secret is rolled without a single 400, by the steps of the docs: Stripe signs with both secrets for a while; in
// that time the receivers get the new one beside the old one; afterwards the old one goes. Retries of earlier deliveries are
// signed anew.
func TestRollingASecret(t *testing.T) {
	t.Parallel()
	const oldSecret, newSecret = "whsec_old_of_a_test", "whsec_new_of_a_test"
	pool := pgtest.NewPool(t)
	receiver := func(secrets ...string) *hooktest.Host {
		h := webhooks.NewHandlers()
		webhooks.On(h, "test.event", nothing)
		return hooktest.On(t, pool, h, func(c *webhooks.Config) { c.Secrets = secrets })
	}
	events := 0
	deliver := func(to *hooktest.Host, secrets ...string) {
		t.Helper()
		events++
		body := hooktest.Event(fmt.Sprint("evt_", events), "test.event", 1, `{"id":"obj_1"}`)
		var signatures []string
		for _, secret := range secrets {
			header := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: secret}).Header
			at, signature, _ := strings.Cut(header, ",")
			if len(signatures) == 0 {
				signatures = append(signatures, at)
			}
			signatures = append(signatures, signature)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to.URL, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Stripe-Signature", strings.Join(signatures, ","))
		response, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("event %d, signed with %v: %s", events, secrets, response.Status)
		}
	}
	before, during, after := receiver(oldSecret), receiver(newSecret, oldSecret), receiver(newSecret)
	deliver(before, oldSecret)
	deliver(before, newSecret, oldSecret) // the secret is rolled in Stripe's dashboard, the old one expires later
	deliver(before, oldSecret, newSecret)
	for range 3 { // a rolling deploy: both kinds of replicas receive
		deliver(before, newSecret, oldSecret)
		deliver(during, newSecret, oldSecret)
	}
	deliver(during, newSecret) // the old one has expired
	deliver(during, newSecret)
	deliver(after, newSecret)
	if n := before.Count(t, "stripe_webhook_events"); n != events {
		t.Errorf("%d of %d events are in the ledger", n, events)
	}
}
