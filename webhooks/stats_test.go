package webhooks_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/webhooks"
)

func TestStats(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(succeed), nil)
	host.Send(t, testEvent)
	host.Send(t, testEvent)
	host.Send(t, []byte(`{}`))
	got := host.Receiver.Stats()
	for label, want := range map[string]uint64{"processed": 1, "duplicate": 1, "invalid": 1, "ignored": 0, "stale": 0, "failed": 0, "unavailable": 0} {
		d := got.Deliveries[label]
		if d.Count != want || d.Buckets[len(d.Buckets)-1] > want || (d.Sum > 0) != (want > 0) {
			t.Errorf("%s is %+v, want %d", label, d, want)
		}
	}
}

// A delivery counts for the most specific pattern that matches its event's type, whatever its outcome.
func TestStatsByPattern(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	for _, pattern := range []string{"customer.*", "customer.tax_id.*", "customer.deleted"} {
		webhooks.On(h, pattern, func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
			if ev.Type == "customer.deleted" {
				return errOfATest
			}
			return nil
		})
	}
	host := hooktest.New(t, h, nil)
	host.Expect(t, hooktest.Event("evt_1", "customer.updated", 1, `{"id":"cus_1"}`), 200, webhooks.OutcomeProcessed)
	host.Expect(t, hooktest.Event("evt_1", "customer.updated", 1, `{"id":"cus_1"}`), 200, webhooks.OutcomeDuplicate)
	host.Expect(t, hooktest.Event("evt_2", "customer.tax_id.created", 1, `{"id":"txi_1"}`), 200, webhooks.OutcomeProcessed)
	host.Expect(t, hooktest.Event("evt_3", "customer.deleted", 1, `{"id":"cus_1"}`), 500, "")
	host.Expect(t, hooktest.Event("evt_4", "price.created", 1, `{"id":"price_1"}`), 200, webhooks.OutcomeIgnored)
	host.Send(t, []byte(`{}`))
	got := map[string]uint64{}
	for pattern, counts := range host.Receiver.Stats().Patterns {
		for label, n := range counts {
			if n > 0 {
				got[pattern+" "+label] = n
			}
		}
	}
	want := map[string]uint64{
		"customer.* processed": 1, "customer.* duplicate": 1, "customer.tax_id.* processed": 1, "customer.deleted failed": 1, " ignored": 1, " invalid": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deliveries by pattern and outcome (-want +got):\n%s", diff)
	}
}

// The lag is that of events that took effect, once each.
func TestStatsOfLag(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(succeed), nil)
	anHourAgo := time.Now().Add(-time.Hour - time.Minute).Unix()
	body := hooktest.Event("evt_1", "test.event", anHourAgo, `{"id":"obj_1"}`)
	host.Expect(t, body, 200, webhooks.OutcomeProcessed)
	host.Expect(t, body, 200, webhooks.OutcomeDuplicate)
	host.Expect(t, hooktest.Event("evt_2", "other.event", anHourAgo, `{"id":"obj_1"}`), 200, webhooks.OutcomeIgnored)
	host.Expect(t, hooktest.Event("evt_3", "test.event", time.Now().Add(time.Hour).Unix(), `{"id":"obj_1"}`), 200, webhooks.OutcomeProcessed)
	lag := host.Receiver.Stats().Lag
	byBound := map[time.Duration]uint64{}
	for i, bound := range lag.Bounds {
		byBound[bound] = lag.Buckets[i]
	}
	if lag.Count != 2 || lag.Sum < time.Hour || lag.Sum > 2*time.Hour || byBound[time.Second] != 1 || byBound[time.Hour] != 1 || byBound[6*time.Hour] != 2 {
		t.Errorf("the lag is %+v", lag)
	}
}

// A rejected signature counts by its reason. Other mistakes of the sender do not count as one.
func TestStatsOfSignatures(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(succeed), nil)
	if last := host.Receiver.Stats().Signatures.LastRejected; len(last) > 0 {
		t.Errorf("before any delivery the last rejections are %v", last)
	}
	post := func(signature string, body string) {
		t.Helper()
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		if signature != "" {
			req.Header.Set(webhooks.SignatureHeader, signature)
		}
		reply := httptest.NewRecorder()
		host.Receiver.ServeHTTP(reply, req)
		if reply.Code != http.StatusBadRequest {
			t.Errorf("%q is answered %d %s", signature, reply.Code, reply.Body)
		}
	}
	now := time.Now().Unix()
	wrong := strings.Repeat("0", 64)
	post("", "{}")
	post("nonsense", "{}")
	post(fmt.Sprintf("t=%d,v1=%s", now-3600, wrong), "{}")
	post(fmt.Sprintf("t=%d,v1=%s", now, wrong), "")
	post(fmt.Sprintf("t=%d,v1=%s", now, wrong), "{}")
	post(fmt.Sprintf("t=%d,v1=%s", now, wrong), "{}")
	host.Send(t, []byte(`{}`)) // signed, and no event
	got := host.Receiver.Stats().Signatures
	want := map[string]uint64{"missing": 1, "malformed": 1, "expired": 1, "empty_body": 1, "mismatch": 2}
	if diff := cmp.Diff(want, got.Rejected); diff != "" {
		t.Errorf("rejected signatures (-want +got):\n%s", diff)
	}
	for reason := range want {
		if age := time.Since(got.LastRejected[reason]); age < 0 || age > time.Minute {
			t.Errorf("the last rejection as %s was %s ago", reason, age)
		}
	}
}

// A secret's count is of what Stripe signed: replays are signed by the operator.
func TestStatsOfSecretsWithoutReplays(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(succeed), nil)
	host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
	if reply, err := host.Sender.Replay(t.Context(), testEvent); err != nil || reply.Outcome() != webhooks.OutcomeDuplicate {
		t.Errorf("the replay is answered %s, %v", reply, err)
	}
	if got := host.Receiver.Stats().Secrets[0].Matched; got != 1 {
		t.Errorf("the secret has verified %d deliveries, want 1", got)
	}
}

// Requests to Stripe count by their result.
func TestStatsOfFetches(t *testing.T) {
	t.Parallel()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		status := map[string]int{"/v1/invoices/in_1": 200, "/v1/invoices/in_2": 404, "/v1/invoices/in_3": 403, "/v1/invoices/in_4": 500}[req.URL.Path]
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"id":"in_1","error":{"code":%q,"type":"invalid_request_error"}}`, map[int]string{404: "resource_missing"}[status])
	}))
	t.Cleanup(api.Close)
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
		if ev.Current == nil {
			return webhooks.Fetch(webhooks.FetchOptions{})
		}
		return nil
	})
	host := hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", api.URL })
	for i := range 4 {
		host.Send(t, hooktest.Event(fmt.Sprintf("evt_%d", i+1), "invoice.paid", 1, fmt.Sprintf(`{"id":"in_%d","object":"invoice"}`, i+1)))
	}
	got := host.Receiver.Stats().Fetches
	if age := time.Since(got.LastRefused); age < 0 || age > time.Minute {
		t.Errorf("the last refusal was %s ago", age)
	}
	got.LastRefused = time.Time{}
	if want := (webhooks.FetchStats{Answered: 1, Missing: 1, Refused: 1, Failed: 1}); got != want {
		t.Errorf("the fetches are %+v, want %+v", got, want)
	}
}
