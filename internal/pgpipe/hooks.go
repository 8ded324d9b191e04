package pgpipe

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// hooks are what the host has set on its pool's connections: Commit calls them as pgx would. Nil: not set.
type hooks struct {
	batch          pgx.BatchTracer
	query          pgx.QueryTracer
	onNotice       pgconn.NoticeHandler
	onNotification pgconn.NotificationHandler
	onPgError      pgconn.PgErrorHandler
}

// hooksKey is where a connection's CustomData has them: pgx copies the whole config for each look at it.
const hooksKey = "stripeonce.hooks"

func hooksOf(conn *pgx.Conn) *hooks {
	data := conn.PgConn().CustomData()
	if h, ok := data[hooksKey].(*hooks); ok {
		return h
	}
	config := conn.Config()
	h := &hooks{onNotice: config.OnNotice, onNotification: config.OnNotification, onPgError: config.OnPgError}
	h.batch, _ = config.Tracer.(pgx.BatchTracer)
	h.query = config.Tracer
	data[hooksKey] = h
	return h
}

// traces reports whether the command tags are wanted.
func (h *hooks) traces() bool { return h.batch != nil || h.query != nil }

func (h *hooks) batchStarts(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch) context.Context {
	if h.batch == nil {
		return ctx
	}
	return h.batch.TraceBatchStart(ctx, conn, pgx.TraceBatchStartData{Batch: batch})
}

// ignorePanic ends a panic of a tracer that is called when the answer is known: what was committed is not a failure.
func ignorePanic() { _ = recover() }

// batchQueries reports the queries that were done and the one that failed.
func (h *hooks) batchQueries(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch, a *answer) {
	defer ignorePanic()
	if h.batch == nil {
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
		h.batch.TraceBatchQuery(ctx, conn, data)
		if data.Err != nil {
			return
		}
	}
}

func (h *hooks) batchEnds(ctx context.Context, conn *pgx.Conn, err error) {
	defer ignorePanic()
	if h.batch != nil {
		h.batch.TraceBatchEnd(ctx, conn, pgx.TraceBatchEndData{Err: err})
	}
}

func (h *hooks) queryStarts(ctx context.Context, conn *pgx.Conn, sql string) context.Context {
	if h.query == nil {
		return ctx
	}
	return h.query.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{SQL: sql})
}

func (h *hooks) queryEnds(ctx context.Context, conn *pgx.Conn, a *answer, err error) {
	defer ignorePanic()
	if h.query == nil {
		return
	}
	data := pgx.TraceQueryEndData{Err: err}
	if len(a.tags) > 0 {
		data.CommandTag = pgconn.NewCommandTag(a.tags[len(a.tags)-1])
	}
	h.query.TraceQueryEnd(ctx, conn, data)
}

// failed sets the verdict, and whether the host wants the connection closed for it. After a fatal error, for which pgx's
// default hook wants that too, PostgreSQL closes it.
func (h *hooks) failed(pg *pgconn.PgConn, message *pgproto3.ErrorResponse, a *answer) {
	pgErr := pgconn.ErrorResponseToPgError(message)
	keep := h.onPgError == nil || h.onPgError(pg, pgErr)
	a.verdict, a.unfit = pgErr, !keep && pgErr.SeverityUnlocalized == "ERROR"
}

// done counts a query that was done, and keeps its command tag if a tracer wants it.
func (h *hooks) done(tag string, a *answer) {
	a.done++
	if h.traces() {
		a.tags = append(a.tags, tag)
	}
	if tag == rolledBackTag {
		a.verdict = errRolledBack
	}
}

func (h *hooks) notice(pg *pgconn.PgConn, message *pgproto3.NoticeResponse) {
	if h.onNotice != nil {
		h.onNotice(pg, (*pgconn.Notice)(pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(message))))
	}
}

func (h *hooks) notification(pg *pgconn.PgConn, message *pgproto3.NotificationResponse) {
	if h.onNotification != nil {
		h.onNotification(pg, &pgconn.Notification{PID: message.PID, Channel: message.Channel, Payload: message.Payload})
	}
}
