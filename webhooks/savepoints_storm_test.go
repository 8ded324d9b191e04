package webhooks_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// A storm of duplicates on two receivers, whose handlers fail, end their sessions and change them at random: every event
// takes effect once.
func TestStormOfBatchedHandlers(t *testing.T) {
	t.Parallel()
	const events, duplicates = 150, 3
	url := pgtest.NewURL(t)
	var hosts []*hooktest.Host
	for range 2 {
		h := webhooks.NewHandlers()
		webhooks.On(h, "noted.event", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
			chance := rand.IntN(100)
			if chance < 5 {
				return errOfATest
			}
			_, err := tx.Exec(ctx, addNoteOf, ev.ID)
			switch {
			case err != nil:
				return err
			case chance < 10:
				return errOfATest
			case chance < 12:
				_, err = tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			case chance < 15:
				_, err = tx.Exec(ctx, `SELECT 1 / 0`)
			case chance < 20:
				_, err = tx.Exec(ctx, `SET LOCAL search_path TO pg_catalog`)
			case chance < 23:
				_, err = tx.Exec(ctx, `ROLLBACK`)
			}
			return err
		}, webhooks.Batchable())
		hosts = append(hosts, hooktest.On(t, pgtest.Connect(t, url+"&pool_max_conns=4"), h, func(c *webhooks.Config) {
			c.Timeout, c.AcquireTimeout, c.LockTimeout = pgtest.WaitLimit, pgtest.WaitLimit, pgtest.WaitLimit
		}))
		isReady(t, hosts[len(hosts)-1])
	}
	pgtest.Exec(t, hosts[0].Pool, `CREATE TABLE notes (event text NOT NULL, xid bigint NOT NULL)`)
	limit := make(chan struct{}, 24)
	var wg sync.WaitGroup
	for i := range events * duplicates {
		body := hooktest.Event(fmt.Sprintf("evt_%d", i%events), "noted.event", 1, fmt.Sprintf(`{"id":"obj_%d"}`, i%40))
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			for try := 0; ; try++ {
				switch reply := hosts[rand.IntN(2)].Send(t, body); {
				case reply.OK():
					return
				case reply.Status != 500 && reply.Status != 503 || try == 30:
					t.Error(reply)
					return
				}
			}
		})
	}
	wg.Wait()
	for query, want := range map[string]int{
		`SELECT count(*)::int FROM notes`: events, `SELECT count(DISTINCT event)::int FROM notes`: events, `SELECT count(*)::int FROM stripe_webhook_events`: events,
	} {
		if n := pgtest.Scan[int](t, hosts[0].Pool, query); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	shared := pgtest.Scan[int](t, hosts[0].Pool, `SELECT count(*)::int - count(DISTINCT xid)::int FROM notes`)
	t.Logf("%d of %d events shared a transaction with one before", shared, events)
	if shared == 0 {
		t.Error("no events were batched, so the test shows nothing")
	}
}

// OnChange in batches is called as it is alone: once for each change, with the state before it.
func TestBatchOnChange(t *testing.T) {
	t.Parallel()
	const subs, changes = 12, 8
	h := webhooks.NewHandlers()
	subscriptions.Register(h, &subscriptions.Config{BatchOnChange: true, Logger: hooktest.NoLog(), OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
		before := ""
		if c.Before != nil {
			before = c.Before.Metadata["n"]
		}
		var stored string
		if err := tx.QueryRow(ctx, `SELECT metadata ->> 'n' FROM subscriptions WHERE id = $1`, c.After.ID).Scan(&stored); err != nil {
			return err
		}
		if stored != c.After.Metadata["n"] {
			return errors.New("the row is not the one after the change")
		}
		_, err := tx.Exec(ctx, `INSERT INTO changes (subscription, before, after, updated_at, xid) VALUES ($1, $2, $3, $4, txid_current())`, c.After.ID, before, stored, c.After.UpdatedAt)
		return err
	}})
	host := hooktest.New(t, h, func(c *webhooks.Config) { c.Timeout, c.LockTimeout = pgtest.WaitLimit, pgtest.WaitLimit })
	isReady(t, host)
	pgtest.Exec(t, host.Pool, `CREATE TABLE changes (subscription text, before text, after text, updated_at timestamptz, xid bigint)`)
	var wg sync.WaitGroup
	for sub := range subs {
		wg.Go(func() {
			for n := range changes {
				body := hooktest.Event(fmt.Sprintf("evt_%d_%d", sub, n), "customer.subscription.updated", int64(1000+n), fmt.Sprintf(
					`{"id":"sub_%d","object":"subscription","customer":"cus_1","status":"active","metadata":{"n":"%d"},"items":{"data":[{"id":"si_%[1]d","price":{"id":"price_1"}}]}}`, sub, n))
				host.Expect(t, body, 200, webhooks.OutcomeProcessed)
				host.Expect(t, body, 200, webhooks.OutcomeDuplicate)
			}
		})
	}
	wg.Wait()
	if n := pgtest.Scan[int](t, host.Pool, `SELECT count(*)::int FROM changes WHERE after = '0' AND before = '' OR before::int + 1 = after::int`); n != subs*changes {
		t.Errorf("%d changes are in order, want %d", n, subs*changes)
	}
	if n := pgtest.Scan[int](t, host.Pool, `SELECT count(*)::int FROM subscriptions AS s JOIN changes AS c ON c.subscription = s.id AND c.after = s.metadata ->> 'n' AND c.updated_at = s.updated_at`); n != subs {
		t.Errorf("%d of %d rows have the time that OnChange received", n, subs)
	}
	if n := pgtest.Scan[int](t, host.Pool, `SELECT count(*)::int - count(DISTINCT xid)::int FROM changes`); n == 0 {
		t.Error("no events were batched, so the test shows nothing")
	}
}
