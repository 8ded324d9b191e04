package webhooks_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/spantest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/otelwebhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// linesOf returns the lines of a JSON log that have an event's id.
func linesOf(t *testing.T, log *lockedBuffer, id string) (lines []map[string]any) {
	t.Helper()
	for text := range strings.Lines(log.String()) {
		line := map[string]any{}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		if line["event_id"] == id {
			lines = append(lines, line)
		}
	}
	return lines
}

// A delivery that a handler parks has one line, and so has the replay that parks it again.
func TestLogOfAParkedEvent(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error {
		return webhooks.Park(errors.New("the currency is not known"))
	})
	log := &lockedBuffer{}
	host := hooktest.New(t, h, func(c *webhooks.Config) { c.Logger = slog.New(slog.NewJSONHandler(log, nil)) })
	host.Expect(t, testEvent, 200, webhooks.OutcomeParked)
	lines := linesOf(t, log, "evt_1")
	if len(lines) != 1 {
		t.Fatalf("the delivery has %d lines: %v", len(lines), lines)
	}
	text, _ := lines[0]["error"].(string)
	if lines[0]["level"] != "WARN" || lines[0]["outcome"] != "parked" || lines[0]["attempt"] != 1.0 || !strings.Contains(text, "the currency is not known") {
		t.Errorf("the line is %v", lines[0])
	}
	if applied := operations.New(host.Pool, &operations.Config{Applier: host.Receiver}).Replay(t.Context(), "evt_1", ""); applied.Err == nil {
		t.Error("the replay of an event that is parked again reports no error")
	}
	if lines := linesOf(t, log, "evt_1"); len(lines) != 2 || !strings.HasPrefix(lines[1]["msg"].(string), "a handler parked the event") {
		t.Errorf("the replay has the lines %v", lines[1:])
	}
}

// The line has the trace of the application's own span, also where the receiver adds none to it.
func TestLogHasTheApplicationsTrace(t *testing.T) {
	t.Parallel()
	spans, log := spantest.New(), &lockedBuffer{}
	host := newCounter(t, counting(succeed), func(c *webhooks.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(log, nil))
		c.Tracer = otelwebhooks.NewTracer(nil) // the global provider, which records nothing
	})
	ctx, span := spans.Provider.Tracer("app").Start(t.Context(), "POST")
	defer span.End()
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(string(testEvent)))
	req.Header.Set(webhooks.SignatureHeader, webhookstest.Sign(testEvent, hooktest.Secret))
	host.Receiver.ServeHTTP(httptest.NewRecorder(), req)
	lines := linesOf(t, log, "evt_1")
	if want := span.SpanContext().TraceID().String(); len(lines) != 1 || lines[0]["trace_id"] != want {
		t.Errorf("the lines are %v, want the trace %s", lines, want)
	}
}
