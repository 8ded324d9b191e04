package pgpipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pook/stripeonce/internal/fault"
)

// errNotReplicated reports a COMMIT whose wait for a synchronous standby was canceled by somebody: it stays on this server
// alone, and a failover would lose it. https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION-HA
var errNotReplicated = fault.Unavailable(errors.New("COMMIT was not replicated: waiting for the synchronous standby was canceled"))

var errRolledBack = errors.New("PostgreSQL rolled back instead of committing, because a statement had failed")

const (
	commitStatement = "COMMIT" // and its tag
	rolledBackTag   = "ROLLBACK"
)

// PipelinesCommit reports whether Commit sends writes and COMMIT together in a query exec mode of pgx's: as prepared
// statements, or as unnamed ones, which are parsed each time.
func PipelinesCommit(mode pgx.QueryExecMode) bool {
	return mode == pgx.QueryExecModeCacheStatement || mode == pgx.QueryExecModeExec
}

// PipelinesCommit is PipelinesCommit in the connection's mode.
func (t *Tx) PipelinesCommit() bool { return PipelinesCommit(t.settings.mode) }

// Commit runs writes and COMMIT in one round trip, for which PostgreSQL has timeout. No result of the writes is read, but
// an error in one of them rolls back everything. Unless PipelinesCommit, Send runs the writes and the prepended query
// first. An error that wraps fault.ErrUnavailable says that there was no answer: whether the transaction was committed is
// unknown.
//
// Ctx is only used where Send runs, where a statement must be prepared, or where the prepended query needs a round trip of
// its own.
func (t *Tx) Commit(ctx context.Context, writes []Query, timeout time.Duration) error {
	if !t.PipelinesCommit() {
		if err := t.Send(ctx, writes); err != nil {
			return err
		}
		return t.commitAlone(ctx, timeout)
	}
	queries, first := writes, t.takePrepended()
	if first != nil {
		queries = append([]Query{first}, writes...)
	}
	if len(queries) == 0 {
		return t.commitAlone(ctx, timeout)
	}
	batch := &pgx.Batch{}
	record(ctx, batch, queries)
	if first != nil && !t.settings.parsesInOrder() && !t.prepared(batch.QueuedQueries[1:]) {
		if err := t.send(ctx, queries[:1]); err != nil {
			return err
		}
		queries, batch.QueuedQueries = writes, batch.QueuedQueries[1:]
	}
	batch.Queue(commitStatement)
	ctx = t.settings.batchStarts(ctx, t.conn, batch)
	message := messages.Get().(*[]byte)
	defer giveBack(message)
	var err error
	if *message, err = appendAll(ctx, (*message)[:0], t, queries, batch); err == nil {
		var a answer
		a, err = exchange(t.conn.PgConn(), t.settings, timeout, *message, len(queries))
		t.settings.batchQueries(ctx, t.conn, batch, &a)
		if a.verdict != nil {
			err = explain(ctx, queries, a.done, a.verdict)
		}
	}
	t.settings.batchEnds(ctx, t.conn, err)
	return err
}

// ended is a context that has ended.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// prepared reports whether the connection has prepared all of the queries. With a context that has ended, Prepare returns a
// statement that pgx knows, and sends nothing for another one.
func (t *Tx) prepared(queries []*pgx.QueuedQuery) bool {
	for _, query := range queries {
		if _, err := t.conn.Prepare(ended, query.SQL, query.SQL); err != nil {
			return false
		}
	}
	return true
}

// explain has the query that failed wrap its error.
func explain(ctx context.Context, queries []Query, i int, err error) error {
	if i >= len(queries) {
		return fmt.Errorf("commit: %w", err)
	}
	if wrapped := queries[i](ctx, failing{err}); wrapped != nil {
		return wrapped
	}
	return err // whatever the query makes of it, nothing is committed
}

// commitAlone commits by the simple protocol, which every pooler knows.
func (t *Tx) commitAlone(ctx context.Context, timeout time.Duration) error {
	message, err := (&pgproto3.Query{String: commitStatement}).Encode(nil)
	if err != nil {
		return err
	}
	ctx = t.settings.queryStarts(ctx, t.conn, commitStatement)
	a, err := exchange(t.conn.PgConn(), t.settings, timeout, message, 0)
	if a.verdict != nil {
		err = fmt.Errorf("commit: %w", a.verdict)
	}
	t.settings.queryEnds(ctx, t.conn, &a, err)
	return err
}

// answer is PostgreSQL's answer to Commit's message.
type answer struct {
	done    int      // queries, COMMIT included
	tags    []string // theirs, if a tracer wants them
	verdict error    // on the query after them; nil: there is none
	unfit   bool     // the host's OnPgError wants the connection closed for it
}

// exchange sends a message of so many writes and COMMIT, and reads the answer to its end. Err reports that there was no
// answer. It bypasses pgproto3's Frontend, whose buffer is empty: pgx flushes with each of its calls.
func exchange(pg *pgconn.PgConn, host *settings, timeout time.Duration, message []byte, writes int) (a answer, err error) {
	if err := pg.Conn().SetDeadline(time.Now().Add(timeout)); err != nil {
		return answer{}, abandon(pg, err)
	}
	s := send(pg.Conn(), message)
	returned := false
	defer func() {
		if !returned { // a hook of the host's panicked, and the connection is out of step
			_ = pg.Close(context.Background())
			_ = s.wait() // the message is in use until then
		}
	}()
	a, err = readAnswer(pg, host, writes)
	returned = true
	if errors.Is(err, errNotReplicated) {
		return a, errors.Join(err, s.wait(), pg.Conn().SetDeadline(time.Time{}))
	}
	if err != nil || a.unfit {
		_ = pg.Conn().SetWriteDeadline(time.Now()) // nobody reads more answers, so that PostgreSQL may read no more of it
	}
	err = errors.Join(s.wait(), err) // the server may have closed, and what it said last is there to be read
	if err == nil {
		err = pg.Conn().SetDeadline(time.Time{})
	}
	code := fault.Code(a.verdict)
	ended := err != nil && (code == fault.IdleInTransaction || code == fault.TransactionTimeout) // before any of this arrived
	if ended || a.unfit {
		_ = pg.Close(context.Background())
		return a, nil
	}
	if err != nil {
		return answer{}, abandon(pg, err)
	}
	return a, nil
}

// maxBlockingWrite is the size from which on a message is written while its answer is read. PostgreSQL answers while it
// reads. Where its answers are large, such as the notices of a trigger, and nobody reads them, it stops reading, and both
// sides wait for one another. A smaller message fits into the buffers of any socket.
const maxBlockingWrite = 32 << 10

// sending is a message that is being written, or was.
type sending struct {
	err     error      // if it was
	written chan error // receives the error when it is; nil: it was
}

func send(conn net.Conn, message []byte) (s sending) {
	if len(message) <= maxBlockingWrite {
		_, s.err = conn.Write(message)
		return s
	}
	s.written = make(chan error, 1)
	go func() {
		_, err := conn.Write(message)
		s.written <- err
	}()
	return s
}

// wait waits until the message is written, and returns the error. It is called once.
func (s *sending) wait() error {
	if s.written != nil {
		return <-s.written
	}
	return s.err
}

// messages are buffers for what is sent. Through pgproto3's own, which starts anew after each flush, every Stripe object
// would be copied several times.
var messages = sync.Pool{New: func() any { return new([]byte) }}

// maxKept bounds the memory of a buffer that is kept.
const maxKept = 256 << 10

func giveBack(message *[]byte) {
	if cap(*message) <= maxKept {
		messages.Put(message)
	}
}

// appendAll appends the messages that execute the writes and COMMIT. In a mode that prepares statements, it prepares those that the
// connection does not know yet.
func appendAll(ctx context.Context, to []byte, t *Tx, writes []Query, batch *pgx.Batch) ([]byte, error) {
	unnamed := t.settings.parsesInOrder()
	for i, query := range batch.QueuedQueries {
		var description *pgconn.StatementDescription
		var err error
		if unnamed {
			to, err = (&pgproto3.Parse{Query: query.SQL}).Encode(to)
		} else {
			description, err = t.conn.Prepare(ctx, query.SQL, query.SQL)
		}
		if err != nil {
			return to, explain(ctx, writes, i, err)
		}
		bind, err := bindOf(t.conn, description, query)
		if err != nil {
			return to, explain(ctx, writes, i, err)
		}
		if to, err = bind.Encode(to); err != nil {
			return to, explain(ctx, writes, i, err)
		}
		if to, err = (&pgproto3.Execute{}).Encode(to); err != nil {
			return to, err
		}
	}
	return (&pgproto3.Sync{}).Encode(to)
}

// bindOf binds the arguments of a query to its prepared statement, or to the unnamed one, if there is no description.
func bindOf(conn *pgx.Conn, description *pgconn.StatementDescription, query *pgx.QueuedQuery) (*pgproto3.Bind, error) {
	arguments := slices.Clone(query.Arguments) // the query's own may be used again
	objects := simplify(description, arguments)
	var encoded pgx.ExtendedQueryBuilder
	if err := encoded.Build(conn.TypeMap(), description, arguments); err != nil {
		return nil, err
	}
	for i, object := range objects {
		if object != nil {
			encoded.ParamFormats[i], encoded.ParamValues[i] = pgx.TextFormatCode, object
		}
	}
	bind := &pgproto3.Bind{ParameterFormatCodes: encoded.ParamFormats, Parameters: encoded.ParamValues, ResultFormatCodes: encoded.ResultFormats}
	if description != nil {
		bind.PreparedStatement = description.Name
	}
	return bind, nil
}

// simplify avoids two slow paths of pgx: pointer arguments (reflection) and JSON (copies). It returns the JSON arguments,
// which are sent unchanged.
func simplify(description *pgconn.StatementDescription, arguments []any) (objects []json.RawMessage) {
	for i, argument := range arguments {
		switch argument := argument.(type) {
		case *string:
			arguments[i] = dereferenced(argument)
		case *int64:
			arguments[i] = dereferenced(argument)
		case *time.Time:
			arguments[i] = dereferenced(argument)
		case json.RawMessage:
			if description != nil && (i >= len(description.ParamOIDs) || description.ParamOIDs[i] != pgtype.JSONBOID) {
				continue
			}
			if objects == nil {
				objects = make([]json.RawMessage, len(arguments))
			}
			objects[i], arguments[i] = argument, nil
		}
	}
	return objects
}

func dereferenced[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// readAnswer reads up to the end of the answer. Until there is a verdict it reads past pgconn's ReceiveMessage, which sends
// a cancel request when the connection breaks. The hooks that ReceiveMessage would call are called here.
func readAnswer(pg *pgconn.PgConn, host *settings, writes int) (a answer, err error) {
	replicated := true
	for last := ""; last != commitStatement && a.verdict == nil; {
		message, err := pg.Frontend().Receive()
		if err != nil {
			return a, err
		}
		switch message := message.(type) {
		case *pgproto3.CommandComplete:
			last = string(message.CommandTag)
			host.done(last, &a)
		case *pgproto3.ErrorResponse:
			host.failed(pg, message, &a)
		case *pgproto3.NoticeResponse:
			replicated = replicated && (a.done < writes || !endsSyncRepWait(message))
			host.notice(pg, message)
		case *pgproto3.NotificationResponse:
			host.notification(pg, message)
		}
	}
	for !a.unfit {
		message, err := pg.ReceiveMessage(context.Background())
		if err != nil {
			return a, err
		}
		replicated = replicated && !endsSyncRepWait(message)
		_, end := message.(*pgproto3.ReadyForQuery)
		switch {
		case end && a.verdict == nil && !replicated:
			return a, errNotReplicated
		case end:
			return a, nil
		}
	}
	return a, nil
}

// endsSyncRepWait reports the warning that the wait for a synchronous standby was canceled, or its session terminated. It
// tests the routine's name (SyncRepWaitForLSN, in src/backend/replication/syncrep.c), since the text is in the server's
// language and the SQLSTATE may be that of any warning (01000).
func endsSyncRepWait(message pgproto3.BackendMessage) bool {
	notice, ok := message.(*pgproto3.NoticeResponse)
	return ok && (notice.Routine == "SyncRepWaitForLSN" || notice.Code == fault.QueryCanceled || notice.Code == fault.AdminShutdown)
}

// abandon closes the socket. Unlike what pgx does when a context ends, Close sends no cancel request.
func abandon(pg *pgconn.PgConn, cause error) error {
	var netErr net.Error
	if errors.As(cause, &netErr) && netErr.Timeout() {
		cause = errors.New("no response in time")
	}
	_ = pg.Close(context.Background())
	return fault.Unavailable(fmt.Errorf("it is unknown whether COMMIT succeeded: %w", cause))
}
