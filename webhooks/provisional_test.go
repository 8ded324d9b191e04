package webhooks_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// racing is a replica with a handler that loses the race to one without: while its handler runs, the other records the
// event as ignored.
type racing struct {
	*hooktest.Host
	old  *hooktest.Host
	runs int
}

func newRacing(t *testing.T, configure func(*webhooks.Config)) *racing {
	t.Helper()
	r := &racing{}
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
		if r.runs++; r.runs == 1 {
			r.old.Expect(t, hooktest.Event(ev.ID, ev.Type, 1700000000, string(ev.Object)), 200, webhooks.OutcomeIgnored)
		}
		return exec(addOne)(ctx, tx)
	})
	r.Host = newCounter(t, h, configure)
	r.old = hooktest.On(t, r.Pool, webhooks.NewHandlers(), nil)
	return r
}

// In a rolling deploy the old replica, without the handler, may record the event as ignored while the new one's handler
// runs. The event is then applied, and not taken for a duplicate: both have acknowledged it.
func TestLostRaceToIgnored(t *testing.T) {
	t.Parallel()
	for name, body := range map[string][]byte{"with a lock of its object": testEvent, "without": noObject} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRacing(t, func(c *webhooks.Config) { c.MaxAttempts = 1 })
			r.Expect(t, body, 200, webhooks.OutcomeProcessed)
			expectCounter(t, r.Host, 1)
			if r.runs != 2 {
				t.Errorf("the handler ran %d times, want once for each attempt", r.runs)
			}
			if got := pgtest.Scan[string](t, r.Pool, `SELECT string_agg(outcome, ' ') FROM stripe_webhook_events`); got != "processed" {
				t.Errorf("the ledger says %q", got)
			}
			r.Expect(t, body, 200, webhooks.OutcomeDuplicate)
			r.old.Expect(t, body, 200, webhooks.OutcomeDuplicate)
		})
	}
}

// A projection loses the same race, alone and in a batch.
func TestProjectionLosesRaceToIgnored(t *testing.T) {
	t.Parallel()
	for name, together := range map[string]int{"alone": 1, "in a batch": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newBatchHost(t)
			old := hooktest.On(t, pgtest.Connect(t, c.DatabaseURL), webhooks.NewHandlers(), nil)
			bodies := several(together)
			// A replica without the handler holds its row, not yet committed, when the batch looks the events up.
			tx, err := old.Pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode)
				VALUES ('evt_00', 'customer.subscription.updated', 'ignored', false)`); err != nil {
				t.Fatal(err)
			}
			replies := make(chan []delivery.Reply, 1)
			go func() { replies <- c.deliverBatch(t, bodies...)() }()
			pgtest.AwaitSQL(t, old.Pool, "an insert that waits for the row of the other", `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
				AND wait_event_type = 'Lock' AND query NOT LIKE '%pg_stat_activity%')`)
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantReplies(t, <-replies, webhooks.OutcomeProcessed)
			if n := c.Count(t, "stripe_webhook_events WHERE event_id LIKE 'evt_0%' AND outcome = 'processed'"); n != together {
				t.Errorf("%d of %d events took effect", n, together)
			}
			if n := c.Count(t, "subscriptions WHERE id = 'sub_00'"); n != 1 {
				t.Error("the subscription of the event that lost the race is not stored")
			}
			old.Expect(t, bodies[0], 200, webhooks.OutcomeDuplicate)
		})
	}
}

// Where the ledger's row is hidden from the receiver, its insert is refused again and again: that ends, and says why.
func TestHiddenRow(t *testing.T) {
	t.Parallel()
	logs := &logged{}
	host := newCounter(t, counting(succeed), func(c *webhooks.Config) { c.Logger = logs.logger() })
	host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
	role := pgtest.NewRole(t, host.Pool)
	pgtest.Exec(t, host.Pool, `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO `+role)
	pgtest.Exec(t, host.Pool, `ALTER TABLE stripe_webhook_events ENABLE ROW LEVEL SECURITY;
		CREATE POLICY writes ON stripe_webhook_events FOR INSERT WITH CHECK (true)`)
	limited := hooktest.On(t, pgtest.ConnectAs(t, host.DatabaseURL, role), counting(succeed), func(c *webhooks.Config) { c.Logger = logs.logger() })
	limited.Expect(t, testEvent, 503, "")
	logs.want(t, "row level security")
	expectCounter(t, host, 1)
}
