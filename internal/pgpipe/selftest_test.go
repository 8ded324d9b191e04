package pgpipe

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
)

// The self test succeeds in every exec mode, also where the session is read-only and its settings are unusual. It can run
// again on its connection, which stays idle and in step.
func TestSelfTest(t *testing.T) {
	t.Parallel()
	base := pgtest.NewEmptyURL(t)
	for _, mode := range execModes {
		for name, settings := range map[string]string{
			"read-only": "&default_transaction_read_only=on",
			"settings": "&TimeZone=Asia/Kolkata&IntervalStyle=sql_standard&bytea_output=escape" +
				"&DateStyle=ISO,DMY&default_transaction_isolation=serializable&search_path=nowhere&plan_cache_mode=force_generic_plan",
		} {
			t.Run(mode+", "+name, func(t *testing.T) {
				t.Parallel()
				conn := connect(t, inMode(base, mode)+settings, nil)
				for range 3 {
					if err := SelfTest(t.Context(), conn, pgtest.WaitLimit); err != nil {
						t.Fatal(err)
					}
					if conn.PgConn().TxStatus() != txIdle || conn.PgConn().IsBusy() {
						t.Fatal("the connection is not idle")
					}
					if got := scan1[string](t, conn, selectText, "mine"); got != "mine" {
						t.Errorf("the next query returns %s", got)
					}
				}
			})
		}
	}
}

// The self test writes nothing: no transaction id, no WAL, and no line in PostgreSQL's log.
func TestSelfTestLeavesNoTrace(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pglocal.Config{Disposable: true, Settings: pglocal.Quiet()})
	logFile := strings.TrimSuffix(cluster.Data(), "data") + "postgresql.log"
	admin := pgtest.Connect(t, cluster.URL("postgres"))
	read := func() (pglocal.Written, string) {
		written, err := pglocal.ReadWritten(t.Context(), admin)
		if err != nil {
			t.Fatal(err)
		}
		log, err := os.ReadFile(logFile)
		if err != nil {
			t.Fatal(err)
		}
		return written, string(log)
	}
	for _, mode := range execModes {
		conn := connect(t, inMode(cluster.URL("postgres"), mode), nil)
		scan1[int](t, conn, `SELECT count(*) FROM pg_class`) // a session's first look may prune the catalog
		pgtest.Exec(t, admin, `CHECKPOINT`)
		written, log := read()
		if err := SelfTest(t.Context(), conn, pgtest.WaitLimit); err != nil {
			t.Fatal(err)
		}
		after, logAfter := read()
		if since := after.Since(written); since != (pglocal.Written{}) {
			t.Errorf("%s: it has written %+v", mode, since)
		}
		for _, line := range strings.Split(strings.TrimPrefix(logAfter, log), "\n") {
			if strings.Contains(line, "ERROR") || strings.Contains(line, "WARNING") || strings.Contains(line, "FATAL") {
				t.Errorf("%s: the log has %s", mode, line)
			}
		}
	}
}

// answersOf splits the answers of a round trip by statement. A statement's answers end with CommandComplete.
func answersOf(answers []any) (statements [][]any, end []any) {
	from := 0
	for i, answer := range answers {
		if _, complete := answer.(*pgproto3.CommandComplete); complete {
			statements = append(statements, answers[from:i+1])
			from = i + 1
		}
	}
	return statements, answers[from:]
}

// SelfTest detects a pooler or proxy that drops or reorders answers. The error names the step and the remedy. The
// connection is closed.
func TestSelfTestFails(t *testing.T) {
	t.Parallel()
	swap := func(i, j int) func([]any) []any {
		return func(answers []any) []any {
			statements, end := answersOf(answers)
			statements[i], statements[j] = statements[j], statements[i]
			return append(slices.Concat(statements...), end...)
		}
	}
	drop := func(i int) func([]any) []any {
		return func(answers []any) []any {
			statements, end := answersOf(answers)
			return append(slices.Concat(slices.Delete(statements, i, i+1)...), end...)
		}
	}
	withoutTheEnd := func(answers []any) []any { return append(answers[:len(answers)-1], silence{}) }
	replace := func(steps ...any) func([]any) []any { return func([]any) []any { return steps } }
	const (
		begin, send, commit, after = "BEGIN with queries in one round trip", "several queries in one round trip", "COMMIT", "a query after "
	)
	for name, c := range map[string]struct {
		trip    int // the round trip that is changed: 0 is Begin's
		change  func(answers []any) []any
		step    string
		quick   bool // the round trip has a short timeout
		passing bool
	}{
		"results of Begin are swapped":     {0, swap(1, 2), begin, false, false},
		"a result of Begin is dropped":     {0, drop(2), begin, true, false},
		"results of Send are swapped":      {1, swap(0, 1), send, false, false},
		"a result of Send is dropped":      {1, drop(0), send, true, false},
		"Send does not end":                {1, withoutTheEnd, send, true, false},
		"COMMIT is refused":                {2, replace(failure("ERROR", fault.NoSuchPrepared), ready), commit, false, false},
		"COMMIT is not done":               {2, replace(bound, inserted, bound, inserted, bound, tag(rolledBackTag), ready), commit, false, false},
		"COMMIT leaves a transaction open": {2, replace(bound, inserted, bound, inserted, bound, committed, &pgproto3.ReadyForQuery{TxStatus: 'T'}), commit, false, false},
		"COMMIT is not answered":           {2, replace(silence{}), commit, true, false},
		"COMMIT's answer is dropped":       {2, drop(2), commit, true, false},
		"the connection ends at COMMIT":    {2, replace(hangUp{}), commit, false, true},
		"an answer is left over": {2, func(answers []any) []any {
			return append(answers, bound, &pgproto3.DataRow{Values: [][]byte{[]byte("x")}}, inserted, ready)
		}, after + "pipelined COMMIT", true, false},
		"the next query gets another's": {3, func(answers []any) []any {
			i := slices.IndexFunc(answers, func(answer any) bool { _, row := answer.(*pgproto3.DataRow); return row })
			row := *answers[i].(*pgproto3.DataRow)
			row.Values = slices.Clone(row.Values)
			row.Values[0] = []byte("another")
			answers[i] = &row
			return answers
		}, after + "pipelined COMMIT", false, false},
		"PostgreSQL shuts down": {1, replace(failure("ERROR", fault.AdminShutdown), ready), send, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trip := 0
			b := newBackend(t)
			b.script = func(_ []string, answers []any) []any {
				if trip++; trip-1 == c.trip {
					return c.change(answers)
				}
				return answers
			}
			conn, _, _ := b.connect(t, "cache_statement", nil)
			timeout := pgtest.WaitLimit
			if c.quick {
				timeout = 4 * soon
			}
			err := selfTestOn(t, t.Context(), conn, timeout)
			if err == nil || !strings.Contains(err.Error(), c.step) {
				t.Fatalf("the error is %v, want one of %s", err, c.step)
			}
			if advises := strings.HasSuffix(err.Error(), ": add default_query_exec_mode=exec to the database URL"); advises == c.passing {
				t.Errorf("the error is %v", err)
			}
			if !conn.IsClosed() {
				t.Error("the connection is open")
			}
		})
	}
}

func selfTestOn(t *testing.T, ctx context.Context, conn *pgx.Conn, timeout time.Duration) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- SelfTest(ctx, conn, timeout) }()
	return pgtest.Receive(t, "the self test returns", done)
}

// The advice depends on the exec mode. After the end of the context there is none.
func TestSelfTestAdvice(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.script = func(_ []string, _ []any) []any { return []any{failure("ERROR", "XX000"), ready} }
	for mode, advice := range map[string]string{
		"cache_statement": "add default_query_exec_mode=exec to the database URL", "exec": "use default_query_exec_mode=simple_protocol in the database URL",
		"simple_protocol": "connect to PostgreSQL directly, without a pooler or proxy",
	} {
		conn, _, _ := b.connect(t, mode, nil)
		if err := selfTestOn(t, t.Context(), conn, pgtest.WaitLimit); err == nil || !strings.HasSuffix(err.Error(), ": "+advice) {
			t.Errorf("in the mode %s the error is %v", mode, err)
		}
	}
	conn, _, _ := b.connect(t, "cache_statement", nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := selfTestOn(t, ctx, conn, pgtest.WaitLimit)
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "default_query_exec_mode") || !conn.IsClosed() {
		t.Errorf("the error is %v", err)
	}
}

// PostgreSQL refuses a query of Commit with wrong arguments.
func TestSelfTestVerifiesArguments(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmptyURL(t), nil)
	for name, change := range map[string]func(e *echo){
		"text": func(e *echo) { e.text = "send" }, "number": func(e *echo) { e.number++ },
		"time": func(e *echo) { e.at = e.at.Add(time.Microsecond) }, "object": func(e *echo) { e.object = nil },
	} {
		e := newEcho("commit", 4)
		if err := e.verify(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		change(e)
		if err := e.verify(t.Context(), conn); err == nil || !strings.Contains(err.Error(), "the arguments of a query are not its own") {
			t.Errorf("with another %s the error is %v", name, err)
		}
	}
}
