package webhooks_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// execModes are pgx's ways to run a statement: https://pkg.go.dev/github.com/jackc/pgx/v5#QueryExecMode.
var execModes = []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}

// sessionChanges are what a handler may do to its session, with LOCAL or without.
var sessionChanges = map[string]string{
	"search_path":                   `SET LOCAL search_path TO tenant_1`,
	"search_path of the session":    `SET search_path TO tenant_1`,
	"role":                          `SET LOCAL ROLE tenant_role`,
	"role of the session":           `SET ROLE tenant_role`,
	"session's user":                `SET SESSION AUTHORIZATION tenant_role`,
	"a savepoint that is left open": `SAVEPOINT left_open`,
	"lock_timeout":                  `SET lock_timeout = 1`,
	"client_encoding":               `SET LOCAL client_encoding = 'LATIN1'`,
	"row_security":                  `SET LOCAL row_security = off`,
	"date style":                    `SET LOCAL DateStyle = 'German'`,
	"synchronous_commit":            `SET LOCAL synchronous_commit = off`,
}

// newTenant is a database with a schema and a role that a handler may turn to. The role is the cluster's, and may be
// nothing but turned to.
func newTenant(t *testing.T, mode string, h *webhooks.Handlers) *hooktest.Host {
	t.Helper()
	admin := pgtest.NewURL(t)
	host := hooktest.On(t, pgtest.Connect(t, admin+"&pool_max_conns=1&default_query_exec_mode="+mode), h, nil)
	pgtest.Exec(t, host.Pool, `DO $$ BEGIN CREATE ROLE tenant_role; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`)
	pgtest.Exec(t, host.Pool, `CREATE SCHEMA tenant_1`)
	pgtest.Exec(t, host.Pool, `CREATE TABLE counter (n int)`)
	pgtest.Exec(t, host.Pool, `INSERT INTO counter VALUES (0)`)
	pgtest.Exec(t, host.Pool, `CREATE TABLE commits (synchronous text)`)
	pgtest.Exec(t, host.Pool, `GRANT CREATE ON SCHEMA public TO PUBLIC`)
	return host
}

// What a handler does to its session reaches neither the receiver's own statements nor the next event: the event takes
// effect, in every exec mode, and before and after a projection with OnChange.
func TestHandlerChangesTheSession(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var change string
			changes := func(ctx context.Context, tx pgx.Tx) error {
				return errors.Join(exec(addOne)(ctx, tx), exec(change)(ctx, tx))
			}
			h := webhooks.NewHandlers()
			webhooks.On(h, "*", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error { return changes(ctx, tx) })
			subscriptions.Register(h, &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, _ subscriptions.Change) error { return changes(ctx, tx) }})
			host := newTenant(t, mode, h)
			const settings = `SELECT concat_ws(' ', current_setting('search_path'), current_user, session_user, current_setting('lock_timeout'),
				current_setting('client_encoding'), current_setting('row_security'), current_setting('DateStyle'), current_setting('synchronous_commit'))`
			before := pgtest.Scan[string](t, host.Pool, settings)
			events, effects, n := 0, 0, 0
			for name, statement := range sessionChanges {
				change = statement
				n++
				if name == "client_encoding" && mode == "simple_protocol" { // in which pgx refuses every statement
					wantFailure(t, host, testEvent, "client_encoding")
					continue
				}
				id := func(prefix string) string { return fmt.Sprint(prefix, n) }
				for _, body := range [][]byte{
					hooktest.Event(id("evt_a"), "test.event", 1, `{"id":"obj_1"}`), hooktest.Event(id("evt_b"), "test.event", 1, `{"id":"obj_1"}`),
					about(id("evt_c"), id("sub_c"), "active"), about(id("evt_d"), id("sub_d"), "active"),
				} {
					host.Expect(t, body, 200, webhooks.OutcomeProcessed)
					host.Expect(t, body, 200, webhooks.OutcomeDuplicate)
				}
				if after := pgtest.Scan[string](t, host.Pool, settings); after != before {
					t.Errorf("after %s: the connection's settings are %s, want %s", name, after, before)
				}
				events, effects = events+4, effects+6
				got := pgtest.Scan[string](t, host.Pool, `SELECT concat_ws(' ', (SELECT n FROM public.counter),
					(SELECT count(*) FROM public.stripe_webhook_events WHERE outcome = 'processed'), (SELECT count(*) FROM public.subscriptions))`)
				if want := fmt.Sprint(effects, " ", events, " ", events/2); got != want {
					t.Errorf("after %s: effects, events and subscriptions are %s, want %s", name, got, want)
				}
			}
		})
	}
}

// COMMIT is as durable, and has as much time, as the pool's settings say.
func TestCommitIsAsThePoolHasIt(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		return errors.Join(exec(`INSERT INTO commits VALUES ('')`)(ctx, tx), exec(`SET LOCAL synchronous_commit = off`)(ctx, tx),
			exec(`SET LOCAL statement_timeout = '1min'`)(ctx, tx))
	})
	host := newTenant(t, "cache_statement", h)
	pgtest.Exec(t, host.Pool, `CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		UPDATE commits SET synchronous = current_setting('synchronous_commit') || ' ' || current_setting('statement_timeout'); RETURN NULL; END $$`)
	pgtest.Exec(t, host.Pool, `CREATE CONSTRAINT TRIGGER see AFTER INSERT ON commits DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see()`)
	want := pgtest.Scan[string](t, host.Pool, `SELECT current_setting('synchronous_commit') || ' ' || current_setting('statement_timeout')`)
	host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
	if got := pgtest.Scan[string](t, host.Pool, `SELECT synchronous FROM commits`); got != want {
		t.Errorf("at COMMIT synchronous_commit and statement_timeout are %s, want the pool's %s", got, want)
	}
}

// A handler that ends the transaction and begins another by one statement is noticed, however it sends it.
func TestChainedTransaction(t *testing.T) {
	t.Parallel()
	ways := map[string]func(ctx context.Context, tx pgx.Tx, statement string) error{
		"Exec": func(ctx context.Context, tx pgx.Tx, statement string) error { return exec(statement)(ctx, tx) },
		"Query": func(ctx context.Context, tx pgx.Tx, statement string) error {
			rows, err := tx.Query(ctx, statement)
			rows.Close()
			return err
		},
		"SendBatch": func(ctx context.Context, tx pgx.Tx, statement string) error {
			batch := &pgx.Batch{}
			batch.Queue(statement)
			return tx.SendBatch(ctx, batch).Close()
		},
		"the connection": func(ctx context.Context, tx pgx.Tx, statement string) error {
			_, err := tx.Conn().PgConn().Exec(ctx, "SELECT 1; "+statement+"; SELECT 1").ReadAll()
			return err
		},
		"a savepoint": func(ctx context.Context, tx pgx.Tx, statement string) error {
			savepoint, err := tx.Begin(ctx)
			return errors.Join(err, exec(statement)(ctx, savepoint))
		},
	}
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var chain func(ctx context.Context, tx pgx.Tx) error
			host := newTenant(t, mode, counting(func(ctx context.Context, tx pgx.Tx) error { return chain(ctx, tx) }))
			effects := 1
			chain = succeed
			host.Expect(t, hooktest.Event("evt_0", "test.event", 1, `{}`), 200, webhooks.OutcomeProcessed)
			for name, how := range ways {
				for statement, kept := range map[string]int{"ROLLBACK AND CHAIN": 0, "COMMIT AND CHAIN": 1} {
					chain = func(ctx context.Context, tx pgx.Tx) error { return how(ctx, tx, statement) }
					wantFailure(t, host, testEvent, "it ended the transaction with a statement of its own")
					pgtest.Exec(t, host.Pool, `DELETE FROM stripe_webhook_failures`)
					effects += kept
					expectCounter(t, host, effects)
					if n := host.Count(t, "stripe_webhook_events"); n != 1 {
						t.Errorf("%s by %s: %d events are in the ledger, want the first alone", statement, name, n)
					}
				}
			}
		})
	}
}

// So is one in the work that no event brings.
func TestChainedTransactionWithoutAnEvent(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		host := newTenant(t, mode, webhooks.NewHandlers())
		err := host.Receiver.InTx(t.Context(), "an import", exec(`ROLLBACK AND CHAIN`))
		if !errors.As(err, new(*webhooks.HandlerError)) {
			t.Errorf("in %s the error is %v", mode, err)
		}
		if err := host.Receiver.InTx(t.Context(), "an import", exec(addOne)); err != nil {
			t.Errorf("in %s the error is %v", mode, err)
		}
		expectCounter(t, host, 1)
	}
}

// Savepoints that a handler kept are dead when it has returned: the transaction is the next event's.
func TestKeptSavepoint(t *testing.T) {
	t.Parallel()
	var kept []pgx.Tx
	host := newCounter(t, counting(func(ctx context.Context, tx pgx.Tx) error {
		savepoint, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		inner, err := savepoint.Begin(ctx)
		kept = append(kept, tx, savepoint, inner)
		return err
	}), func(c *webhooks.Config) { c.Timeout = time.Minute })
	host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
	ctx := t.Context()
	for i, tx := range kept {
		_, execErr := tx.Exec(ctx, addOne)
		rows, queryErr := tx.Query(ctx, addOne)
		if queryErr == nil {
			rows.Close()
		}
		_, beginErr := tx.Begin(ctx)
		_, copyErr := tx.CopyFrom(ctx, pgx.Identifier{"other"}, []string{"id"}, pgx.CopyFromRows(nil))
		_, prepareErr := tx.Prepare(ctx, "kept", addOne)
		errs := map[string]error{
			"Exec": execErr, "Query": queryErr, "Begin": beginErr, "CopyFrom": copyErr, "Prepare": prepareErr,
			"QueryRow": tx.QueryRow(ctx, addOne).Scan(), "SendBatch": tx.SendBatch(ctx, &pgx.Batch{}).Close(),
		}
		if i > 0 {
			errs["Commit"], errs["Rollback"] = tx.Commit(ctx), tx.Rollback(ctx)
		}
		for name, err := range errs {
			if !errors.Is(err, pgx.ErrTxClosed) {
				t.Errorf("transaction %d: %s gives %v", i, name, err)
			}
		}
		if tx.Conn() != nil {
			t.Errorf("transaction %d still has its connection", i)
		}
	}
	expectCounter(t, host, 1)
}

// A session that an earlier handler has spoilt for good is given up with its connection, and the event that found out
// takes effect on another.
func TestSpoiltSession(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]string{
		"a temporary table of our name": `CREATE TEMP TABLE subscriptions (id text)`,
		"and of the ledger's":           `CREATE TEMP TABLE stripe_webhook_events (event_id text)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logs := &logged{}
			h := webhooks.NewHandlers()
			subscriptions.Register(h, nil)
			host := hooktest.On(t, pgtest.Connect(t, pgtest.NewURL(t)+"&pool_max_conns=1"), h, logs.config)
			host.Expect(t, about("evt_0", "sub_0", "active"), 200, webhooks.OutcomeProcessed)
			pgtest.Exec(t, host.Pool, spoil)
			before := host.Pool.Stat().NewConnsCount()
			for _, id := range []string{"1", "2", "3"} {
				host.Expect(t, about("evt_"+id, "sub_"+id, "active"), 200, webhooks.OutcomeProcessed)
			}
			if n := host.Pool.Stat().NewConnsCount() - before; n != 1 {
				t.Errorf("%d connections were opened in its place, want 1:\n%s", n, logs)
			}
			if n := host.Count(t, "public.subscriptions"); n != 4 {
				t.Errorf("%d subscriptions are stored", n)
			}
		})
	}
}

// A temporary table of the ledger's name, in the handler's own transaction, is the handler's doing.
func TestSpoiltByItself(t *testing.T) {
	t.Parallel()
	broken := true
	host := newCounter(t, counting(func(ctx context.Context, tx pgx.Tx) error {
		if broken {
			return exec(`CREATE TEMP TABLE stripe_webhook_events (event_id text)`)(ctx, tx)
		}
		return nil
	}), nil)
	wantFailure(t, host, testEvent, "a handler changed the session")
	broken = false
	host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
	expectCounter(t, host, 1)
}
