package pgpipe

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Wrap says what a query was doing when it failed. It leaves nil and ErrRecording as they are.
func Wrap(doing string, err error) error {
	if err == nil || errors.Is(err, ErrRecording) {
		return err
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// record has each query queue its SQL and arguments in batch.
func record(ctx context.Context, batch *pgx.Batch, queries []Query) {
	for _, query := range queries {
		_ = query(ctx, (*recorder)(batch))
	}
}

// scan has each query scan its result.
func scan(ctx context.Context, results pgx.BatchResults, queries []Query) error {
	for _, query := range queries {
		if err := query(ctx, scanner{results}); err != nil {
			_ = results.Close()
			return err
		}
	}
	return results.Close()
}

// recorder is a DBTX that queues what it is given.
type recorder pgx.Batch

func (r *recorder) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	(*pgx.Batch)(r).Queue(sql, args...)
	return pgconn.CommandTag{}, ErrRecording
}

func (r *recorder) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	(*pgx.Batch)(r).Queue(sql, args...)
	return nil, ErrRecording
}

func (r *recorder) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	(*pgx.Batch)(r).Queue(sql, args...)
	return failing{ErrRecording}
}

// scanner is a DBTX that returns the results of what was recorded, in the same order.
type scanner struct{ results pgx.BatchResults }

func (s scanner) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return s.results.Exec()
}

func (s scanner) Query(context.Context, string, ...any) (pgx.Rows, error) { return s.results.Query() }

func (s scanner) QueryRow(context.Context, string, ...any) pgx.Row { return s.results.QueryRow() }

// failing is a DBTX on which everything fails with one error, for a query to wrap.
type failing struct{ err error }

func (f failing) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, f.err
}

func (f failing) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, f.err }

func (f failing) QueryRow(context.Context, string, ...any) pgx.Row { return f }

func (f failing) Scan(...any) error { return f.err }
