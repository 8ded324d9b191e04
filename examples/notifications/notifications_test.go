package notifications

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// A type and an error of somebody who tries to add headers, mentions and links.
const (
	hostileType  = "invoice.paid\r\nBcc: all@example.com =?utf-8?q?hidden?= <!here>"
	hostileError = "no row <!channel> &amp; <https://example.com|click>\r\n.\r\nBcc: all@example.com\u2028\u202ereversed"
	// plainType and plainError are the same as one line.
	plainType  = "invoice.paid  Bcc: all@example.com =?utf-8?q?hidden?= <!here>"
	plainError = "no row <!channel> &amp; <https://example.com|click>  .  Bcc: all@example.com  reversed"
	handlerOf  = "handler of " + plainType + ": "
)

// receiver is a receiver on PostgreSQL whose handler fails, or parks events about objects with "park".
type receiver struct {
	*webhookstest.Stripe
	t        *testing.T
	receiver *webhooks.Receiver
	logs     *bytes.Buffer // to be read after stop
}

// newReceiver returns a receiver whose configuration gets functions that log their errors.
func newReceiver(t *testing.T, configure func(*webhooks.Config, *slog.Logger)) *receiver {
	t.Helper()
	h := webhooks.NewHandlers()
	webhooks.On(h, "*", func(_ context.Context, _ pgx.Tx, _ *webhooks.Event, object *struct{ Park bool }) error {
		if object.Park {
			return webhooks.Park(errors.New(hostileError))
		}
		return errors.New(hostileError)
	})
	logs := &bytes.Buffer{}
	config := &webhooks.Config{Secrets: []string{webhookstest.Secret}, Logger: slog.New(slog.DiscardHandler), Name: "billing"}
	configure(config, slog.New(slog.NewTextHandler(logs, nil)))
	r, err := webhooks.New(exampletest.Database(t, ""), h, config)
	if err != nil {
		t.Fatal(err)
	}
	return &receiver{webhookstest.New(t, r, "/webhooks/stripe", webhookstest.Secret), t, r, logs}
}

// fail delivers an event whose handler fails.
func (r *receiver) fail(id string) {
	r.t.Helper()
	if reply := r.Deliver(event(id, false).Body()); reply.Status != http.StatusInternalServerError {
		r.t.Errorf("%s is answered %s", id, reply)
	}
}

// park delivers an event whose handler parks.
func (r *receiver) park(id string) {
	r.t.Helper()
	r.Expect(event(id, true), webhooks.OutcomeParked)
}

// stop returns when all notices have been sent.
func (r *receiver) stop() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.receiver.Shutdown(ctx); err != nil {
		r.t.Fatal(err)
	}
}

// wantLog checks that there is one line in the log, and what it says.
func (r *receiver) wantLog(text string) {
	r.t.Helper()
	if logs := r.logs.String(); strings.Count(logs, "\n") != 1 || !strings.Contains(logs, text) || !strings.Contains(logs, "evt_1") {
		r.t.Errorf("the log has %q, want %q", logs, text)
	}
}

func event(id string, park bool) webhookstest.Event {
	return webhookstest.Event{ID: id, Type: hostileType, Object: map[string]any{
		"id": "in_1", "park": park, "customer_email": "jenny@example.net",
	}}
}

// upstream is a local HTTP server that collects the bodies of requests, which it answers 200.
func upstream(t *testing.T, got chan<- []byte) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		got <- body
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// texts returns the texts of the messages to Slack so far.
func texts(t *testing.T, got <-chan []byte) (texts []string) {
	t.Helper()
	for len(got) > 0 {
		var message struct {
			Text   string
			Mrkdwn *bool
		}
		if body := <-got; json.Unmarshal(body, &message) != nil || message.Mrkdwn == nil || *message.Mrkdwn {
			t.Errorf("the message is %s", body)
		}
		texts = append(texts, message.Text)
	}
	return texts
}

// Of an event's attempts the first is told. A notice that stands for suppressed ones is told, too, whichever attempt it is of.
func TestFirstAttempts(t *testing.T) {
	got := make(chan []byte, 100)
	address := upstream(t, got)
	r := newReceiver(t, func(c *webhooks.Config, logger *slog.Logger) {
		slack := Slack(address, logger)
		c.OnFailure, c.OnParked, c.NotifyEvery = FirstAttempts(slack), slack, time.Hour
	})
	// Three calls of OnFailure come at once; the others wait for Shutdown.
	for _, id := range []string{"evt_1", "evt_1", "evt_2", "evt_3", "evt_1"} {
		r.fail(id)
	}
	r.park("evt_2")
	r.Expect(event("evt_2", true), webhooks.OutcomeDuplicate)
	r.stop()
	want := map[string]bool{
		"Event: evt_1, Attempts: 1": true,
		"Event: evt_2, Attempts: 1": true,
		"Event: evt_2, Attempts: 2": true, // parked
		"Event: evt_1, Attempts: 3, Not reported since the last message: 1 more. \"stripeonce failures\" lists all.": true, // evt_3
	}
	for _, text := range texts(t, got) {
		var lines []string
		for line := range strings.Lines(text) {
			if label, _, _ := strings.Cut(line, ":"); label == "Event" || label == "Attempts" || strings.HasPrefix(label, "Not reported") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		if summary := strings.Join(lines, ", "); !want[summary] {
			t.Errorf("Slack receives %s", summary)
		} else {
			delete(want, summary)
		}
	}
	if len(want) > 0 || r.logs.Len() > 0 {
		t.Errorf("Slack is not told of %v; the log has %q", want, r.logs)
	}
}

func TestDescribeWithoutRecord(t *testing.T) {
	text := Describe(webhooks.Notice{EventID: "evt_1", Err: errors.New(strings.Repeat("é", 2000))})
	if !strings.Contains(text, "Attempts: unknown") || !strings.Contains(text, "Error: "+strings.Repeat("é", 999)+"…\n") {
		t.Error(text)
	}
}
