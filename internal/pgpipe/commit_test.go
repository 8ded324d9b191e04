package pgpipe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgtest"
)

const (
	// soon is the timeout of a COMMIT that is not answered.
	soon = 50 * time.Millisecond
	// insertSQL is the statement of the writes.
	insertSQL = "INSERT INTO t VALUES ($1::bigint, $2::text)"
)

// insert is a write whose error is wrapped in its name.
func insert(name string) Query {
	return func(ctx context.Context, db DBTX) error {
		_, err := db.Exec(ctx, insertSQL, 1, name)
		return Wrap(name, err)
	}
}

func inserts() []Query { return []Query{insert("first"), insert("second"), insert("third")} }

var (
	bound     = &pgproto3.BindComplete{}
	inserted  = tag("INSERT 0 1")
	committed = tag(commitStatement)
	ready     = &pgproto3.ReadyForQuery{TxStatus: txIdle}
)

func tag(text string) *pgproto3.CommandComplete {
	return &pgproto3.CommandComplete{CommandTag: []byte(text)}
}

func failure(severity, code string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code, Message: "on purpose"}
}

func warning(code, routine string) *pgproto3.NoticeResponse {
	return &pgproto3.NoticeResponse{Severity: "WARNUNG", SeverityUnlocalized: "WARNING", Code: code, Message: "auf Deutsch", Routine: routine}
}

// success is the answer to three writes and COMMIT.
func success() []any {
	return []any{bound, inserted, bound, inserted, bound, inserted, bound, committed, ready}
}

// want is the result of a COMMIT.
type want struct {
	text   string // the error has it; "": no error
	code   string // the error's SQLSTATE
	unsure bool   // the error wraps fault.ErrUnavailable
	closed bool   // the connection is closed
}

var (
	succeeds       = want{}
	unsure         = want{text: "it is unknown whether COMMIT succeeded", unsure: true, closed: true}
	unanswered     = want{text: "no response in time", unsure: true, closed: true}
	unreplicated   = want{text: "COMMIT was not replicated", unsure: true}
	rolledBack     = want{text: "commit: PostgreSQL rolled back instead of committing"}
	refusesCommit  = want{text: "commit: ERROR: on purpose", code: "23503"}
	violatesUnique = func(name string) want { return want{text: name + ": ERROR: on purpose", code: fault.UniqueViolation} }
)

// exchanges are the answers to three writes and COMMIT after which the connection stays open.
var exchanges = []struct {
	name  string
	steps []any
	want
}{
	{"success", success(), succeeds},
	{"NoData and rows in between", []any{
		bound, &pgproto3.NoData{}, inserted, bound, &pgproto3.DataRow{Values: [][]byte{[]byte("1"), nil}}, &pgproto3.DataRow{}, inserted,
		bound, &pgproto3.NoData{}, inserted, bound, &pgproto3.NoData{}, committed, ready,
	}, succeeds},
	{"tags of other statements", []any{bound, tag("SELECT 2"), bound, tag("DELETE 0"), bound, tag("UPDATE 7"), bound, committed, ready}, succeeds},
	{"Bind of the first write fails", []any{failure("ERROR", "23505"), ready}, violatesUnique("first")},
	{"the first write fails", []any{bound, failure("ERROR", "23505"), ready}, violatesUnique("first")},
	{"the second write fails", []any{bound, inserted, bound, failure("ERROR", "23505"), ready}, violatesUnique("second")},
	{"the second write fails after a row", []any{
		bound, inserted, bound, &pgproto3.DataRow{}, failure("ERROR", "23505"), ready,
	}, violatesUnique("second")},
	{"the last write fails", []any{bound, inserted, bound, inserted, bound, failure("ERROR", "23505"), ready}, violatesUnique("third")},
	{"COMMIT fails", []any{bound, inserted, bound, inserted, bound, inserted, bound, failure("ERROR", "23503"), ready}, refusesCommit},
	{"COMMIT says ROLLBACK", []any{bound, inserted, bound, inserted, bound, inserted, bound, tag(rolledBackTag), ready}, rolledBack},
}

// commitOn runs writes and COMMIT, and returns the result.
func commitOn(tb testing.TB, conn *pgx.Conn, writes []Query, timeout time.Duration) error {
	tb.Helper()
	tx := &Tx{conn: conn, settings: settingsOf(conn)}
	done := make(chan error, 1)
	go func() { done <- tx.Commit(tb.Context(), writes, timeout) }()
	return pgtest.Receive(tb, fmt.Sprintf("Commit returns, whose timeout is %v", timeout), done)
}

// answering returns a backend that answers the round trip of COMMIT with steps.
func answering(tb testing.TB, steps []any) *backend {
	tb.Helper()
	b := newBackend(tb)
	b.script = func(executed []string, answers []any) []any {
		if slices.Contains(executed, commitStatement) {
			return steps
		}
		return answers
	}
	return b
}

// prepared prepares the writes and COMMIT, so that Commit takes one round trip.
func prepared(tb testing.TB, conn *pgx.Conn, near *client, writes []Query) {
	tb.Helper()
	if _, err := encoded(tb.Context(), conn, writes); err != nil {
		tb.Fatal(err)
	}
	near.take()
}

// check compares the result of a COMMIT. If the connection is open, the next query must get its own answer.
func check(tb testing.TB, err error, conn *pgx.Conn, near *client, want want) {
	tb.Helper()
	switch {
	case want.text == "" && err != nil, want.text != "" && (err == nil || !strings.Contains(err.Error(), want.text)):
		tb.Errorf("the error is %v, want %q", err, want.text)
	case fault.Code(err) != want.code:
		tb.Errorf("the SQLSTATE is %q, want %q", fault.Code(err), want.code)
	case errors.Is(err, fault.ErrUnavailable) != want.unsure:
		tb.Errorf("the error %v wraps ErrUnavailable: %t", err, !want.unsure)
	}
	if conn.IsClosed() != want.closed {
		tb.Fatalf("the connection is closed: %t, want %t", conn.IsClosed(), want.closed)
	}
	if want.closed {
		pgtest.Receive(tb, "the connection's resources are released", conn.PgConn().CleanupDone())
		return
	}
	if near.hasDeadline() {
		tb.Error("the connection keeps its deadline")
	}
	inStep(tb, conn)
}

// inStep runs a query, which must get its own answer.
func inStep(tb testing.TB, conn *pgx.Conn) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), pgtest.WaitLimit)
	defer cancel()
	var got string
	if err := conn.QueryRow(ctx, "SELECT $1::text", "mine").Scan(&got); err != nil || got != "mine" {
		tb.Errorf("the next query returns %q, %v", got, err)
	}
}

// Commit returns the result of every exchange, also if the answer arrives one byte at a time.
func TestExchange(t *testing.T) {
	t.Parallel()
	for _, c := range exchanges {
		for _, mode := range []string{"cache_statement", "exec"} {
			for _, dribbles := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, one byte at a time: %t", c.name, mode, dribbles), func(t *testing.T) {
					t.Parallel()
					b := answering(t, c.steps)
					conn, near, _ := b.connect(t, mode, func(c *client) { c.dribbles = dribbles })
					prepared(t, conn, near, inserts())
					check(t, commitOn(t, conn, inserts(), pgtest.WaitLimit), conn, near, c.want)
				})
			}
		}
	}
}

// A COMMIT without writes is a simple query, whatever the exec mode is.
func TestExchangeOfCommitAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		steps []any
		want
	}{
		{"success", []any{committed, ready}, succeeds},
		{"an error", []any{failure("ERROR", "23503"), ready}, refusesCommit},
		{"ROLLBACK", []any{tag(rolledBackTag), ready}, rolledBack},
		{"a notice", []any{warning("01000", "elsewhere"), committed, ready}, succeeds},
		{"the canceled wait for the standby", []any{warning("01000", "SyncRepWaitForLSN"), committed, ready}, unreplicated},
		{"the end of the stream", []any{hangUp{}}, unsure},
		{"the end of the stream after COMMIT", []any{committed, hangUp{}}, unsure},
	} {
		for _, mode := range execModes[:4] { // the backend's simple queries have no rows
			t.Run(c.name+", "+mode, func(t *testing.T) {
				t.Parallel()
				b := answering(t, c.steps)
				conn, near, _ := b.connect(t, mode, nil)
				near.take()
				err := commitOn(t, conn, nil, pgtest.WaitLimit)
				want := "Q\x00\x00\x00\x0bCOMMIT\x00"
				if sent := near.take(); !strings.HasPrefix(string(sent), want) {
					t.Errorf("it sent %q, want %q", sent, want)
				}
				check(t, err, conn, near, c.want)
			})
		}
	}
}

// PostgreSQL may send notices, changed settings and notifications at any place: they change no result.
func TestExchangeWithAsynchronousMessages(t *testing.T) {
	t.Parallel()
	asynchronous := map[string]any{
		"a warning":         warning("01000", "elsewhere"),
		"ParameterStatus":   &pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"},
		"a notification":    &pgproto3.NotificationResponse{PID: 7, Channel: "c", Payload: "p"},
		"two notifications": raw("A\x00\x00\x00\x0c\x00\x00\x00\x07c\x00p\x00A\x00\x00\x00\x0c\x00\x00\x00\x07c\x00p\x00"),
	}
	for _, c := range exchanges {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for name, message := range asynchronous {
				for at := range len(c.steps) + 1 {
					b := answering(t, slices.Insert(slices.Clone(c.steps), at, message))
					conn, near, _ := b.connect(t, "cache_statement", nil)
					prepared(t, conn, near, inserts())
					check(t, commitOn(t, conn, inserts(), pgtest.WaitLimit), conn, near, c.want)
					if t.Failed() {
						t.Fatalf("with %s at %d", name, at)
					}
				}
			}
		})
	}
}

// The warning that a wait for the standby was canceled is COMMIT's if it comes after the last write.
func TestCanceledWaitForTheStandby(t *testing.T) {
	t.Parallel()
	const lastWrite = 6 // the steps of three writes
	for name, message := range map[string]any{
		"by its routine":         warning("01000", "SyncRepWaitForLSN"),
		"canceled by a user":     warning(fault.QueryCanceled, ""),
		"terminated by an admin": warning(fault.AdminShutdown, ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := range len(success()) {
				want := succeeds
				if at >= lastWrite {
					want = unreplicated
				}
				b := answering(t, slices.Insert(success(), at, message))
				conn, near, _ := b.connect(t, "cache_statement", nil)
				prepared(t, conn, near, inserts())
				err := commitOn(t, conn, inserts(), pgtest.WaitLimit)
				check(t, err, conn, near, want)
				if errors.Is(err, errNotReplicated) != (at >= lastWrite) || t.Failed() {
					t.Fatalf("with the warning at %d the error is %v", at, err)
				}
			}
		})
	}
	t.Run("the error of COMMIT comes first", func(t *testing.T) {
		t.Parallel()
		for _, steps := range [][]any{
			{bound, inserted, bound, inserted, bound, inserted, bound, warning("01000", "SyncRepWaitForLSN"), failure("ERROR", "23503"), ready},
			{bound, inserted, bound, inserted, bound, inserted, bound, failure("ERROR", "23503"), warning("01000", "SyncRepWaitForLSN"), ready},
		} {
			b := answering(t, steps)
			conn, near, _ := b.connect(t, "cache_statement", nil)
			prepared(t, conn, near, inserts())
			check(t, commitOn(t, conn, inserts(), pgtest.WaitLimit), conn, near, refusesCommit)
		}
	})
}
