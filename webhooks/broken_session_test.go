package webhooks_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// Other code of the host has broken the session of every connection in a shared pool. Each is closed when it is acquired,
// and deliveries, duplicates, failure records and Ready continue with new connections.
func TestEveryConnectionIsSpoilt(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]string{
		"search_path":                         `SET search_path TO pg_catalog`,
		"a temporary table of the ledger":     `CREATE TEMP TABLE stripe_webhook_events (event_id text)`,
		"a temporary table of the failures":   `CREATE TEMP TABLE stripe_webhook_failures (event_id text)`,
		"a role without rights on our tables": `SET ROLE tenant_role`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := counting(succeed)
			webhooks.On(h, "failing.event", func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error { return errOfATest })
			spoiler := newTenant(t, "cache_statement", webhooks.NewHandlers())
			pool := pgtest.Connect(t, spoiler.DatabaseURL+"&pool_max_conns=3")
			host := hooktest.On(t, pool, h, nil)
			host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
			spoilAll := func() {
				var all []*pgxpool.Conn
				for range 3 {
					conn, err := pool.Acquire(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if _, err := conn.Exec(t.Context(), spoil); err != nil {
						t.Fatal(err)
					}
					all = append(all, conn)
				}
				for _, conn := range all {
					conn.Release()
				}
			}
			spoilAll()
			host.Expect(t, testEvent, 200, webhooks.OutcomeDuplicate)
			pool.Reset()
			spoilAll()
			host.Expect(t, hooktest.Event("evt_2", "test.event", 1, `{}`), 200, webhooks.OutcomeProcessed)
			pool.Reset()
			spoilAll()
			host.Expect(t, hooktest.Event("evt_3", "failing.event", 1, `{}`), 500, "")
			if n := pgtest.Scan[int](t, spoiler.Pool, `SELECT count(*)::int FROM stripe_webhook_failures`); n != 1 {
				t.Errorf("%d failures are recorded", n)
			}
			if err := host.Receiver.Ready(t.Context()); err != nil {
				t.Errorf("Ready says %v", err)
			}
		})
	}
}

// A handler that ends the transaction and leaves its settings to the session leaves them to nobody: its own record is
// written where it belongs, and the next event starts from the pool's settings.
func TestSettingsBehindARawCommit(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{`COMMIT`, `COMMIT AND CHAIN`} {
		host := newTenant(t, "cache_statement", counting(func(ctx context.Context, tx pgx.Tx) error {
			return errors.Join(exec(`SET search_path TO tenant_1`)(ctx, tx), exec(statement)(ctx, tx))
		}))
		wantFailure(t, host, testEvent, "it ended the transaction with a statement of its own")
		host.Expect(t, hooktest.Event("evt_2", "other.event", 1, `{}`), 200, webhooks.OutcomeIgnored)
	}
}

// An error of the receiver's own statement has pgx forget it. The next event, whose handler sets search_path, does not
// pay for it.
func TestForgottenStatement(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_statement&statement_cache_capacity=2", "cache_describe"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			local := func(ctx context.Context, tx pgx.Tx) error {
				return errors.Join(exec(addOne)(ctx, tx), exec(`SET LOCAL search_path TO tenant_1`)(ctx, tx))
			}
			h := webhooks.NewHandlers()
			webhooks.On(h, "*", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error { return local(ctx, tx) })
			subscriptions.Register(h, &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, _ subscriptions.Change) error { return local(ctx, tx) }})
			host := newTenant(t, mode, h)
			pgtest.Exec(t, host.Pool, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF NEW.id = 'sub_bad' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$`)
			pgtest.Exec(t, host.Pool, "CREATE TRIGGER refuse BEFORE INSERT ON subscriptions FOR EACH ROW EXECUTE FUNCTION refuse()")
			for _, id := range []string{"a", "b", "c"} {
				host.Expect(t, about("evt_"+id, "sub_"+id, "active"), 200, webhooks.OutcomeProcessed)
				host.Expect(t, about("evt_bad"+id, "sub_bad", "active"), 500, "")
			}
			if n := host.Count(t, "stripe_webhook_failures WHERE event_id NOT LIKE 'evt_bad%' OR last_error NOT LIKE '%not this one%'"); n != 0 {
				t.Errorf("%d failures are those of others", n)
			}
		})
	}
}

// panickyTracer is a hook of the pool's that panics when it is told to.
type panickyTracer struct{ panics bool }

func (p *panickyTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if p.panics {
		panic("a hook of the pool")
	}
	return ctx
}

func (p *panickyTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A hook of the pool that panics costs its delivery, and no connection.
func TestHookPanics(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(pgtest.NewURL(t) + "&pool_max_conns=2")
	if err != nil {
		t.Fatal(err)
	}
	tracer := &panickyTracer{}
	config.ConnConfig.Tracer = tracer
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pgtest.Close(t, pool) })
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error { return nil })
	host := hooktest.On(t, pool, h, nil)
	host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
	host.Expect(t, testEvent, 200, webhooks.OutcomeDuplicate)
	tracer.panics = true
	for range 5 {
		host.Expect(t, testEvent, 500, "")
	}
	tracer.panics = false
	pgtest.AwaitEqual(t, "the number of connections in use", 0, func() int32 { return pool.Stat().AcquiredConns() })
	if n := host.Receiver.Stats().UnrecordedFailures; n != 5 {
		t.Errorf("%d failures count as unrecorded, want 5", n)
	}
	host.Expect(t, testEvent, 200, webhooks.OutcomeDuplicate)
}

// What a handler does wrong at its deadline is its failure.
func TestHandlerAtItsDeadline(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"swallows an SQL error": func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, `SELECT 1/0`)
			<-ctx.Done()
			return nil
		},
		"commits": func(ctx context.Context, tx pgx.Tx) error {
			err := exec(`COMMIT`)(ctx, tx)
			<-ctx.Done()
			return err
		},
		"parks": func(ctx context.Context, _ pgx.Tx) error {
			<-ctx.Done()
			return webhooks.Park(errUnknownCustomer)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := webhooks.NewHandlers()
			subscriptions.Register(h, &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, _ subscriptions.Change) error { return late(ctx, tx) }})
			host := newCounter(t, h, func(c *webhooks.Config) { c.Timeout = 2 * time.Second })
			isReady(t, host)
			reply := host.Send(t, about("evt_1", "sub_1", "active"))
			if reply.Status != 500 {
				t.Errorf("the reply is %s", reply)
			}
			if n := host.Count(t, "stripe_webhook_failures"); n != 1 {
				t.Errorf("%d failures are recorded", n)
			}
		})
	}
}

// A handler that takes most of the time leaves too little for the projection after it: that is the handler's failure.
func TestHandlerLeavesNoTime(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	webhooks.On(h, "customer.subscription.*", func(ctx context.Context, _ pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		deadline, _ := ctx.Deadline()
		select {
		case <-time.After(time.Until(deadline) * 3 / 4):
		case <-ctx.Done():
		}
		return nil
	})
	subscriptions.Register(h, &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, _ subscriptions.Change) error {
		return exec(`SELECT 1`)(ctx, tx) // before which the projection's row is sent
	}})
	host := newCounter(t, h, func(c *webhooks.Config) { c.Timeout = 2 * time.Second })
	isReady(t, host)
	pgtest.Exec(t, host.Pool, `CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$`)
	pgtest.Exec(t, host.Pool, "CREATE TRIGGER dawdle BEFORE INSERT ON subscriptions FOR EACH ROW EXECUTE FUNCTION dawdle()")
	host.Expect(t, about("evt_1", "sub_1", "active"), 500, "")
	if n := host.Count(t, "stripe_webhook_failures"); n != 1 {
		t.Errorf("%d failures are recorded", n)
	}
}

// rewriting is a way to PostgreSQL that changes a text in what comes from there into another of its length.
type rewriting struct {
	net.Conn
	from, to string
}

func (r *rewriting) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	copy(p[:n], bytes.ReplaceAll(p[:n], []byte(r.from), []byte(r.to)))
	return n, err
}
