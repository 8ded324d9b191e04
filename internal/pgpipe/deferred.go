package pgpipe

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/fault"
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
	queries := d.writes.take()
	if len(queries) == 0 && (!d.own || d.tx.prepended == nil) {
		return nil
	}
	return d.note(ctx, d.tx.Send(ctx, queries), "")
}

// pipelines reports whether there are queries that can share the round trip of a statement with these arguments. The
// statement may have to be parsed, which comes before all queries: not where a prepended query must precede it.
func (d *deferred) pipelines(args []any) bool {
	if d.writes.empty() || d.tx.prepended != nil && !d.tx.early || !d.tx.PipelinesCommit() {
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
	queries, batch := d.writes.take(), &pgx.Batch{}
	if first := d.tx.takePrepended(); first != nil {
		queries = append([]Query{first}, queries...)
	}
	record(ctx, batch, queries)
	batch.Queue(sql, slices.Clone(args)...)
	results := d.tx.tx.SendBatch(ctx, batch)
	for _, query := range queries {
		if err := query(ctx, scanner{results}); err != nil {
			_ = results.Close()
			return nil, d.note(ctx, err, batch.QueuedQueries[len(queries)].SQL)
		}
	}
	return results, nil
}

// note keeps the error of a query, unless it is of the statement that was sent with the queries: pgx prepares all
// statements and encodes all arguments before it sends the first one, and a handler's context may end before Run's.
func (d *deferred) note(ctx context.Context, err error, statement string) error {
	var unsent pgx.ErrPreprocessingBatch
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unsent) && unsent.SQL() == statement:
		return unsent.Unwrap()
	case ctx.Err() != nil && d.ctx.Err() == nil:
		return err
	case statement != "" && fault.Code(err) == "" && !d.tx.conn.IsClosed():
		return err // a QueryRewriter of the statement's failed
	}
	d.failed = err
	return err
}

// closed closes the results of a batch whose last one has been read, and returns the first error.
func closed(results pgx.BatchResults, err error) error {
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
		r.err = closed(r.results, r.Rows.Err())
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
	return closed(r.results, r.results.QueryRow().Scan(dest...))
}
