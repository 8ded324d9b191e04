package webhooks_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
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
