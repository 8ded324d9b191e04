// Command bench compares stripeonce with a receiver that is written by hand (handwritten.go), on this machine
// and in one run: PostgreSQL with durable commits, the receivers as processes of their own, and the load beside
// them. The rounds alternate, and what counts are the ratios: machines are shared and noisy.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/schema/migrate"
)

var (
	rounds      = flag.Int("rounds", 5, "rounds of each receiver")
	lives       = flag.Int("subscriptions", 300, "subscriptions whose events are delivered in a round")
	connections = flag.Int("connections", 16, "deliveries at once")
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

// figures are those of one receiver, an entry a round.
type figures struct{ fresh, duplicates, cpu, pgCPU, loadCPU, dupCPU, dupPG, dupLoad []float64 }

func bench() error {
	ctx := context.Background()
	cluster, err := pglocal.Start(ctx, pglocal.Config{})
	if err != nil {
		return err
	}
	defer func() { _ = cluster.Stop() }()
	of := map[string]*figures{byHand: {}, ours: {}}
	for round := range *rounds {
		list := requests(uint64(round+1), *lives)
		for _, kind := range []string{byHand, ours} {
			url, err := newDatabase(ctx, cluster, round, kind)
			if err != nil {
				return err
			}
			if err := of[kind].round(cluster, kind, url, list); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
		}
	}
	report(of[byHand], of[ours])
	return nil
}

func newDatabase(ctx context.Context, cluster *pglocal.Cluster, round int, kind string) (url string, err error) {
	name := fmt.Sprintf("bench_%d_%t", round, kind == ours)
	if err := cluster.CreateDatabase(ctx, name); err != nil {
		return "", err
	}
	url = cluster.URL(name)
	if kind == ours {
		return url, migrate.Up(ctx, url, io.Discard)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, handTables)
	return url, err
}

// round delivers everything once, and once again. The first tenth of the new events warms up and is not counted.
func (f *figures) round(cluster *pglocal.Cluster, kind, databaseURL string, list [][]byte) error {
	r, err := startReceiver(kind, fmt.Sprintf("%s&pool_max_conns=%d", databaseURL, *connections))
	if err != nil {
		return err
	}
	defer r.stop()
	warm := len(list) / 10
	if _, err := send(r.addr, list[:warm], *connections); err != nil {
		return err
	}
	var cpus [3][3]time.Duration
	look := func(i int) error {
		var err error
		if cpus[i][0], err = cpuOf(r.cmd.Process.Pid); err != nil {
			return err
		}
		if cpus[i][1], err = cpuOfServer(cluster.PID()); err != nil {
			return err
		}
		cpus[i][2], err = cpuOf(os.Getpid())
		return err
	}
	if err := look(0); err != nil {
		return err
	}
	took, err := send(r.addr, list[warm:], *connections)
	if err != nil {
		return err
	}
	if err := look(1); err != nil {
		return err
	}
	n := float64(len(list) - warm)
	f.fresh = append(f.fresh, n/took.Seconds())
	per := func(i, j int, n float64) float64 { return float64((cpus[i+1][j] - cpus[i][j]).Microseconds()) / n }
	f.cpu, f.pgCPU, f.loadCPU = append(f.cpu, per(0, 0, n)), append(f.pgCPU, per(0, 1, n)), append(f.loadCPU, per(0, 2, n))
	if took, err = send(r.addr, list, *connections); err != nil {
		return err
	}
	if err := look(2); err != nil {
		return err
	}
	n = float64(len(list))
	f.duplicates = append(f.duplicates, n/took.Seconds())
	f.dupCPU, f.dupPG, f.dupLoad = append(f.dupCPU, per(1, 0, n)), append(f.dupPG, per(1, 1, n)), append(f.dupLoad, per(1, 2, n))
	return nil
}

func report(hand, own *figures) {
	fmt.Printf("%d rounds of each, %d connections, %s\n\n", *rounds, *connections, time.Now().Format(time.DateOnly))
	fmt.Println("| what | by hand | stripeonce | ratio | in the rounds |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	row := func(what string, a, b []float64) {
		ratios := make([]float64, len(a))
		for i := range a {
			ratios[i] = b[i] / a[i]
		}
		fmt.Printf("| %s | %.0f | %.0f | %.2f × | %.2f to %.2f |\n", what, median(a), median(b), median(ratios), slices.Min(ratios), slices.Max(ratios))
	}
	row("new events a second", hand.fresh, own.fresh)
	row("receiver's CPU for a new event, µs", hand.cpu, own.cpu)
	row("PostgreSQL's CPU for a new event, µs", hand.pgCPU, own.pgCPU)
	row("load's CPU for a new event, µs", hand.loadCPU, own.loadCPU)
	row("duplicates a second", hand.duplicates, own.duplicates)
	row("receiver's CPU for a duplicate, µs", hand.dupCPU, own.dupCPU)
	row("PostgreSQL's CPU for a duplicate, µs", hand.dupPG, own.dupPG)
	row("load's CPU for a duplicate, µs", hand.dupLoad, own.dupLoad)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
