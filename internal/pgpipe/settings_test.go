package pgpipe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgtest"
)

// encoded is Commit's message for writes, which it has the connection prepare.
func encoded(ctx context.Context, conn *pgx.Conn, writes []Query) ([]byte, error) {
	batch := &pgx.Batch{}
	record(ctx, batch, writes)
	batch.Queue(commitStatement)
	return appendAll(ctx, nil, &Tx{conn: conn, settings: settingsOf(conn)}, writes, batch)
}

// recordingTracer notes what it is called with.
type recordingTracer struct{ calls []string }

func (r *recordingTracer) note(format string, args ...any) {
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
}

type startedBy struct{}

func (r *recordingTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.note("query %s", data.SQL)
	return context.WithValue(ctx, startedBy{}, data.SQL)
}

func (r *recordingTracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	r.note("query ends %v: %s, SQLSTATE %q", ctx.Value(startedBy{}), data.CommandTag, fault.Code(data.Err))
}

func (r *recordingTracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	r.note("batch of %d", data.Batch.Len())
	return context.WithValue(ctx, startedBy{}, "batch")
}

func (r *recordingTracer) TraceBatchQuery(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	r.note("%v: %s %v: %s, SQLSTATE %q", ctx.Value(startedBy{}), data.SQL, data.Args, data.CommandTag, fault.Code(data.Err))
}

func (r *recordingTracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	r.note("%v ends, SQLSTATE %q", ctx.Value(startedBy{}), fault.Code(data.Err))
}

// The pool's tracer sees the writes and COMMIT, each with its result, as a batch of pgx's; and COMMIT alone as a query.
func TestTracer(t *testing.T) {
	t.Parallel()
	const insert = `INSERT INTO kept VALUES ($1)`
	tracer := &recordingTracer{}
	conn := connect(t, pgtest.NewEmptyURL(t), func(config *pgx.ConnConfig) { config.Tracer = tracer })
	exec(t, conn, `CREATE TABLE kept (n bigint PRIMARY KEY CHECK (n > 0))`)
	commit := func(writes ...Query) ([]string, error) {
		tx := begun(t, conn)
		tracer.calls = nil
		err := tx.Commit(t.Context(), writes, pgtest.WaitLimit)
		calls := tracer.calls
		tx.Rollback(t.Context(), pgtest.WaitLimit)
		return calls, err
	}
	for name, c := range map[string]struct {
		writes []Query
		want   []string
	}{
		"two writes": {
			[]Query{executing("one", insert, 1), executing("two", insert, 2)},
			[]string{"batch of 3", `batch: ` + insert + ` [1]: INSERT 0 1, SQLSTATE ""`, `batch: ` + insert + ` [2]: INSERT 0 1, SQLSTATE ""`, `batch: COMMIT []: COMMIT, SQLSTATE ""`, `batch ends, SQLSTATE ""`},
		},
		"the second fails": {
			[]Query{executing("three", insert, 3), executing("none", insert, -1), executing("four", insert, 4)},
			[]string{"batch of 4", `batch: ` + insert + ` [3]: INSERT 0 1, SQLSTATE ""`, `batch: ` + insert + ` [-1]: , SQLSTATE "23514"`, `batch ends, SQLSTATE "23514"`},
		},
		"nothing": {nil, []string{"query COMMIT", `query ends COMMIT: COMMIT, SQLSTATE ""`}},
	} {
		got, err := commit(c.writes...)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: the tracer is called with\n%s\nwant\n%s\n(%v)", name, strings.Join(got, "\n"), strings.Join(c.want, "\n"), err)
		}
	}
}

// The tracer learns that no answer came.
func TestTracerOfALostConnection(t *testing.T) {
	t.Parallel()
	tracer := &recordingTracer{}
	conn := connect(t, pgtest.NewEmptyURL(t), func(config *pgx.ConnConfig) { config.Tracer = tracer })
	exec(t, conn, `CREATE TABLE kept (n bigint)`)
	write := executing("write", `INSERT INTO kept VALUES (1)`)
	tx := begun(t, conn)
	if _, err := encoded(t.Context(), conn, []Query{write}); err != nil {
		t.Fatal(err)
	}
	tracer.calls = nil
	_ = conn.PgConn().Conn().Close()
	err := tx.Commit(t.Context(), []Query{write}, pgtest.WaitLimit)
	if !errors.Is(err, fault.ErrUnavailable) || len(tracer.calls) != 2 || tracer.calls[1] != `batch ends, SQLSTATE ""` {
		t.Errorf("the error is %v, and the tracer is called with %q", err, tracer.calls)
	}
}

// The host's hooks for notices, notifications and errors are called for what arrives with COMMIT.
func TestHooksDuringCommit(t *testing.T) {
	t.Parallel()
	var notices, notifications, failures []string
	conn := connect(t, pgtest.NewEmptyURL(t), func(config *pgx.ConnConfig) {
		config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
		config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { notifications = append(notifications, n.Payload) }
		config.OnPgError = func(_ *pgconn.PgConn, err *pgconn.PgError) bool {
			failures = append(failures, err.Code)
			return err.Code != fault.UniqueViolation
		}
	})
	exec(t, conn, `CREATE TABLE kept (n bigint UNIQUE CHECK (n > 0))`)
	exec(t, conn, `CREATE FUNCTION tells() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'row %', NEW.n; NOTIFY kept, 'more'; RETURN NEW; END $$`)
	exec(t, conn, `CREATE TRIGGER tells BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION tells()`)
	exec(t, conn, `LISTEN kept`)
	commit := func(n int) error {
		tx := begun(t, conn)
		err := tx.Commit(t.Context(), []Query{executing("write", `INSERT INTO kept VALUES ($1)`, n)}, pgtest.WaitLimit)
		tx.Rollback(t.Context(), pgtest.WaitLimit)
		return err
	}
	if err := commit(1); err != nil {
		t.Fatal(err)
	}
	scan1[int](t, conn, `SELECT 1`) // with which the notification may arrive
	if err := commit(-1); fault.Code(err) != "23514" || conn.IsClosed() {
		t.Errorf("the error is %v, and the connection is closed: %v", err, conn.IsClosed())
	}
	if err := commit(1); fault.Code(err) != fault.UniqueViolation || !conn.IsClosed() {
		t.Errorf("the error is %v, and the connection that the hook wants closed is closed: %v", err, conn.IsClosed())
	}
	if want := []string{"row 1", "row -1", "row 1"}; !slices.Equal(notices, want) {
		t.Errorf("the notices are %q, want %q", notices, want)
	}
	if want := []string{"more"}; !slices.Equal(notifications, want) {
		t.Errorf("the notifications are %q, want %q", notifications, want)
	}
	if want := []string{"23514", "23505"}; !slices.Equal(failures, want) {
		t.Errorf("the errors are %q, want %q", failures, want)
	}
}

// A hook that panics leaves no connection that is out of step.
func TestHookPanicsDuringCommit(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmptyURL(t), func(config *pgx.ConnConfig) {
		config.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { panic("on purpose") }
	})
	exec(t, conn, `CREATE FUNCTION tell() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'hello'; RETURN 1; END $$`)
	tx := begun(t, conn)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		_ = tx.Commit(t.Context(), []Query{executing("tell", `SELECT tell()`)}, pgtest.WaitLimit)
	}()
	if !conn.IsClosed() {
		t.Error("the connection is open")
	}
}

// PostgreSQL's answers are read while the message is written: where they are larger than the sockets' buffers, PostgreSQL
// would stop reading, and both sides would wait for one another.
func TestAnswersLargerThanTheBuffers(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmptyURL(t), nil)
	exec(t, conn, `CREATE TABLE kept (text text)`)
	exec(t, conn, `CREATE FUNCTION tells() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', repeat('x', 300000); RETURN NEW; END $$`)
	exec(t, conn, `CREATE TRIGGER tells BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION tells()`)
	var writes []Query
	for range 16 {
		writes = append(writes, executing("write", `INSERT INTO kept VALUES ($1)`, strings.Repeat("y", 50_000)))
	}
	if err := begun(t, conn).Commit(t.Context(), writes, pgtest.WaitLimit); err != nil {
		t.Fatal(err)
	}
	if n := scan1[int](t, conn, `SELECT count(*) FROM kept`); n != len(writes) {
		t.Errorf("%d rows are kept, want %d", n, len(writes))
	}
}
