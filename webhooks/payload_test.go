package webhooks_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

func keepingPayloads(c *webhooks.Config) { c.KeepPayloads = true }

// wantPayloads checks that exactly the recorded events have their payloads, stored in the transactions of their rows.
func wantPayloads(t *testing.T, host *hooktest.Host, events int) {
	t.Helper()
	got := pgtest.Scan[int](t, host.Pool, `SELECT count(*)::int FROM stripe_webhook_events AS e
		JOIN stripe_webhook_payloads AS p USING (event_id) WHERE p.payload ->> 'id' = e.event_id AND p.payload ->> 'type' = e.event_type`)
	if rows := host.Count(t, "stripe_webhook_payloads"); got != events || rows != events || host.Count(t, "stripe_webhook_events") != events {
		t.Errorf("%d of %d payloads are those of recorded events, want %d", got, rows, events)
	}
}

// The payload of each recorded event is stored once, without secrets, in every exec mode; that of a failing event is not.
func TestKeepPayloads(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.Connect(t, inMode(pgtest.NewURL(t), mode))
			ignoring := hooktest.On(t, pool, webhooks.NewHandlers(), keepingPayloads)
			fails := true
			h := webhooks.NewHandlers()
			webhooks.On(h, "payment_intent.*", func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error {
				if fails {
					return errOfATest
				}
				return nil
			})
			host := hooktest.On(t, pool, h, keepingPayloads)
			isReady(t, host)
			body := hooktest.Event("evt_1", "payment_intent.succeeded", 1, `{"id":"pi_1","client_secret":"pi_1_secret_2","n":1.50,"name":"Zoë \\u0000 'O'"}`)
			host.Expect(t, body, http.StatusInternalServerError, "")
			wantPayloads(t, host, 0)
			ignoring.Expect(t, body, http.StatusOK, webhooks.OutcomeIgnored)
			wantPayloads(t, host, 1)
			fails = false
			host.Expect(t, body, http.StatusOK, webhooks.OutcomeProcessed)
			host.Expect(t, body, http.StatusOK, webhooks.OutcomeDuplicate)
			wantPayloads(t, host, 1)
			payload := pgtest.Scan[string](t, host.Pool, `SELECT payload::text FROM stripe_webhook_payloads`)
			if strings.Contains(payload, "secret") || !strings.Contains(payload, `"n": 1.50`) || !strings.Contains(payload, "Zoë") {
				t.Errorf("the payload is %s", payload)
			}
		})
	}
}

// The events of a batch have their payloads, and those that leave it.
func TestKeepPayloadsInABatch(t *testing.T) {
	t.Parallel()
	c := newBatchHost(t, keepingPayloads)
	bodies := several(5)
	wantReplies(t, c.deliverBatch(t, bodies...)(), webhooks.OutcomeProcessed)
	wantPayloads(t, c.Host, 2+len(bodies)) // with the one that they wait behind, and the first

	s := newSavepointHost(t, inBatch{
		"evt_b": func(context.Context, pgx.Tx) error { return errOfATest },
		"evt_d": func(context.Context, pgx.Tx) error { return nil },
	})
	s.restart(t, func(c *webhooks.Config) {
		c.ConcurrentBatches, c.Timeout, c.LockTimeout, c.AcquireTimeout = 1, pgtest.WaitLimit, pgtest.WaitLimit, pgtest.WaitLimit
		c.KeepPayloads = true
	})
	replies, _ := s.batch(t, noted("evt_a"), noted("evt_b"), noted("evt_c"), noted("evt_d"), noted("evt_e"))
	if replies[1].Status != http.StatusInternalServerError {
		t.Errorf("the failing event is answered %s", replies[1])
	}
	wantPayloads(t, s.Host, 5)
}

func TestKeepAndDropPayloads(t *testing.T) {
	t.Parallel()
	_, err := webhooks.New(pgtest.NewPool(t), webhooks.NewHandlers(), &webhooks.Config{Secrets: []string{hooktest.Secret}, KeepPayloads: true, DropPayloads: true})
	if err == nil || !strings.Contains(err.Error(), "KeepPayloads keeps the payload of every event") {
		t.Errorf("the error is %v", err)
	}
}
