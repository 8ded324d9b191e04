package pglocal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Quiet are settings of a cluster in which nothing writes but its clients, so that what they write can be counted.
func Quiet() map[string]string {
	return map[string]string{"autovacuum": "off", "wal_level": "minimal", "max_wal_senders": "0", "checkpoint_timeout": "1h"}
}

// Written is how far a cluster has come.
type Written struct {
	XID int64 // the next transaction id
	WAL int64 // the end of the write-ahead log, in bytes
}

// ReadWritten asks a cluster how far it has come, and moves nothing by it.
func ReadWritten(ctx context.Context, pool *pgxpool.Pool) (w Written, err error) {
	const query = `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint`
	if err := pool.QueryRow(ctx, query).Scan(&w.XID, &w.WAL); err != nil {
		return w, fmt.Errorf("read what is written: %w", err)
	}
	return w, nil
}

// Since is what has been written since.
func (w Written) Since(before Written) Written {
	return Written{w.XID - before.XID, w.WAL - before.WAL}
}
