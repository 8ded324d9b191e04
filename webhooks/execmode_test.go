package webhooks_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// A failure has its record, with the payload, in every one of pgx's exec modes, and then the event takes effect.
func TestFailureRecordInEveryExecMode(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			broken := true
			host := newTenant(t, mode, counting(func(context.Context, pgx.Tx) error {
				if broken {
					return errors.New("nicht für “uns” \\ 'heute'")
				}
				return nil
			}))
			body := hooktest.Event("evt_1", "test.event", 1, `{"id":"obj_1","name":"Zoë \\ 'O''Hara'","n":1.50}`)
			for range 2 {
				host.Expect(t, body, 500, "")
			}
			got := pgtest.Scan[string](t, host.Pool, `SELECT attempts || ' ' || last_error || ' ' || (payload #> '{data,object}')::text || ' ' || jsonb_array_length(history)
				FROM stripe_webhook_failures`)
			if want := `2 handler of test.event: nicht für “uns” \ 'heute' {"n": 1.50, "id": "obj_1", "name": "Zoë \\ 'O''Hara'"} 2`; got != want {
				t.Errorf("the record is %s, want %s", got, want)
			}
			broken = false
			host.Expect(t, body, 200, webhooks.OutcomeProcessed)
			expectCounter(t, host, 1)
		})
	}
}

// A record that cannot be written with the payload is written without; one that cannot be written at all is counted, and
// the log has the event and its failure.
func TestRecordWithoutThePayload(t *testing.T) {
	t.Parallel()
	logs := &logged{}
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return errOfATest }), logs.config)
	pgtest.Exec(t, host.Pool, `ALTER TABLE stripe_webhook_failures ADD CONSTRAINT none CHECK (payload IS NULL)`)
	host.Expect(t, testEvent, 500, "")
	if got := pgtest.Scan[string](t, host.Pool, `SELECT event_id || ' ' || attempts || ' ' || (payload IS NULL) FROM stripe_webhook_failures`); got != "evt_1 1 true" {
		t.Errorf("the record is %s", got)
	}
	logs.want(t, "could not record the payload of a failed event")
	if n := host.Receiver.Stats().UnrecordedFailures; n != 0 {
		t.Errorf("%d failures count as unrecorded", n)
	}
	pgtest.Exec(t, host.Pool, `ALTER TABLE stripe_webhook_failures ADD CONSTRAINT never CHECK (attempts < 0) NOT VALID`)
	host.Expect(t, testEvent, 500, "")
	if n := host.Receiver.Stats().UnrecordedFailures; n != 1 {
		t.Errorf("%d failures count as unrecorded, want 1", n)
	}
	logs.want(t, "level=ERROR msg=\"could not record a failed event", errOfATest.Error(), "event_id=evt_1")
}
