package pgpipe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// selectText returns its parameter.
const selectText = "SELECT $1::text"

// selecting scans its parameter.
func selecting(text string, into *string) Query {
	return func(ctx context.Context, db DBTX) error {
		return Wrap("select "+text, db.QueryRow(ctx, selectText, text).Scan(into))
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	if err := Wrap("do", nil); err != nil {
		t.Errorf("nil becomes %v", err)
	}
	if err := Wrap("do", ErrRecording); err != ErrRecording {
		t.Errorf("ErrRecording becomes %v", err)
	}
	if err := Wrap("do", errOnPurpose); !errors.Is(err, errOnPurpose) || err.Error() != "do: on purpose" {
		t.Errorf("an error becomes %v", err)
	}
}

// A query is recorded with its arguments, whichever of the three methods it calls, and gets ErrRecording.
func TestRecord(t *testing.T) {
	t.Parallel()
	batch := &pgx.Batch{}
	record(t.Context(), batch, []Query{
		func(ctx context.Context, db DBTX) error { return recording(t, second(db.Exec(ctx, "a", 1, "x"))) },
		func(ctx context.Context, db DBTX) error { return recording(t, second(db.Query(ctx, "b"))) },
		func(ctx context.Context, db DBTX) error { return recording(t, db.QueryRow(ctx, "c", nil).Scan()) },
	})
	var got []string
	for _, query := range batch.QueuedQueries {
		got = append(got, fmt.Sprint(query.SQL, query.Arguments))
	}
	if want := "a[1 x] b[] c[<nil>]"; strings.Join(got, " ") != want {
		t.Errorf("recorded is %q, want %q", got, want)
	}
}

func second[T any](_ T, err error) error { return err }

func recording(tb testing.TB, err error) error {
	tb.Helper()
	if !errors.Is(err, ErrRecording) {
		tb.Errorf("the error is %v", err)
	}
	return err
}

// results are those of a batch, in order.
type results struct {
	calls    []string
	closed   int
	closeErr error
}

func (r *results) Exec() (pgconn.CommandTag, error) {
	r.calls = append(r.calls, "exec")
	return pgconn.NewCommandTag("DELETE 3"), nil
}

func (r *results) Query() (pgx.Rows, error) {
	r.calls = append(r.calls, "query")
	return nil, errOnPurpose
}

func (r *results) QueryRow() pgx.Row {
	r.calls = append(r.calls, "row")
	return failing{nil}
}

func (r *results) Close() error { r.closed++; return r.closeErr }

func (r *results) Tx() pgx.Tx { return nil }

// Each query gets the next result. The results are closed, also after an error, and no query runs after one that failed.
func TestScan(t *testing.T) {
	t.Parallel()
	execute := func(ctx context.Context, db DBTX) error {
		tag, err := db.Exec(ctx, "")
		if tag.RowsAffected() != 3 {
			t.Errorf("%d rows are affected", tag.RowsAffected())
		}
		return err
	}
	row := func(ctx context.Context, db DBTX) error { return db.QueryRow(ctx, "").Scan() }
	query := func(ctx context.Context, db DBTX) error { return Wrap("second", second(db.Query(ctx, ""))) }
	for name, c := range map[string]struct {
		queries []Query
		close   error
		calls   string
		err     string
	}{
		"success":      {[]Query{execute, row, execute}, nil, "exec row exec", ""},
		"an error":     {[]Query{execute, query, row}, nil, "exec query", "second: on purpose"},
		"Close fails":  {[]Query{row}, errOnPurpose, "row", "on purpose"},
		"no queries":   {nil, nil, "", ""},
		"both of them": {[]Query{query}, context.Canceled, "query", "second: on purpose"},
	} {
		r := &results{closeErr: c.close}
		err := scan(t.Context(), r, c.queries)
		if got := strings.TrimPrefix(fmt.Sprint(err), "<nil>"); got != c.err {
			t.Errorf("%s: the error is %v, want %s", name, err, c.err)
		}
		if calls := strings.Join(r.calls, " "); calls != c.calls || r.closed != 1 {
			t.Errorf("%s: the calls are %s, closed %d times", name, calls, r.closed)
		}
	}
}

// Every method of failing returns its error.
func TestFailing(t *testing.T) {
	t.Parallel()
	db := failing{errOnPurpose}
	for name, err := range map[string]error{
		"Exec": second(db.Exec(t.Context(), "")), "Query": second(db.Query(t.Context(), "")), "QueryRow": db.QueryRow(t.Context(), "").Scan(),
	} {
		if !errors.Is(err, errOnPurpose) {
			t.Errorf("%s returns %v", name, err)
		}
	}
}
