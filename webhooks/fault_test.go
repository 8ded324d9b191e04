package webhooks_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// short gives a statement less time than it takes, for which pgx closes the connection.
func short(ctx context.Context, tx pgx.Tx) error {
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	return exec(`SELECT pg_sleep(60)`)(ctx, tx)
}

func raise(code string) func(context.Context, pgx.Tx) error {
	return exec(`DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '` + code + `'; END $$`)
}

// handlerFaults are ways for a handler to fail that look like the database's own trouble, with what the record says.
var handlerFaults = map[string]struct {
	fails func(ctx context.Context, tx pgx.Tx) error
	says  string
}{
	"a shorter context of its own":      {short, "context deadline exceeded"},
	"a lock not acquired":               {raise("55P03"), "SQLSTATE 55P03"},
	"a full disk":                       {raise("53100"), "SQLSTATE 53100"},
	"a read-only transaction":           {raise("25006"), "SQLSTATE 25006"},
	"a prepared statement that is gone": {raise("26000"), "SQLSTATE 26000"},
	"a transaction timeout":             {raise("25P04"), "SQLSTATE 25P04"},
	"a missing privilege":               {raise("42501"), "SQLSTATE 42501"},
	"a missing table":                   {exec(`SELECT FROM nowhere`), "SQLSTATE 42P01"},
	"a canceled statement":              {raise("57014"), "SQLSTATE 57014"},
	"ErrUnavailable":                    {func(context.Context, pgx.Tx) error { return webhooks.ErrUnavailable }, "unavailable"},
	"ErrNotMigrated":                    {func(context.Context, pgx.Tx) error { return webhooks.ErrNotMigrated }, "not migrated"},
	"ErrInvalidEvent":                   {func(context.Context, pgx.Tx) error { return webhooks.ErrInvalidEvent }, "invalid event"},
	"its connection terminated":         {exec(`SELECT pg_terminate_backend(pg_backend_pid())`), "SQLSTATE 57P01"},
	"its connection closed": {func(ctx context.Context, tx pgx.Tx) error {
		return tx.Conn().Close(ctx)
	}, "closed the connection"},
	"SET TRANSACTION READ ONLY": {exec(`SET TRANSACTION READ ONLY`), "SQLSTATE 25006"},
	"DEALLOCATE ALL":            {exec(`DEALLOCATE ALL`), "SQLSTATE 26000"},
	"an open COPY": {func(ctx context.Context, tx pgx.Tx) error {
		_ = tx.Conn().PgConn().Exec(ctx, `COPY other FROM STDIN`)
		return nil
	}, "rows open"},
}

// Whatever goes wrong while a handler runs is the event's failure, with a record, and no secret of the server's in the
// reply; then the event takes effect, once, and the database was never doubted.
func TestFaultOfAHandler(t *testing.T) {
	t.Parallel()
	for name, c := range handlerFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken, logs := true, &logged{}
			host := newCounter(t, counting(func(ctx context.Context, tx pgx.Tx) error {
				if broken {
					return c.fails(ctx, tx)
				}
				return nil
			}), logs.config)
			broken = false
			host.Expect(t, hooktest.Event("evt_0", "test.event", 1, `{}`), 200, webhooks.OutcomeProcessed) // which prepares the statements
			broken = true
			wantFailure(t, host, testEvent, c.says)
			if strings.Contains(logs.String(), "not migrated: ") {
				t.Errorf("the migrations were doubted:\n%s", logs)
			}
			broken = false
			host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
			expectCounter(t, host, 2)
		})
	}
}

// wantFailure delivers an event that is answered 500, and recorded with a text.
func wantFailure(t *testing.T, host *hooktest.Host, body []byte, says string) {
	t.Helper()
	reply := host.Send(t, body)
	if text := string(reply.Body); reply.Status != http.StatusInternalServerError || text != `{"error":"processing the event failed"}` && text != `{"error":"processing the event took too long"}` {
		t.Errorf("the reply is %s", reply)
	}
	got := pgtest.Scan[string](t, host.Pool, `SELECT coalesce(string_agg(event_id || ' ' || attempts || ' ' || (payload IS NOT NULL) || ' ' || last_error, '; '), 'none')
		FROM stripe_webhook_failures`)
	if !strings.HasPrefix(got, "evt_1 1 true handler of") && !strings.HasPrefix(got, "evt_1 1 true") || !strings.Contains(got, says) {
		t.Errorf("the record is %q, want %q in it", got, says)
	}
}

// OnChange is a handler like any other.
func TestFaultOfOnChange(t *testing.T) {
	t.Parallel()
	for name, c := range handlerFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := true
			h := webhooks.NewHandlers()
			subscriptions.Register(h, &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, _ subscriptions.Change) error {
				if broken {
					return c.fails(ctx, tx)
				}
				return exec(addOne)(ctx, tx)
			}})
			host := newCounter(t, h, nil)
			broken = false
			host.Expect(t, about("evt_0", "sub_0", "active"), 200, webhooks.OutcomeProcessed)
			broken = true
			wantFailure(t, host, about("evt_1", "sub_1", "active"), c.says)
			broken = false
			host.Expect(t, about("evt_1", "sub_1", "active"), 200, webhooks.OutcomeProcessed)
			expectCounter(t, host, 2)
		})
	}
}

// A genuine event that the projection cannot read is a failure to look into, not a refusal.
func TestEventThatCannotBeRead(t *testing.T) {
	t.Parallel()
	half, err := os.ReadFile("testdata/half_quantity.json")
	if err != nil {
		t.Fatal(err)
	}
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	for name, body := range map[string][]byte{
		"half a quantity":    []byte(strings.Replace(string(half), "evt_half", "evt_1", 1)),
		"a quantity in text": []byte(strings.NewReplacer("evt_half", "evt_1", "0.5", `"7"`).Replace(string(half))),
		"no status":          hooktest.Event("evt_1", "customer.subscription.updated", 1, `{"id":"sub_1","object":"subscription"}`),
		"no object":          []byte(`{"id":"evt_1","type":"customer.subscription.updated"}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantFailure(t, hooktest.New(t, h, nil), body, "handler of customer.subscription.updated: ")
		})
	}
}

// In the receiver's own statements, data that the tables refuse and a trigger of the host's that raises are the event's
// failure.
func TestTriggerOnOurTables(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ does, says string }{
		"raises":                        {`RAISE EXCEPTION 'not this one'`, "not this one"},
		"raises with a code of its own": {`RAISE EXCEPTION 'not this one' USING ERRCODE = 'XX123'`, "not this one"},
		"violates a constraint":         {`INSERT INTO other VALUES ('taken')`, "SQLSTATE 23505"},
		"has no number for a text":      {`PERFORM 'x'::int`, "SQLSTATE 22P02"},
		"has no boolean for a text":     {`PERFORM 'x'::boolean`, "SQLSTATE 22P02"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := newCounter(t, counting(succeed), nil)
			pgtest.Exec(t, host.Pool, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN `+c.does+`; RETURN NEW; END $$`)
			pgtest.Exec(t, host.Pool, `CREATE TRIGGER refuse BEFORE INSERT ON stripe_webhook_events FOR EACH ROW EXECUTE FUNCTION refuse()`)
			wantFailure(t, host, testEvent, c.says)
			expectCounter(t, host, 0)
		})
	}
}

// A trigger that misses a table of the host's, or a privilege on it, is the event's failure, and says nothing of the
// receiver's tables.
func TestTriggerMissesATable(t *testing.T) {
	t.Parallel()
	logs := &logged{}
	host := newCounter(t, counting(succeed), logs.config)
	pgtest.Exec(t, host.Pool, `CREATE FUNCTION mirror() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO nowhere VALUES (1); RETURN NEW; END $$`)
	pgtest.Exec(t, host.Pool, `CREATE TRIGGER mirror BEFORE INSERT ON stripe_webhook_events FOR EACH ROW EXECUTE FUNCTION mirror()`)
	wantFailure(t, host, testEvent, "nowhere")
	if text := logs.String(); strings.Contains(text, "not migrated") {
		t.Errorf("the log says\n%s", text)
	}
}

// A privilege that the role lacks on one of our tables is infrastructure, and not ready says which; granted, it works.
func TestMissingPrivilege(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ revoke, lacks string }{
		{`REVOKE SELECT ON stripe_webhook_events FROM %s`, "SELECT on stripe_webhook_events"},
		{`REVOKE INSERT ON stripe_webhook_events FROM %s`, "INSERT on stripe_webhook_events"},
		{`REVOKE INSERT ON stripe_webhook_failures FROM %s`, "INSERT on stripe_webhook_failures"},
		{`REVOKE UPDATE ON subscriptions FROM %s`, "UPDATE on subscriptions"},
		{`REVOKE DELETE ON subscription_items FROM %s`, "DELETE on subscription_items"},
	} {
		t.Run(c.lacks, func(t *testing.T) {
			t.Parallel()
			url := pgtest.NewURL(t)
			admin := pgtest.Connect(t, url)
			role := pgtest.NewRole(t, admin)
			grant := `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ` + role
			pgtest.Exec(t, admin, grant)
			h := webhooks.NewHandlers()
			subscriptions.Register(h, nil)
			host := hooktest.On(t, pgtest.ConnectAs(t, url, role), h, nil)
			isReady(t, host)
			pgtest.Exec(t, admin, fmt.Sprintf(c.revoke, role))
			if err := host.Receiver.Ready(t.Context()); !errors.Is(err, webhooks.ErrUnavailable) || !strings.Contains(err.Error(), c.lacks) {
				t.Errorf("Ready says %v, want %q", err, c.lacks)
			}
			host.Expect(t, about("evt_1", "sub_1", "active"), 503, "")
			if n := pgtest.Scan[int](t, admin, `SELECT count(*)::int FROM stripe_webhook_failures`); n != 0 {
				t.Errorf("%d failures are recorded", n)
			}
			pgtest.Exec(t, admin, grant)
			isReady(t, host)
			host.Expect(t, about("evt_1", "sub_1", "active"), 200, webhooks.OutcomeProcessed)
		})
	}
}

// The server ends a session that stays idle in its transaction, or, from PostgreSQL 17 on, a transaction that takes too
// long: it was the handler that took its time. Where the server has no transaction_timeout, its SQLSTATE stands in the
// other's place.
func TestSessionEndedByATimeout(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"25P03", "25P04"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			url := pgtest.NewURL(t)
			admin := pgtest.Connect(t, url)
			dial := func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
				return &rewriting{conn, "C25P03", "C" + code}, err
			}
			calls := 0
			host := hooktest.On(t, pgtest.ConnectBy(t, url+"&pool_max_conns=1", dial), counting(func(ctx context.Context, tx pgx.Tx) error {
				if calls++; calls <= 2 {
					return nil // which prepares the statements: the next finds out at COMMIT, and no earlier
				}
				pid := tx.Conn().PgConn().PID()
				if err := exec(`SET LOCAL idle_in_transaction_session_timeout = '50ms'`)(ctx, tx); err != nil {
					return err
				}
				pgtest.AwaitSQL(t, admin, "the end of the session", `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)`, pid)
				return nil
			}), nil)
			pgtest.Exec(t, admin, `CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)`)
			for _, id := range []string{"evt_a", "evt_b"} {
				host.Expect(t, hooktest.Event(id, "test.event", 1, `{}`), 200, webhooks.OutcomeProcessed)
			}
			wantFailure(t, host, testEvent, "SQLSTATE "+code)
			expectCounter(t, host, 2)
		})
	}
}
