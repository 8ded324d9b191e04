package pglocal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Quiet returns settings of a cluster without background writes, so that the writes of its clients can be counted.
func Quiet() map[string]string {
	return map[string]string{"autovacuum": "off", "wal_level": "minimal", "max_wal_senders": "0", "checkpoint_timeout": "1h"}
}

// Written is a cluster's write position.
type Written struct {
	XID int64 // the next transaction id
	WAL int64 // the end of the write-ahead log, in bytes
}

// ReadWritten reads a cluster's write position without changing it.
func ReadWritten(ctx context.Context, pool *pgxpool.Pool) (w Written, err error) {
	const query = `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint`
	if err := pool.QueryRow(ctx, query).Scan(&w.XID, &w.WAL); err != nil {
		return w, fmt.Errorf("read the write position: %w", err)
	}
	return w, nil
}

// Since returns the writes since an earlier position.
func (w Written) Since(before Written) Written {
	return Written{w.XID - before.XID, w.WAL - before.WAL}
}
