package webhooks_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// Exactly MaxInFlight deliveries are worked on at once. The next one is refused since there are too many, and for no
// other reason; so is an event that the host applies itself. When one delivery is done, there is room for another.
func TestMaxInFlight(t *testing.T) {
	t.Parallel()
	const limit = 3
	g, log := newBlockingHandler(), &lockedBuffer{}
	host := newCounter(t, g.handlers(), func(c *webhooks.Config) {
		c.MaxInFlight, c.Timeout = limit, pgtest.WaitLimit
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
	isReady(t, host)
	body := func(n int) []byte { return hooktest.Event(fmt.Sprintf("evt_%d", n), "test.event", 1, `{}`) }
	var replies []func() []delivery.Reply
	for n := range limit {
		replies = append(replies, send(t, host, body(n)))
		g.awaitStart(t)
	}
	refused := make(chan delivery.Reply, 1)
	go func() { refused <- host.Send(t, body(limit)) }()
	select {
	case reply := <-refused:
		if reply.Status != 503 || reply.Header.Get("Retry-After") == "" {
			t.Errorf("the reply to one delivery more is %s", reply)
		}
	case id := <-g.begun:
		t.Fatalf("%s is worked on beside %d others", id, limit)
	}
	if text := log.String(); !strings.Contains(text, "event_id=evt_3") || !strings.Contains(text, "too many deliveries are in flight") {
		t.Errorf("the log does not say why evt_3 was refused:\n%s", text)
	}
	ev, err := webhooks.ParseEvent(body(limit))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.Receiver.Apply(t.Context(), ev); !errors.Is(err, webhooks.ErrUnavailable) || !strings.Contains(err.Error(), "too many deliveries are in flight") {
		t.Errorf("Apply of one event more says %v", err)
	}
	g.release(t, nil)
	awaitInFlight(t, host, limit-1)
	replies = append(replies, send(t, host, body(limit)))
	g.awaitStart(t)
	for range limit {
		g.release(t, nil)
	}
	for _, reply := range replies {
		wantReplies(t, reply(), webhooks.OutcomeProcessed)
	}
	expectCounter(t, host, limit+1)
}
