package webhooks

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
var errNotReplicated = fmt.Errorf("%w: COMMIT stayed on this server alone, since its wait for the synchronous standby was canceled", ErrUnavailable)

var errRolledBack = errors.New("PostgreSQL rolled back instead of committing, since a statement had failed")

const (
	commitStatement = "COMMIT" // and its tag
	rolledBackTag   = "ROLLBACK"
)

// lastTrip sends what is left to be written together with COMMIT. It differs from a pgx.Batch in what it does
// when no answer comes: pgx would send a cancel request, and a COMMIT that is waiting for its synchronous
// standby, cancelled, stays committed here without being replicated. So no context reaches the connection,
// only a deadline for reading, and after that the socket is closed without a word. Whether the transaction was
// committed is then open, and the event's next delivery finds out.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS.
func lastTrip(ctx context.Context, conn *pgx.Conn, statements []Statement, timeout time.Duration) error {
	message := messages.Get().(*[]byte)
	defer giveBack(message)
	var err error
	if *message, err = appendAll(ctx, (*message)[:0], conn, statements); err != nil {
		return err
	}
	done, verdict, err := exchange(conn.PgConn(), timeout, *message, len(statements))
	if verdict != nil {
		return about(ctx, statements, done, verdict)
	}
	return err
}

// about has the statement whose error it is say what it was about.
func about(ctx context.Context, statements []Statement, i int, err error) error {
	if i >= len(statements) {
		return fmt.Errorf("commit: %w", err)
	}
	if own := statements[i](ctx, failed{err}); own != nil {
		return own
	}
	return err // whatever the statement makes of it, nothing is committed
}

// commit ends the transaction that is open on conn, by the simple protocol, which every pooler knows.
func commit(conn *pgx.Conn, timeout time.Duration) error {
	message, err := (&pgproto3.Query{String: commitStatement}).Encode(nil)
	if err != nil {
		return err
	}
	_, verdict, err := exchange(conn.PgConn(), timeout, message, 0)
	if verdict != nil {
		return fmt.Errorf("commit: %w", verdict)
	}
	return err
}

// exchange sends a message of so many statements and COMMIT, and reads the answer to its end: how many statements were
// done, and PostgreSQL's verdict on the next one if it failed. It writes past pgproto3's Frontend, in which nothing
// may be left unsent: pgx flushes with each of its calls. The error says that there was no answer.
func exchange(pg *pgconn.PgConn, timeout time.Duration, message []byte, statements int) (done int, verdict, err error) {
	if err := pg.Conn().SetDeadline(time.Now().Add(timeout)); err != nil {
		return 0, nil, abandon(pg, err)
	}
	_, unsent := pg.Conn().Write(message) // which may be since the server has closed, and its last word is there to be read
	done, verdict, err = verdictOf(pg, statements)
	if errors.Is(err, errNotReplicated) {
		return done, nil, errors.Join(err, pg.Conn().SetDeadline(time.Time{}))
	}
	err = errors.Join(unsent, err)
	if err == nil {
		err = pg.Conn().SetDeadline(time.Time{})
	}
	if code := fault.Code(verdict); err != nil && (code == fault.IdleInTransaction || code == fault.TransactionTimeout) {
		_ = pg.Close(context.Background()) // the session had ended before any of this arrived
		return done, verdict, nil
	}
	if err != nil {
		return 0, nil, abandon(pg, err)
	}
	return done, verdict, nil
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

// appendAll prepares the statements and COMMIT where the connection does not know them yet, and appends the messages
// that execute them.
func appendAll(ctx context.Context, to []byte, conn *pgx.Conn, statements []Statement) ([]byte, error) {
	batch := &pgx.Batch{}
	note(ctx, (*noted)(batch), statements)
	batch.Queue(commitStatement)
	for i, query := range batch.QueuedQueries {
		bind, err := bindOf(ctx, conn, query)
		if err != nil {
			return to, about(ctx, statements, i, err)
		}
		if to, err = bind.Encode(to); err != nil {
			return to, about(ctx, statements, i, err)
		}
		if to, err = (&pgproto3.Execute{}).Encode(to); err != nil {
			return to, err
		}
	}
	parsedOn(conn).add(batch, true)
	return (&pgproto3.Sync{}).Encode(to)
}

func bindOf(ctx context.Context, conn *pgx.Conn, query *pgx.QueuedQuery) (*pgproto3.Bind, error) {
	description, err := conn.Prepare(ctx, query.SQL, query.SQL)
	if err != nil {
		return nil, err
	}
	arguments := slices.Clone(query.Arguments) // the statement's own may be used again
	objects := simplify(description.ParamOIDs, arguments)
	var encoded pgx.ExtendedQueryBuilder
	if err := encoded.Build(conn.TypeMap(), description, arguments); err != nil {
		return nil, err
	}
	for i, object := range objects {
		if object != nil {
			encoded.ParamFormats[i], encoded.ParamValues[i] = pgx.TextFormatCode, object
		}
	}
	return &pgproto3.Bind{
		PreparedStatement: description.Name, ParameterFormatCodes: encoded.ParamFormats,
		Parameters: encoded.ParamValues, ResultFormatCodes: encoded.ResultFormats,
	}, nil
}

// simplify spares pgx what takes it long: to follow pointers, by reflection, and to copy JSON, which is taken out of
// the arguments and goes as it is.
func simplify(oids []uint32, arguments []any) (objects []json.RawMessage) {
	for i, argument := range arguments {
		switch argument := argument.(type) {
		case *string:
			arguments[i] = pointed(argument)
		case *int64:
			arguments[i] = pointed(argument)
		case *time.Time:
			arguments[i] = pointed(argument)
		case json.RawMessage:
			if i >= len(oids) || oids[i] != pgtype.JSONBOID {
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

func pointed[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// verdictOf reads up to the end of the answer. Until there is a verdict it reads past pgconn's ReceiveMessage,
// which sends a cancel request when the connection breaks.
func verdictOf(pg *pgconn.PgConn, statements int) (done int, verdict, err error) {
	replicated := true
	for last := ""; last != commitStatement && verdict == nil; {
		message, err := pg.Frontend().Receive()
		if err != nil {
			return done, nil, err
		}
		switch message := message.(type) {
		case *pgproto3.CommandComplete:
			done++
			if last = string(message.CommandTag); last == rolledBackTag {
				verdict = errRolledBack
			}
		case *pgproto3.ErrorResponse:
			verdict = pgconn.ErrorResponseToPgError(message)
		case *pgproto3.NoticeResponse:
			replicated = replicated && (done < statements || !endsSyncRepWait((*pgproto3.ErrorResponse)(message)))
		}
	}
	for {
		message, err := pg.ReceiveMessage(context.Background())
		if err != nil {
			return done, verdict, err
		}
		_, end := message.(*pgproto3.ReadyForQuery)
		switch {
		case end && verdict == nil && !replicated:
			return done, nil, errNotReplicated
		case end:
			return done, verdict, nil
		}
	}
}

// endsSyncRepWait is true for the warning that COMMIT's wait for a synchronous standby was canceled, or its session
// terminated. Its text is in the server's language. Its SQLSTATE is that of any warning (01000) where a user canceled the
// wait, so that the routine which sent it tells: SyncRepWaitForLSN, in src/backend/replication/syncrep.c.
func endsSyncRepWait(notice *pgproto3.ErrorResponse) bool {
	return notice.Routine == "SyncRepWaitForLSN" || notice.Code == fault.QueryCanceled || notice.Code == fault.AdminShutdown
}

// abandon gives up the socket. Unlike what pgx does when a context ends, Close sends no cancel request.
func abandon(pg *pgconn.PgConn, cause error) error {
	var netErr net.Error
	if errors.As(cause, &netErr) && netErr.Timeout() {
		cause = errors.New("it was not answered in time")
	}
	_ = pg.Close(context.Background())
	return fmt.Errorf("%w: whether COMMIT succeeded is unknown: %w", ErrUnavailable, cause)
}
