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

// commit ends the transaction that is open on conn. It differs from pgx's Commit in what it does when no
// answer comes: pgx would send a cancel request, and a COMMIT that is waiting for its synchronous
// standby, cancelled, stays committed here without being replicated. So no context reaches the
// connection, only a deadline for reading, and after that the socket is closed without a word. Whether
// the transaction was committed is then open, and the event's next delivery finds out.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS.
func commit(conn *pgx.Conn, timeout time.Duration) error {
	pg := conn.PgConn()
	if err := pg.Conn().SetDeadline(time.Now().Add(timeout)); err != nil {
		return abandon(pg, err)
	}
	pg.Frontend().SendQuery(&pgproto3.Query{String: "COMMIT"})
	if err := pg.Frontend().Flush(); err != nil {
		return abandon(pg, err)
	}
	answer, err := commitAnswer(pg)
	if err != nil {
		return abandon(pg, err)
	}
	if err := pg.Conn().SetDeadline(time.Time{}); err != nil {
		return abandon(pg, err)
	}
	return answer
}

// commitAnswer reads up to the end of COMMIT's answer. The first result is PostgreSQL's own verdict,
// the second that there was none.
func commitAnswer(pg *pgconn.PgConn) (verdict, err error) {
	for {
		message, err := pg.ReceiveMessage(context.Background())
		if err != nil {
			return nil, err
		}
		switch message := message.(type) {
		case *pgproto3.CommandComplete:
			if string(message.CommandTag) != "COMMIT" {
				verdict = errRolledBack
			}
		case *pgproto3.ErrorResponse:
			verdict = fmt.Errorf("commit: %w", pgconn.ErrorResponseToPgError(message))
		case *pgproto3.ReadyForQuery:
			return verdict, nil
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
