package pgpipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/fault"
)

const (
	// echoSQL returns its arguments: none whose text depends on a setting of the session, such as a time on DateStyle.
	echoSQL = `SELECT $1::text, $2::bigint, $3::boolean, $4::jsonb`
	// verifySQL fails unless its arguments are those that SelfTest sends with COMMIT, since Commit reads no result.
	verifySQL = `SELECT (CASE WHEN $1::text = 'commit' AND $2::bigint = 4 AND $3::timestamptz = '2026-01-02 03:04:05.678901+00'
    AND $4::jsonb = '{"self": "test"}' THEN '1' ELSE 'the arguments of a query are not its own' END)::integer`
)

// SelfTest checks on a live connection that Begin, Send and Commit give each query its own arguments and result, and
// leave the connection idle and in step with PostgreSQL. It writes nothing and takes no transaction id. If it succeeds,
// PostgreSQL has logged no error. Timeout bounds each of the four steps. After an error the connection is closed.
func SelfTest(ctx context.Context, conn *pgx.Conn, timeout time.Duration) error {
	step, err := selfTest(ctx, conn, timeout)
	if err == nil {
		return nil
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	_ = conn.Close(closing)
	if ctx.Err() != nil || isLost(err) || fault.IsPassing(err) {
		return fmt.Errorf("the self test of the connection did not finish: %s: %w", step, err)
	}
	advice := "connect to PostgreSQL directly, without a pooler or proxy"
	switch conn.Config().DefaultQueryExecMode {
	case pgx.QueryExecModeCacheStatement:
		advice = "add default_query_exec_mode=exec to the database URL"
	case pgx.QueryExecModeExec:
		advice = "use default_query_exec_mode=simple_protocol in the database URL"
	default:
	}
	return fmt.Errorf("%w: %s does not work on this connection: %w: %s", fault.ErrUnsuitable, step, err, advice)
}

// isLost reports whether the connection was lost, and not for want of an answer.
func isLost(err error) bool {
	var netErr net.Error
	timedOut := errors.As(err, &netErr) && netErr.Timeout()
	return !timedOut && (netErr != nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed))
}

// selfTest returns the step that failed.
func selfTest(ctx context.Context, conn *pgx.Conn, timeout time.Duration) (step string, err error) {
	bounded := func(run func(ctx context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return run(ctx)
	}
	var tx *Tx
	err = bounded(func(ctx context.Context) (err error) {
		tx, err = Begin(ctx, conn, []Query{newEcho("begin", 1).query, newEcho("begin, again", 2).query})
		return err
	})
	if err != nil {
		return "BEGIN with queries in one round trip", err
	}
	err = bounded(func(ctx context.Context) error {
		return tx.Send(ctx, []Query{newEcho("send", 3).query, newEcho("send, again", -1<<63).query})
	})
	if err != nil {
		return "several queries in one round trip", err
	}
	step = "COMMIT"
	if tx.PipelinesCommit() {
		step = "pipelined COMMIT"
	}
	err = bounded(func(ctx context.Context) error {
		return tx.Commit(ctx, []Query{newEcho("commit", 4).verify, newEcho("commit, again", 5).query}, timeout)
	})
	if status := conn.PgConn().TxStatus(); err == nil && status != txIdle {
		err = fmt.Errorf("after COMMIT the transaction's status is %q", status)
	}
	if err != nil {
		return step, err
	}
	return "a query after " + step, bounded(func(ctx context.Context) error { return newEcho("after", 6).query(ctx, conn) })
}

// echo holds the arguments of a query that returns them.
type echo struct {
	text   string
	number int64
	flag   bool
	at     time.Time // which only verify sends
	object json.RawMessage
}

func newEcho(text string, number int64) *echo {
	at := time.Date(2026, time.January, 2, 3, 4, 5, 678901000, time.UTC)
	return &echo{text: text, number: number, flag: number%2 == 0, at: at, object: json.RawMessage(`{"self": "test"}`)}
}

// query fails if the result differs from the arguments.
func (e *echo) query(ctx context.Context, db DBTX) error {
	var got echo
	err := db.QueryRow(ctx, echoSQL, e.text, e.number, e.flag, e.object).Scan(&got.text, &got.number, &got.flag, &got.object)
	if err != nil {
		return Wrap(fmt.Sprintf("query %q", e.text), err)
	}
	if got.text != e.text || got.number != e.number || got.flag != e.flag || string(got.object) != string(e.object) {
		return fmt.Errorf("query %q: the result is (%q, %d, %t, %s)", e.text, got.text, got.number, got.flag, got.object)
	}
	return nil
}

// verify has PostgreSQL compare the arguments.
func (e *echo) verify(ctx context.Context, db DBTX) error {
	var one int32
	err := db.QueryRow(ctx, verifySQL, e.text, e.number, e.at, e.object).Scan(&one)
	if err == nil && one != 1 {
		err = errors.New("the result is another query's")
	}
	return Wrap(fmt.Sprintf("query %q", e.text), err)
}
