package sqltx_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/sqltx"
)

// host returns a receiver whose handler receives a *sql.DB.
func host(t *testing.T, databaseURL string, fn func(ctx context.Context, db *sql.DB) error) *hooktest.Host {
	t.Helper()
	h := webhooks.NewHandlers()
	webhooks.On(h, "*", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *struct{}) error {
		db := sqltx.Open(tx)
		defer db.Close()
		return fn(ctx, db)
	})
	host := hooktest.On(t, pgtest.Connect(t, databaseURL), h, nil)
	pgtest.Exec(t, host.Pool, `CREATE TABLE notes (id text PRIMARY KEY, n bigint)`)
	return host
}

func notes(t *testing.T, host *hooktest.Host, want string) {
	t.Helper()
	if got := pgtest.Scan[string](t, host.Pool, `SELECT coalesce(string_agg(id, ' ' ORDER BY id), '') FROM notes`); got != want {
		t.Errorf("the notes are %q, want %q", got, want)
	}
}

func event(id string) []byte { return hooktest.Event(id, "a.b", 1, `{"id":"obj_1"}`) }

// A handler's changes through database/sql are committed or rolled back with its event.
func TestOneTransaction(t *testing.T) {
	t.Parallel()
	fail := true
	h := host(t, pgtest.NewURL(t), func(ctx context.Context, db *sql.DB) error {
		if _, err := db.ExecContext(ctx, `INSERT INTO notes VALUES ($1, $2)`, "one", 1); err != nil {
			return err
		}
		if fail {
			return errors.New("not yet")
		}
		return nil
	})
	h.Expect(t, event("evt_1"), 500, "")
	notes(t, h, "")
	fail = false
	h.Expect(t, event("evt_1"), 200, webhooks.OutcomeProcessed)
	h.Expect(t, event("evt_1"), 200, webhooks.OutcomeDuplicate)
	notes(t, h, "one")
}

// Savepoints nest, and a failed statement in one leaves the transaction usable.
func TestSavepoints(t *testing.T) {
	t.Parallel()
	h := host(t, pgtest.NewURL(t), func(ctx context.Context, db *sql.DB) error {
		insert := func(tx *sql.Tx, id string) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO notes VALUES ($1, 1)`, id)
			return err
		}
		kept, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if err := errors.Join(insert(kept, "kept"), kept.Commit()); err != nil {
			return err
		}
		undone, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		var pgErr *pgconn.PgError
		if err := insert(undone, "undone"); err != nil {
			return err
		}
		if err := insert(undone, "kept"); !errors.As(err, &pgErr) || pgErr.Code != "23505" {
			return fmt.Errorf("a second note of the same id gave %w", err)
		}
		if err := undone.Rollback(); err != nil {
			return err
		}
		for _, options := range []*sql.TxOptions{{ReadOnly: true}, {Isolation: sql.LevelSerializable}} {
			if _, err := db.BeginTx(ctx, options); !errors.Is(err, sqltx.ErrTxOptions) {
				return fmt.Errorf("%+v gave %w", options, err)
			}
		}
		_, err = db.ExecContext(ctx, `INSERT INTO notes VALUES ('after', 1)`)
		return err
	})
	h.Expect(t, event("evt_1"), 200, webhooks.OutcomeProcessed)
	notes(t, h, "after kept")
}

// A savepoint ends with its context, before the next statement, whose changes are kept.
func TestSavepointEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for _, explicit := range []bool{false, true} {
		h := host(t, pgtest.NewURL(t), func(ctx context.Context, db *sql.DB) error {
			given, cancel := context.WithCancel(ctx)
			defer cancel()
			tx, err := db.BeginTx(given, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO notes VALUES ('undone', 1)`); err != nil {
				return err
			}
			cancel()
			if explicit {
				_ = tx.Rollback()
			}
			for _, id := range []string{"a", "b", "c"} {
				if _, err := db.ExecContext(ctx, `INSERT INTO notes VALUES ($1, 1)`, id); err != nil {
					return err
				}
			}
			return nil
		})
		h.Expect(t, event("evt_1"), 200, webhooks.OutcomeProcessed)
		notes(t, h, "a b c")
	}
}

// A Commit after a failed statement rolls back the savepoint, and the event continues.
func TestFailedCommit(t *testing.T) {
	t.Parallel()
	h := host(t, pgtest.NewURL(t), func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO nowhere VALUES (1)`); err == nil {
			return errors.New("there is a table nowhere")
		}
		if err := tx.Commit(); !errors.Is(err, sqltx.ErrFailed) {
			return fmt.Errorf("the commit of a failed transaction gave %w", err)
		}
		_, err = db.ExecContext(ctx, `INSERT INTO notes VALUES ('after', 1)`)
		return err
	})
	h.Expect(t, event("evt_1"), 200, webhooks.OutcomeProcessed)
	notes(t, h, "after")
}

// If savepoints end in another order than they nest, the outer one decides.
func TestSavepointsEndOutOfOrder(t *testing.T) {
	t.Parallel()
	h := host(t, pgtest.NewURL(t), func(ctx context.Context, db *sql.DB) error {
		begin := func(id string) (*sql.Tx, error) {
			tx, err := db.BeginTx(ctx, nil)
			if err == nil {
				_, err = tx.ExecContext(ctx, `INSERT INTO notes VALUES ($1, 1)`, id)
			}
			return tx, err
		}
		outer, err1 := begin("outer")
		inner, err2 := begin("inner")
		if err := errors.Join(err1, err2, outer.Rollback()); err != nil {
			return err
		}
		if err := inner.Commit(); err == nil {
			return errors.New("a savepoint that was rolled back with the outer one was committed")
		}
		_, err := db.ExecContext(ctx, `INSERT INTO notes VALUES ('after', 1)`)
		return err
	})
	h.Expect(t, event("evt_1"), 200, webhooks.OutcomeProcessed)
	notes(t, h, "after")
}

// Rollback returns an error after the outer savepoint was committed.
func TestRollbackAfterTheOuterCommit(t *testing.T) {
	t.Parallel()
	h := host(t, pgtest.NewURL(t), func(ctx context.Context, db *sql.DB) error {
		outer, err1 := db.BeginTx(ctx, nil)
		inner, err2 := db.BeginTx(ctx, nil)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if _, err := inner.ExecContext(ctx, `INSERT INTO notes VALUES ('kept', 1)`); err != nil {
			return err
		}
		if err := outer.Commit(); err != nil {
			return err
		}
		if err := inner.Rollback(); err == nil {
			return errors.New("a Rollback without effect returned no error")
		}
		return nil
	})
	h.Expect(t, event("evt_1"), 200, webhooks.OutcomeProcessed)
	notes(t, h, "kept")
}

// Values are written and read as by pgx's own database/sql driver, in every exec mode.
func TestValues(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			const uuidText, decimalText = "0e37df36-f698-11e6-8dd4-cb9ced3df976", "12345678901234567890.123"
			at := time.Date(2026, 11, 26, 1, 2, 3, 4000, time.UTC)
			h := host(t, pgtest.NewURL(t)+"&default_query_exec_mode="+mode, func(ctx context.Context, db *sql.DB) error {
				const query = `SELECT $1::bigint, $2::text, $3::bytea, $4::timestamptz, $5::boolean, $6::float8, $7::numeric, $8::jsonb, $9::uuid, $10::text, ARRAY['a', 'b'], 'x'::char`
				var n int64
				var text, decimal, json, uuid, array, char string
				var bytes []byte
				var when time.Time
				var yes bool
				var float float64
				var none sql.NullString
				err := db.QueryRowContext(ctx, query, int64(1)<<60, "ß", []byte{0, 255}, at, true, 1.5, decimalText, `{"b": 1, "a": [2]}`, uuidText, nil).
					Scan(&n, &text, &bytes, &when, &yes, &float, &decimal, &json, &uuid, &none, &array, &char)
				if err != nil {
					return err
				}
				got := []any{n, text, string(bytes), when.UTC(), yes, float, decimal, json, uuid, none.Valid, array, char}
				want := []any{int64(1) << 60, "ß", "\x00\xff", at, true, 1.5, decimalText, `{"a": [2], "b": 1}`, uuidText, false, "{a,b}", "x"}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					return fmt.Errorf("got %v, want %v", got, want)
				}
				return nil
			})
			if reply := h.Send(t, event("evt_1")); reply.Status != 200 {
				t.Error(pgtest.Scan[string](t, h.Pool, `SELECT last_error FROM stripe_webhook_failures`))
			}
		})
	}
}

// Rows may be open while other statements run, also from other goroutines, and prepared statements work.
func TestConcurrentStatements(t *testing.T) {
	t.Parallel()
	h := host(t, pgtest.NewURL(t), func(ctx context.Context, db *sql.DB) error {
		rows, err := db.QueryContext(ctx, `SELECT 'note ' || n FROM generate_series(1, 20) AS n`)
		if err != nil {
			return err
		}
		defer rows.Close()
		insert, err := db.PrepareContext(ctx, `INSERT INTO notes VALUES ($1, 1)`) //nolint:sqlclosecheck // it is closed when all have used it
		if err != nil {
			return err
		}
		var wg sync.WaitGroup
		failed := make(chan error, 20)
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			wg.Go(func() {
				_, err := insert.ExecContext(ctx, id)
				failed <- err
			})
		}
		wg.Wait()
		close(failed)
		all := insert.Close()
		for err := range failed {
			all = errors.Join(all, err)
		}
		var n int64
		return errors.Join(all, rows.Err(), db.QueryRowContext(ctx, `SELECT count(*) FROM notes`).Scan(&n))
	})
	h.Expect(t, event("evt_1"), 200, webhooks.OutcomeProcessed)
	if n := pgtest.Scan[int](t, h.Pool, `SELECT count(*)::int FROM notes`); n != 20 {
		t.Errorf("there are %d notes", n)
	}
}

// A *sql.DB that outlives its handler writes nothing into the next event's transaction.
func TestKept(t *testing.T) {
	t.Parallel()
	var kept *sql.DB
	h := webhooks.NewHandlers()
	webhooks.On(h, "*", func(_ context.Context, tx pgx.Tx, _ *webhooks.Event, _ *struct{}) error {
		kept = sqltx.Open(tx)
		return nil
	})
	host := hooktest.New(t, h, nil)
	pgtest.Exec(t, host.Pool, `CREATE TABLE notes (id text)`)
	host.Expect(t, event("evt_1"), 200, webhooks.OutcomeProcessed)
	defer kept.Close()
	if _, err := kept.ExecContext(t.Context(), `INSERT INTO notes VALUES ('late')`); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("Exec gave %v", err)
	}
	var n int
	if err := kept.QueryRowContext(t.Context(), `SELECT 1`).Scan(&n); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("Query gave %v", err)
	}
	if _, err := kept.BeginTx(t.Context(), nil); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("Begin gave %v", err)
	}
}

// Named arguments are refused with a hint to use $1.
func TestNamedArguments(t *testing.T) {
	t.Parallel()
	h := host(t, pgtest.NewURL(t), func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, `INSERT INTO notes VALUES (@id, 1)`, sql.Named("id", "one"))
		if err == nil || !strings.Contains(err.Error(), `the argument "id" has a name: use $1`) {
			return fmt.Errorf("it gave %w", err)
		}
		return nil
	})
	h.Expect(t, event("evt_1"), 200, webhooks.OutcomeProcessed)
}
