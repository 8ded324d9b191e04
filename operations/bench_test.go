package operations_test

import (
	"testing"

	"github.com/pook/stripeonce/internal/pgtest"
)

// BenchmarkLedgerIndexes measures the cost of each index of the ledger for an insert, in time and in bytes of write-ahead
// log, with 200,000 rows in the ledger.
func BenchmarkLedgerIndexes(b *testing.B) {
	const rows = 1000 // in one statement, so that PostgreSQL's work is measured
	for _, c := range []struct{ name, without string }{
		{"all", ""},
		{"without_processed_at", "DROP INDEX stripe_webhook_events_processed_at_idx"},
		{"without_object_id", "DROP INDEX stripe_webhook_events_object_id_idx"},
		{"unique_index_alone", "DROP INDEX stripe_webhook_events_processed_at_idx, stripe_webhook_events_object_id_idx"},
	} {
		b.Run(c.name, func(b *testing.B) {
			pool := pgtest.NewPool(b)
			if c.without != "" {
				pgtest.Exec(b, pool, c.without)
			}
			const insert = `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode, event_created_at, api_version, object_id)
				SELECT 'evt_' || md5(random()::text), 'customer.subscription.updated', 'processed', true, now(), '2025-03-31.basil', 'sub_1' || md5((random() * 50000)::int::text)
				FROM generate_series(1, $1)`
			pgtest.Exec(b, pool, insert, 200_000)
			wal := func() int64 {
				return pgtest.Scan[int64](b, pool, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
			}
			before := wal()
			b.ResetTimer()
			for range b.N {
				pgtest.Exec(b, pool, insert, rows)
			}
			b.StopTimer()
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rows), "µs/row")
			b.ReportMetric(float64(wal()-before)/float64(b.N*rows), "wal-bytes/row")
		})
	}
}
