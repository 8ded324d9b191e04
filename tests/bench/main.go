// Command bench compares stripeonce with a handwritten receiver (handwritten.go) and with pgbench running stripeonce's own
// statements, on this machine and in one run. PostgreSQL has durable commits, and each receiver is a process. The rounds
// alternate, and the ratios count, since machines are shared and noisy.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/schema/migrate"
)

var (
	rounds         = flag.Int("rounds", 5, "rounds of each receiver")
	lives          = flag.Int("subscriptions", 1000, "subscriptions whose events are delivered in a round")
	connections    = flag.Int("connections", 16, "deliveries in flight, and connections of the pool, where one number is measured")
	ledgerRows     = flag.Int("ledger", 10_000_000, "rows of the largest ledger")
	mirrorRows     = flag.Int("mirror", 10_000_000, "rows of the largest mirror")
	onlyMirrors    = flag.Bool("mirrors", false, "only compare mirrors of different sizes")
	only           = flag.Bool("compare", false, "only compare the receivers")
	onlyLoad       = flag.String("workload", "", "compare one workload: projection, onchange, invoice or billing")
	partitions     = flag.Int("partitions", 0, "only compare a ledger of -ledger rows in so many hash partitions with a plain one")
	onlySyncEngine = flag.Bool("sync-engine", false, "only compare with stripe-sync-engine")
	onlyPgBouncer  = flag.Bool("pgbouncer", false, "only measure behind PgBouncer")
	network        = flag.Bool("network", false, "only measure over a network")
	onlyInFlight   = flag.Int("in-flight", 0, "compare with one number of deliveries in flight: 1, 4 or 16")
	write          = flag.Bool("write", false, "write the results into docs/performance.md, and the plots next to it")
)

func main() {
	run := bench
	if kind := os.Getenv(envReceiver); kind != "" {
		run = func() error { return runReceiver(kind) }
	} else {
		flag.Parse()
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench() error {
	ctx := context.Background()
	cluster, err := pglocal.Start(ctx, pglocal.Config{Settings: map[string]string{"max_connections": "200"}})
	if err != nil {
		return err
	}
	defer func() { _ = cluster.Stop() }()
	b := &stand{ctx: ctx, cluster: cluster}
	steps := []func() error{b.compare, b.overSyncEngine, b.roundTrips, b.overNetwork, b.overPgBouncer, b.overConnections, b.overLedgers, b.overMirrors, b.memory, b.start}
	switch {
	case *only:
		steps = steps[:1]
	case *partitions > 0:
		return b.overPartitions()
	case *onlyMirrors:
		steps = []func() error{b.overMirrors}
	case *onlySyncEngine:
		steps = []func() error{b.overSyncEngine}
	case *onlyPgBouncer:
		steps = []func() error{b.overPgBouncer}
	case *network:
		steps = []func() error{b.overNetwork}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	text := b.report()
	fmt.Println("\n" + text)
	if *write {
		return b.writeDocs(text)
	}
	return nil
}

// stand is the test stand, with the results so far.
type stand struct {
	ctx        context.Context
	cluster    *pglocal.Cluster
	databases  int
	syncEngine string // the folder where it is installed

	fresh, duplicates [][]string // lines of the tables of new events and of duplicates
	rows              []row      // of the last table
	plots             []plot
}

// row is one row of the table.
type row struct{ what, hand, own, ratio, spread, goal string }

// database creates a database with the tables of a receiver and of its host.
func (b *stand) database(kind string) (url string, err error) {
	b.databases++
	name := fmt.Sprintf("bench_%d", b.databases)
	if err := b.cluster.CreateDatabase(b.ctx, name); err != nil {
		return "", err
	}
	url = b.cluster.URL(name)
	switch kind {
	case byHand:
		return url, b.exec(url, handTables+accountsTable)
	case syncEngine: // which has migrations of its own, for a role that Supabase's databases have
		return url, b.exec(url, accountsTable+`; DO $$ BEGIN CREATE ROLE postgres; EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
	}
	if err := migrate.Up(b.ctx, url, io.Discard); err != nil {
		return "", err
	}
	return url, b.exec(url, accountsTable)
}

func (b *stand) exec(url, sql string, args ...any) error {
	conn, err := pgx.Connect(b.ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(b.ctx)
	_, err = conn.Exec(b.ctx, sql, args...)
	return err
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
