package pgpipe

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// deferred are the receiver's own queries that precede a handler's first statement.
type deferred struct {
	tx     *Tx
	ctx    context.Context // of Run
	own    bool            // the handler's statements are the receiver's own: the prepended query precedes them
	writes *Writes         // nil: none
	failed error           // of one of the queries
}

// flush sends the queries in a round trip of their own.
func (d *deferred) flush(ctx context.Context) error {
	if d.writes.empty() && (!d.own || d.tx.prepended == nil) {
		return nil
	}
	taken := d.take()
	err := d.tx.Send(ctx, taken.queries)
	if err != nil {
		d.note(ctx, taken, err, true)
	}
	return err
}

// taken is what has been taken to be sent.
type taken struct {
	queries []Query
	first   Query // the prepended one
	sent    bool  // something had been sent before
}

func (d *deferred) take() taken {
	t := taken{first: d.tx.prepended, sent: d.writes.Sent()}
	t.queries = d.writes.take()
	return t
}

// pipelines reports whether there are queries that can share the round trip of a statement with these arguments. Where
// statements are prepared, this one may have to be parsed, which comes before all queries: not where a prepended query must
// precede it. Not either where the host's tracer knows no batches, and would not see the statement.
func (d *deferred) pipelines(args []any) bool {
	s := d.tx.settings
	blind := s.query != nil && s.batch == nil
	tooEarly := d.tx.prepended != nil && !d.tx.early && !s.parsesInOrder()
	if d.writes.empty() || tooEarly || !d.tx.PipelinesCommit() || blind {
		return false
	}
	if len(args) == 0 {
		return true
	}
	switch args[0].(type) { // options that a batch does not know
	case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		return false
	}
	return true
}

// sendWith sends the queries and a statement in one round trip. The statement's result is the next one of results.
func (d *deferred) sendWith(ctx context.Context, sql string, args []any) (pgx.BatchResults, error) {
	taken, batch := d.take(), &pgx.Batch{}
	queries := taken.queries
	if first := d.tx.takePrepended(); first != nil {
		queries = append([]Query{first}, queries...)
	}
	record(ctx, batch, queries)
	batch.Queue(sql, args...)
	results := d.tx.tx.SendBatch(ctx, batch)
	for _, query := range queries {
		if err := query(ctx, scanner{results}); err != nil {
			_ = results.Close()
			own, err := d.blame(ctx, err, batch)
			d.note(ctx, taken, err, own)
			return nil, err
		}
	}
	return results, nil
}

// blame reports whether an error of a batch's first queries is theirs. It may be that of its last statement, the handler's: pgx
// prepares all statements and encodes all arguments before it sends the first one. The end of a context is for note to judge.
func (d *deferred) blame(ctx context.Context, err error, batch *pgx.Batch) (own bool, cause error) {
	last := len(batch.QueuedQueries) - 1
	var unsent pgx.ErrPreprocessingBatch
	if errors.As(err, &unsent) {
		if unsent.SQL() != batch.QueuedQueries[last].SQL {
			return true, err
		}
		return false, unsent.Unwrap()
	}
	// Where it prepares none, pgx does not say whose argument it was. Then it is the handler's if the others can be encoded.
	conn := d.tx.conn
	unsentHere := d.tx.settings.parsesInOrder() && ctx.Err() == nil && !conn.IsClosed() && conn.PgConn().TxStatus() == txOpen
	if !unsentHere || errors.As(err, new(*pgconn.PgError)) {
		return true, err
	}
	for _, query := range batch.QueuedQueries[:last] {
		if new(pgx.ExtendedQueryBuilder).Build(conn.TypeMap(), nil, query.Arguments) != nil {
			return true, err
		}
	}
	return false, err
}

// note notes that what was taken has failed. If nothing of it was sent, it is put back, since a handler may go on after an
// error of its statement. Otherwise the transaction has failed or the connection is closed, which ends the event whatever
// the handler makes of it. An error of one of the queries is the receiver's own, unless the handler gave its statement a
// context that ended before Run's.
func (d *deferred) note(ctx context.Context, t taken, err error, own bool) {
	conn := d.tx.conn
	switch {
	case own && (ctx.Err() == nil || d.ctx.Err() != nil):
		d.failed = err
	case !conn.IsClosed() && conn.PgConn().TxStatus() == txOpen:
		d.tx.prepended = t.first
		d.writes.putBack(t.queries, t.sent)
	}
}

// closeResults closes the results of a batch whose last one has been read, and returns the first error.
func closeResults(results pgx.BatchResults, err error) error {
	if closing := results.Close(); err == nil {
		return closing
	}
	return err
}

// lastRows are the rows of a batch's last statement. They close the batch.
type lastRows struct {
	pgx.Rows
	results pgx.BatchResults
	err     error
}

func (r *lastRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *lastRows) Close() {
	r.Rows.Close()
	if r.results != nil {
		r.err = closeResults(r.results, r.Rows.Err())
		r.results = nil
	}
}

func (r *lastRows) Err() error {
	if r.results != nil {
		return r.Rows.Err()
	}
	return r.err
}

func (r *lastRows) Scan(dest ...any) error {
	err := r.Rows.Scan(dest...)
	if err != nil { // pgx closes rows after an error
		r.Close()
	}
	return err
}

func (r *lastRows) Values() ([]any, error) {
	values, err := r.Rows.Values()
	if err != nil {
		r.Close()
	}
	return values, err
}

// lastRow is the row of a batch's last statement. It closes the batch.
type lastRow struct{ results pgx.BatchResults }

func (r *lastRow) Scan(dest ...any) error {
	return closeResults(r.results, r.results.QueryRow().Scan(dest...))
}
