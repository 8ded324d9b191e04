package webhooks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

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
	prepared, err := prepareAll(ctx, conn, statements)
	if err != nil {
		return err
	}
	done, verdict, err := exchange(conn.PgConn(), timeout, func(frontend *pgproto3.Frontend) {
		for i := range prepared {
			frontend.SendBind(&prepared[i])
			frontend.SendExecute(&pgproto3.Execute{})
		}
		frontend.SendSync(&pgproto3.Sync{})
	})
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
	_, verdict, err := exchange(conn.PgConn(), timeout, func(frontend *pgproto3.Frontend) {
		frontend.SendQuery(&pgproto3.Query{String: commitStatement})
	})
	if verdict != nil {
		return fmt.Errorf("commit: %w", verdict)
	}
	return err
}

// exchange sends messages that end with COMMIT, and reads the answer to its end: how many statements were
// done, and PostgreSQL's verdict on the next one if it failed. The error says that there was no answer.
func exchange(pg *pgconn.PgConn, timeout time.Duration, send func(*pgproto3.Frontend)) (done int, verdict, err error) {
	if err := pg.Conn().SetDeadline(time.Now().Add(timeout)); err != nil {
		return 0, nil, abandon(pg, err)
	}
	send(pg.Frontend())
	unsent := pg.Frontend().Flush() // which may be since the server has closed, and its last word is there to be read
	done, verdict, err = verdictOf(pg)
	err = errors.Join(unsent, err)
	if err == nil {
		err = pg.Conn().SetDeadline(time.Time{})
	}
	if err != nil && pgCode(verdict) == codeIdleInTransaction {
		_ = pg.Close(context.Background()) // the session had ended before any of this arrived
		return done, verdict, nil
	}
	if err != nil {
		return 0, nil, abandon(pg, err)
	}
	return done, verdict, nil
}

// prepareAll prepares the statements and COMMIT where the connection does not know them yet, and encodes
// their arguments.
func prepareAll(ctx context.Context, conn *pgx.Conn, statements []Statement) ([]pgproto3.Bind, error) {
	batch := &pgx.Batch{}
	note(ctx, (*noted)(batch), statements)
	batch.Queue(commitStatement)
	list := make([]pgproto3.Bind, len(batch.QueuedQueries))
	for i, query := range batch.QueuedQueries {
		description, err := conn.Prepare(ctx, query.SQL, query.SQL)
		if err != nil {
			return nil, about(ctx, statements, i, err)
		}
		var encoded pgx.ExtendedQueryBuilder
		if err := encoded.Build(conn.TypeMap(), description, query.Arguments); err != nil {
			return nil, about(ctx, statements, i, err)
		}
		list[i] = pgproto3.Bind{
			PreparedStatement: description.Name, ParameterFormatCodes: encoded.ParamFormats,
			Parameters: encoded.ParamValues, ResultFormatCodes: encoded.ResultFormats,
		}
	}
	return list, nil
}

// verdictOf reads up to the end of the answer. Until there is a verdict it reads past pgconn's ReceiveMessage,
// which sends a cancel request when the connection breaks.
func verdictOf(pg *pgconn.PgConn) (done int, verdict, err error) {
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
		}
	}
	for {
		message, err := pg.ReceiveMessage(context.Background())
		if err != nil {
			return done, verdict, err
		}
		if _, end := message.(*pgproto3.ReadyForQuery); end {
			return done, verdict, nil
		}
	}
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
