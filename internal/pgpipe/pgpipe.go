// Package pgpipe runs a PostgreSQL transaction in as few round trips as its data dependencies allow.
//
// # Queries
//
// A [Query] calls one accessor that sqlc generated. It runs first on a recorder, which queues the SQL and its arguments, so
// that any number of queries travel to PostgreSQL together. Begin and Send run it again on a scanner, which returns the
// result. Commit does not: it runs a query again only to wrap that query's error.
//
// # A transaction
//
//	tx, err := pgpipe.Begin(ctx, conn, queries) // BEGIN and queries: one round trip
//	err = tx.Send(ctx, more)                    // more queries: one round trip
//	err = tx.Commit(ctx, writes, timeout)       // writes and COMMIT: one round trip
//
// Begin and Send use a pgx.Batch. Commit does not: see below. In the query exec modes cache_describe, describe_exec and
// simple_protocol (default_query_exec_mode), Commit sends the writes first and then COMMIT by the simple protocol, which every
// pooler knows.
//
// # COMMIT without a cancel request
//
// When a context ends while pgx waits for an answer, pgx may send a cancel request. A COMMIT that waits for its
// synchronous standby and is canceled stays committed on this server without being replicated, and a failover loses it.
// So no context reaches the connection during Commit. The socket has a deadline; after it the socket is closed without
// another message. Whether the transaction was committed is then unknown, and the event's next delivery finds out.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
//
// Commit writes Bind and Execute for each write and for COMMIT, in the mode exec with a Parse before each, then one Sync, past pgx
// and its Frontend's buffer. It reads the answers up to ReadyForQuery:
//
//	(ParseComplete,) BindComplete, (NoData | DataRow…,) CommandComplete   for each write and for COMMIT
//	ErrorResponse                                        once; PostgreSQL then skips everything up to Sync
//	NoticeResponse, ParameterStatus, NotificationResponse at any place
//	ReadyForQuery                                        the end
//
// A message that may be larger than the socket's buffers is written while the answers are read: PostgreSQL answers while it
// reads, and would stop if nobody read. The pool's tracer and hooks (pgx.BatchTracer, OnNotice, OnNotification, OnPgError) are
// called as pgx would call them.
//
// # Guarded transactions
//
// A handler that somebody else wrote gets a guarded transaction from [Tx.Run]: Commit and Rollback are refused, and
// whatever else the handler did to the transaction is noticed when it returns.
package pgpipe

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DBTX is what an accessor of sqlc's runs on.
type DBTX interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Query calls one accessor of sqlc's on db and keeps its result where the caller wants it. It is called to record its SQL,
// where its error means nothing; to scan its result; and by Commit, which reads no results, to wrap its error. It may be
// called again for a later round trip. Wrap its error with Wrap.
type Query func(ctx context.Context, db DBTX) error

// Tx is a transaction that is open on a connection.
type Tx struct {
	conn      *pgx.Conn
	tx        pgx.Tx
	settings  *settings // of the connection
	prepended Query     // precedes the next queries; nil: none does
	early     bool      // see ParseEarly
}

// Isolation is that of the transactions: READ COMMITTED, whatever the database's default is.
var Isolation = pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL READ COMMITTED"}

// Begin begins a transaction and runs queries in the same round trip. Where an error comes with a transaction, it is to
// be rolled back.
func Begin(ctx context.Context, conn *pgx.Conn, queries []Query) (*Tx, error) {
	batch := &pgx.Batch{}
	batch.BeginTx(Isolation)
	record(ctx, batch, queries)
	results := conn.SendBatch(ctx, batch)
	t := &Tx{conn: conn, tx: results.Tx(), settings: settingsOf(conn)}
	if _, err := results.Exec(); err != nil { // of BEGIN
		_ = results.Close()
		return t, Wrap("begin", err)
	}
	return t, scan(ctx, results, queries)
}

// Conn returns the connection.
func (t *Tx) Conn() *pgx.Conn { return t.conn }

// Prepend runs q before the next queries of Send, Run or Commit. In modes that prepare statements, it shares their round trip
// only if PostgreSQL need not parse one of them: Parse comes before q runs, and would use the handler's settings.
func (t *Tx) Prepend(q Query) { t.prepended = q }

// Send runs queries in one round trip. A prepended query needs its own round trip in modes that prepare statements: pgx may
// have to prepare a query again, under the handler's settings.
func (t *Tx) Send(ctx context.Context, queries []Query) error {
	if first := t.takePrepended(); first != nil {
		if t.settings.parsesInOrder() {
			return t.send(ctx, append([]Query{first}, queries...))
		}
		if err := t.send(ctx, []Query{first}); err != nil {
			return err
		}
	}
	return t.send(ctx, queries)
}

// ParseEarly lets Run send a prepended query and a handler's statement in one round trip, although PostgreSQL may have to
// parse the statement before, with the settings that the prepended query restores. PostgreSQL parses it again when it runs
// with others, so at worst the statement fails. It is for a batch, which then rolls back, and whose events are retried alone.
func (t *Tx) ParseEarly() { t.early = true }

// takePrepended returns the prepended query, which is then not prepended any more.
func (t *Tx) takePrepended() Query {
	first := t.prepended
	t.prepended = nil
	return first
}

func (t *Tx) send(ctx context.Context, queries []Query) error {
	if len(queries) == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	record(ctx, batch, queries)
	return scan(ctx, t.tx.SendBatch(ctx, batch), queries)
}

// Send runs queries on a handler's transaction in one round trip.
func Send(ctx context.Context, tx pgx.Tx, queries []Query) error {
	batch := &pgx.Batch{}
	record(ctx, batch, queries)
	return scan(ctx, tx.SendBatch(ctx, batch), queries)
}

// Rollback rolls back within timeout, on a context of its own: that of the work has often ended. If it fails, pgx
// closes the connection, and PostgreSQL rolls back by itself. Where the transaction has ended already, as after a COMMIT
// that PostgreSQL refused, nothing is sent: PostgreSQL would log a warning.
func (t *Tx) Rollback(ctx context.Context, timeout time.Duration) {
	if t.tx != nil && t.conn.PgConn().TxStatus() != txIdle {
		Rollback(ctx, t.tx, timeout)
	}
}

// Rollback is Tx.Rollback for a transaction of pgx's.
func Rollback(ctx context.Context, tx pgx.Tx, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	defer func() { _ = recover() }() // of a hook of the pool's: the pool closes a connection whose transaction is open
	_ = tx.Rollback(ctx)
}

// Writes are queries whose results nobody waits for: they are deferred until the transaction is committed, or until a
// handler needs what they write. See Tx.Run. The zero value has none.
type Writes struct {
	list []Query
	sent bool
}

// Add adds queries.
func (w *Writes) Add(queries ...Query) { w.list = append(w.list, queries...) }

// Queries returns what has been added and not been sent.
func (w *Writes) Queries() []Query { return w.list }

func (w *Writes) empty() bool { return w == nil || len(w.list) == 0 }

// take returns the queries, which are then not deferred any more.
func (w *Writes) take() []Query {
	if w == nil {
		return nil
	}
	queries := w.list
	w.list, w.sent = nil, w.sent || len(queries) > 0
	return queries
}

// putBack undoes take, where nothing was sent.
func (w *Writes) putBack(queries []Query, sent bool) {
	if w != nil {
		w.list, w.sent = append(queries, w.list...), sent
	}
}

// Sent reports whether queries have been sent, or were to be.
func (w *Writes) Sent() bool { return w != nil && w.sent }

// Drop forgets the queries that have not been sent.
func (w *Writes) Drop() { w.list = nil }

// ErrRecording is what an accessor returns while its query is only recorded. To wrap it would cost more than to record.
var ErrRecording = errors.New("the query is being recorded")
