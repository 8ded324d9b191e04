package readiness

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
)

// checkPooler finds a pooler that gives each transaction another of its connections, as PgBouncer does with
// pool_mode=transaction. A statement that pgx has prepared on one is then not there on the next, unless the
// pooler keeps track of them (PgBouncer from 1.21 on, with max_prepared_statements). It looks once.
// See https://www.pgbouncer.org/features.html.
func (c *Checker) checkPooler(ctx context.Context, conn *pgxpool.Conn) error {
	if c.pooled.Load() {
		return nil
	}
	config := c.Pool.Config()
	mode := config.ConnConfig.DefaultQueryExecMode
	if mode != pgx.QueryExecModeCacheStatement && mode != pgx.QueryExecModeDescribeExec {
		c.pooled.Store(true)
		return nil
	}
	wrong, err := c.findPooler(ctx, conn, config.MaxConns)
	if err == nil && wrong {
		return fault.ErrPooler
	}
	c.pooled.Store(err == nil)
	return err
}

func (c *Checker) findPooler(ctx context.Context, first *pgxpool.Conn, connections int32) (wrong bool, err error) {
	serves, err := c.queries.ServerBackend(ctx, unprepared{first})
	if err != nil || uint32(serves) == first.Conn().PgConn().PID() {
		return false, err
	}
	if connections < 2 {
		return false, nil // the first statement that fails will tell
	}
	second, err := c.Pool.Pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer second.Release()
	shared, err := c.shareBackends(ctx, first, second)
	if err != nil || !shared {
		return false, err
	}
	return c.namesStay(ctx, first)
}

// shareBackends is true if two connections that are open at once are served by one process, or one of them
// by two.
func (c *Checker) shareBackends(ctx context.Context, first, second *pgxpool.Conn) (bool, error) {
	const looks = 4
	var seen [2]int32
	for i := range 2 * looks {
		conn := []*pgxpool.Conn{first, second}[i%2]
		backend, err := c.queries.ServerBackend(ctx, unprepared{conn})
		if err != nil {
			return false, err
		}
		if other := seen[(i+1)%2]; backend == other || seen[i%2] != 0 && backend != seen[i%2] {
			return true, nil
		}
		seen[i%2] = backend
	}
	return false, nil
}

const probe = "stripeonce_probe"

// namesStay is true if a prepared statement keeps its name, so that nobody keeps track of it.
func (c *Checker) namesStay(ctx context.Context, conn *pgxpool.Conn) (stay bool, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return false, err
	}
	defer pgpipe.Rollback(ctx, tx, rollbackTimeout)
	// Not pgx's Prepare, which would remember it.
	if _, err := conn.Conn().PgConn().Prepare(ctx, probe, "SELECT 1", nil); err != nil {
		return false, err
	}
	stay, err = c.queries.ServerHasPrepared(ctx, unprepared{conn}, probe)
	if stay {
		_, err = tx.Exec(ctx, "DEALLOCATE "+probe)
	}
	return stay, err
}

// unprepared runs statements without preparing them.
type unprepared struct{ *pgxpool.Conn }

func (u unprepared) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return u.Conn.Exec(ctx, sql, unpreparedArgs(args)...)
}

func (u unprepared) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return u.Conn.Query(ctx, sql, unpreparedArgs(args)...)
}

func (u unprepared) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return u.Conn.QueryRow(ctx, sql, unpreparedArgs(args)...)
}

func unpreparedArgs(args []any) []any { return append([]any{pgx.QueryExecModeExec}, args...) }
