package pgpipe

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// settings are what Commit needs of a connection's config: its query exec mode, and the hooks of the host, which Commit calls
// as pgx would. Nil: not set.
type settings struct {
	mode           pgx.QueryExecMode
	batch          pgx.BatchTracer
	query          pgx.QueryTracer
	onNotice       pgconn.NoticeHandler
	onNotification pgconn.NotificationHandler
	onPgError      pgconn.PgErrorHandler
}

// settingsKey is where a connection's CustomData has them: pgx copies the whole config for each look at it.
const settingsKey = "stripeonce.settings"

func settingsOf(conn *pgx.Conn) *settings {
	data := conn.PgConn().CustomData()
	if s, ok := data[settingsKey].(*settings); ok {
		return s
	}
	config := conn.Config()
	s := &settings{
		mode: config.DefaultQueryExecMode, query: config.Tracer,
		onNotice: config.OnNotice, onNotification: config.OnNotification, onPgError: config.OnPgError,
	}
	s.batch, _ = config.Tracer.(pgx.BatchTracer)
	data[settingsKey] = s
	return s
}

// parsesInOrder reports whether each query of a round trip is parsed just before it runs, and not before all of them.
func (s *settings) parsesInOrder() bool {
	return s.mode == pgx.QueryExecModeExec || s.mode == pgx.QueryExecModeSimpleProtocol
}

// traces reports whether the command tags are wanted.
func (s *settings) traces() bool { return s.batch != nil || s.query != nil }

func (s *settings) batchStarts(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch) context.Context {
	if s.batch == nil {
		return ctx
	}
	return s.batch.TraceBatchStart(ctx, conn, pgx.TraceBatchStartData{Batch: batch})
}

// ignorePanic ends a panic of a tracer that is called when the answer is known: what was committed is not a failure.
func ignorePanic() { _ = recover() }

// batchQueries reports the queries that were done and the one that failed.
func (s *settings) batchQueries(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch, a *answer) {
	defer ignorePanic()
	if s.batch == nil {
		return
	}
	began := time.Now()
	for i, query := range batch.QueuedQueries {
		data := pgx.TraceBatchQueryData{SQL: query.SQL, Args: query.Arguments, ReadStartTime: began}
		switch {
		case i < a.done:
			data.CommandTag = pgconn.NewCommandTag(a.tags[i])
		case a.verdict != nil:
			data.Err = a.verdict
		default: // no answer
			return
		}
		s.batch.TraceBatchQuery(ctx, conn, data)
		if data.Err != nil {
			return
		}
	}
}

func (s *settings) batchEnds(ctx context.Context, conn *pgx.Conn, err error) {
	defer ignorePanic()
	if s.batch != nil {
		s.batch.TraceBatchEnd(ctx, conn, pgx.TraceBatchEndData{Err: err})
	}
}

func (s *settings) queryStarts(ctx context.Context, conn *pgx.Conn, sql string) context.Context {
	if s.query == nil {
		return ctx
	}
	return s.query.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{SQL: sql})
}

func (s *settings) queryEnds(ctx context.Context, conn *pgx.Conn, a *answer, err error) {
	defer ignorePanic()
	if s.query == nil {
		return
	}
	data := pgx.TraceQueryEndData{Err: err}
	if len(a.tags) > 0 {
		data.CommandTag = pgconn.NewCommandTag(a.tags[len(a.tags)-1])
	}
	s.query.TraceQueryEnd(ctx, conn, data)
}

// failed sets the verdict, and whether the host wants the connection closed for it. After a fatal error, for which pgx's
// default hook wants that too, PostgreSQL closes it.
func (s *settings) failed(pg *pgconn.PgConn, message *pgproto3.ErrorResponse, a *answer) {
	pgErr := pgconn.ErrorResponseToPgError(message)
	keep := s.onPgError == nil || s.onPgError(pg, pgErr)
	a.verdict, a.unfit = pgErr, !keep && pgErr.SeverityUnlocalized == "ERROR"
}

// done counts a query that was done, and keeps its command tag if a tracer wants it.
func (s *settings) done(tag string, a *answer) {
	a.done++
	if s.traces() {
		a.tags = append(a.tags, tag)
	}
	if tag == rolledBackTag {
		a.verdict = errRolledBack
	}
}

func (s *settings) notice(pg *pgconn.PgConn, message *pgproto3.NoticeResponse) {
	if s.onNotice != nil {
		s.onNotice(pg, (*pgconn.Notice)(pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(message))))
	}
}

func (s *settings) notification(pg *pgconn.PgConn, message *pgproto3.NotificationResponse) {
	if s.onNotification != nil {
		s.onNotification(pg, &pgconn.Notification{PID: message.PID, Channel: message.Channel, Payload: message.Payload})
	}
}
