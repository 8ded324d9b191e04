package notifications

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/getsentry/sentry-go"

	"github.com/pook/stripeonce/webhooks"
)

// newHub returns a hub whose events go to the project 1 at an address.
func newHub(t *testing.T, address string) *sentry.Hub {
	t.Helper()
	client, err := sentry.NewClient(sentry.ClientOptions{Dsn: strings.Replace(address, "://", "://public@", 1) + "/1"})
	if err != nil {
		t.Fatal(err)
	}
	return sentry.NewHub(client, sentry.NewScope())
}

func TestSentry(t *testing.T) {
	got := make(chan []byte, 10)
	hub := newHub(t, upstream(t, got))
	r := newReceiver(t, func(c *webhooks.Config, logger *slog.Logger) {
		c.OnFailure, c.OnParked = Sentry(hub, logger), Sentry(hub, logger)
	})
	r.fail("evt_1")
	r.fail("evt_1")
	r.park("evt_2")
	r.stop()
	attempts := map[string]float64{}
	for len(got) > 0 {
		envelope := <-got
		if bytes.Contains(envelope, []byte("jenny")) {
			t.Errorf("the envelope has the payload: %s", envelope)
		}
		lines := bytes.Split(envelope, []byte("\n")) // its header, the item's header, the item
		var item struct {
			Tags        map[string]string
			Fingerprint []string
			Contexts    map[string]map[string]any
			Exception   []struct{ Value string }
		}
		if err := json.Unmarshal(lines[2], &item); err != nil {
			t.Fatalf("%v: %s", err, envelope)
		}
		about := item.Contexts["Stripe event"]
		id := item.Tags["stripe.event_id"]
		attempts[id] += about["attempts"].(float64)
		if about["id"] != id || about["type"] != hostileType || about["object"] != "in_1" || item.Tags["stripe.event_type"] != plainType ||
			item.Fingerprint[2] != hostileType || !strings.HasSuffix(item.Exception[len(item.Exception)-1].Value, hostileError) {
			t.Errorf("the event is %s", lines[2])
		}
	}
	if attempts["evt_1"] != 3 || attempts["evt_2"] != 1 || r.logs.Len() > 0 { // 1 and 2
		t.Errorf("the attempts add up to %v; the log has %q", attempts, r.logs)
	}
}

func TestSentryDoesNotAnswer(t *testing.T) {
	got := make(chan []byte) // nobody receives: the server does not answer
	hub := newHub(t, upstream(t, got))
	r := newReceiver(t, func(c *webhooks.Config, logger *slog.Logger) {
		c.OnFailure, c.NotifyTimeout = Sentry(hub, logger), 50*time.Millisecond
	})
	r.fail("evt_1")
	r.stop()
	<-got
	r.wantLog("could not report an event to Sentry")
}
