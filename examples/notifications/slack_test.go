package notifications

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/webhooks"
)

func TestSlack(t *testing.T) {
	got := make(chan []byte, 10)
	address := upstream(t, got)
	r := newReceiver(t, func(c *webhooks.Config, logger *slog.Logger) {
		c.OnFailure, c.OnParked = Slack(address, logger), Slack(address, logger)
	})
	r.fail("evt_1")
	r.park("evt_2")
	r.stop()
	escaped := strings.NewReplacer("&amp;", "&amp;amp;", "<", "&lt;", ">", "&gt;")
	want := func(headline, id, prefix string) string {
		return headline + "\nEvent: " + id + "\nType: " + escaped.Replace(plainType) +
			"\nObject: in_1\nMode: test\nReceiver: billing\nAttempts: 1\nError: " + escaped.Replace(handlerOf+prefix+plainError) + "\n"
	}
	messages := texts(t, got)
	slices.Sort(messages)
	if !slices.Equal(messages, []string{
		want("A Stripe event could not be processed.", "evt_1", ""), want("A Stripe event is parked: it waits for a person.", "evt_2", "parked: "),
	}) || r.logs.Len() > 0 {
		t.Errorf("the messages are\n%s", strings.Join(messages, "\n"))
	}
}

// An error is logged, without the address, which is a secret.
func TestSlackDoesNotAnswer(t *testing.T) {
	for path, want := range map[string]string{
		"/SECRET/refused": "slack answers 403 invalid_token",
		"/SECRET/silent":  "context deadline exceeded",
		"/SECRET/%":       "invalid URL escape",
	} {
		t.Run(want, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				_, _ = io.Copy(io.Discard, req.Body)
				if strings.HasSuffix(req.URL.Path, "silent") {
					<-req.Context().Done()
					return
				}
				http.Error(w, "invalid_token", http.StatusForbidden)
			}))
			defer server.Close()
			r := newReceiver(t, func(c *webhooks.Config, logger *slog.Logger) {
				c.OnFailure = Slack(server.URL+path, logger)
				if strings.HasSuffix(path, "silent") {
					c.NotifyTimeout = 50 * time.Millisecond
				}
			})
			r.fail("evt_1")
			r.stop()
			r.wantLog(want)
			if strings.Contains(r.logs.String(), "SECRET") {
				t.Errorf("the log has the address: %s", r.logs)
			}
		})
	}
}
