package webhooks_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v79/webhook"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/signing"
	"github.com/pook/stripeonce/webhooks"
)

func sign(body, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: secret, Timestamp: at}).Header
}

// verdict delivers a body with a header and says whether its signature was accepted, and the reply.
func verdict(r *webhooks.Receiver, body []byte, header string) (accepted bool, reply string) {
	req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(body)))
	req.Header[webhooks.SignatureHeader] = []string{header}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return !strings.Contains(w.Body.String(), "invalid signature"), w.Body.String()
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	host := hooktest.New(t, webhooks.NewHandlers(), func(c *webhooks.Config) { c.Secrets = []string{"whsec_new", "whsec_old"} })
	const body = `{"id":"evt_1","type":"x"}`
	now := time.Now()
	v1 := func(header string) string { return header[strings.Index(header, "v1="):] }
	for _, c := range []struct {
		name, header, reason string // no reason: accepted
	}{
		{"the new secret", sign(body, "whsec_new", now), ""},
		{"the old secret, while it is rolled", sign(body, "whsec_old", now), ""},
		{"both, as Stripe sends while rolling", sign(body, "whsec_other", now) + "," + v1(sign(body, "whsec_new", now)), ""},
		{"none", "", "there is no Stripe-Signature header"},
		{"another secret", sign(body, "whsec_other", now), "no v1 signature was made with"},
		{"the empty secret", sign(body, "", now), "no v1 signature was made with"},
		{"another body", sign(body+" ", "whsec_new", now), "no v1 signature was made with"},
		{"another scheme", strings.ReplaceAll(sign(body, "whsec_new", now), "v1=", "v0="), "no v1 signature was made with"},
		{"no timestamp", v1(sign(body, "whsec_new", now)), "timestamp is missing or older"},
		{"too old", sign(body, "whsec_new", now.Add(-time.Hour)), "timestamp is missing or older than 5m0s"},
		{"malformed", "t=1=2", "header is malformed"},
		{"not a header", "hello", "header is malformed"},
	} {
		accepted, reply := verdict(host.Receiver, []byte(body), c.header)
		if accepted != (c.reason == "") || !strings.Contains(reply, c.reason) {
			t.Errorf("%s: the reply is %s", c.name, reply)
		}
		if strings.Contains(reply, "whsec_") {
			t.Errorf("%s: the reply shows a secret: %s", c.name, reply)
		}
	}
	if _, reply := verdict(host.Receiver, nil, sign(body, "whsec_new", now)); !strings.Contains(reply, "may have read it") {
		t.Errorf("an empty body is answered %s", reply)
	}
}

// What we accept is what stripe-go accepts with any of the secrets, no more and no less.
func FuzzSignature(f *testing.F) {
	secrets := []string{"whsec_a", "whsec_b"}
	receiver, err := webhooks.New(hooktest.New(f, webhooks.NewHandlers(), nil).Pool, webhooks.NewHandlers(), &webhooks.Config{Secrets: secrets})
	if err != nil {
		f.Fatal(err)
	}
	// Not an event, so that no input reaches the database.
	const body = `{"id":""}`
	now := time.Now()
	for _, secret := range []string{"whsec_a", "whsec_b", "whsec_c", ""} {
		f.Add(sign(body, secret, now), []byte(body))
		f.Add(sign(body, secret, now.Add(-time.Hour)), []byte(body))
		f.Add(sign(body, secret, now.Add(time.Hour))+",v0=1,v1=00", []byte(body))
	}
	f.Add(fmt.Sprintf("t=%d,v1=zz,,=", now.Unix()), []byte(body))
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		if strings.HasPrefix(string(body), `{"id":"e`) {
			t.Skip()
		}
		want := false
		for _, secret := range secrets {
			want = len(header) <= signing.MaxHeaderBytes && want || webhook.ValidatePayload(body, header, secret) == nil
		}
		if got, reply := verdict(receiver, body, header); got != want {
			t.Errorf("header %q over %q: accepted is %v, stripe-go says %v: %s", header, body, got, want, reply)
		}
	})
}
