package main

import (
	"fmt"
	"slices"
	"time"
)

// measurements has the results of one receiver, one entry per round.
type measurements struct{ fresh, freshCPU, freshServer, duplicates, duplicateCPU []float64 }

// compare measures each receiver with the same deliveries, in alternating rounds, and then pgbench.
func (b *stand) compare() error {
	of := map[string]*measurements{byHand: {}, ours: {}, withHandler: {}}
	var bare []float64
	for round := range *rounds {
		list := requests(uint64(round+1), *lives)
		for _, kind := range []string{byHand, ours, withHandler} {
			url, err := b.database(kind)
			if err != nil {
				return err
			}
			if err := b.round(of[kind], kind, url, list); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			progress("round %d, %s: %.0f new events a second, %.0f duplicates", round+1, kind, last(of[kind].fresh), last(of[kind].duplicates))
		}
		rate, err := b.pgbench(list)
		if err != nil {
			return fmt.Errorf("pgbench: %w", err)
		}
		progress("round %d, pgbench: %.0f transactions a second", round+1, rate)
		bare = append(bare, rate)
	}
	hand, own, handler := of[byHand], of[ours], of[withHandler]
	b.add("new events a second", hand.fresh, own.fresh, "≥ 1.6, aim 2.2")
	b.add("receiver's CPU for a new event, µs", hand.freshCPU, own.freshCPU, "≤ 0.5, aim 0.35")
	b.add("PostgreSQL's CPU for a new event, µs", hand.freshServer, own.freshServer, "")
	b.add("new events a second, with a handler of the host's in each transaction", hand.fresh, handler.fresh, "")
	b.add("receiver's CPU for one of those, µs", hand.freshCPU, handler.freshCPU, "")
	b.add("duplicates a second", hand.duplicates, own.duplicates, "≥ 1.6, aim 2.5")
	b.add("receiver's CPU for a duplicate, µs", hand.duplicateCPU, own.duplicateCPU, "")
	b.add("new events a second, against pgbench with the same statements and bytes", bare, own.fresh, "≥ 0.45, aim 0.65")
	against := &b.rows[len(b.rows)-1]
	against.hand = "pgbench: " + against.hand
	return nil
}

// add adds a line that compares the rounds of two receivers.
func (b *stand) add(what string, a, own []float64, goal string) {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = own[i] / a[i]
	}
	b.rows = append(b.rows, row{
		what, fmt.Sprintf("%.0f", median(a)), fmt.Sprintf("%.0f", median(own)),
		fmt.Sprintf("%.2f ×", median(ratios)), fmt.Sprintf("%.2f to %.2f", slices.Min(ratios), slices.Max(ratios)), goal,
	})
}

// warmUp is the part of the new events that is not counted: connections are opened, and statements are replanned the first
// five times.
const warmUp = 5

// round delivers every event twice.
func (b *stand) round(f *measurements, kind, databaseURL string, list [][]byte) error {
	r, err := startReceiver(kind, databaseURL, *connections)
	if err != nil {
		return err
	}
	defer r.stop()
	warm := len(list) / warmUp
	if _, err := send(r.addr, list[:warm], *connections); err != nil {
		return err
	}
	fresh, err := b.measure(r, list[warm:], *connections)
	if err != nil {
		return err
	}
	again, err := b.measure(r, list, *connections)
	if err != nil {
		return err
	}
	f.fresh, f.freshCPU, f.freshServer = append(f.fresh, fresh.rate), append(f.freshCPU, fresh.cpu), append(f.freshServer, fresh.server)
	f.duplicates, f.duplicateCPU = append(f.duplicates, again.rate), append(f.duplicateCPU, again.cpu)
	return nil
}

// measured is the result of deliveries: the rate per second, and the processor time of each in µs.
type measured struct{ rate, cpu, server float64 }

func (b *stand) measure(r *receiver, list [][]byte, connections int) (m measured, err error) {
	before, err := b.used(r)
	if err != nil {
		return m, err
	}
	took, err := send(r.addr, list, connections)
	if err != nil {
		return m, err
	}
	after, err := b.used(r)
	n := float64(len(list))
	each := func(i int) float64 { return float64((after[i] - before[i]).Microseconds()) / n }
	return measured{n / took.Seconds(), each(0), each(1)}, err
}

// used returns the processor time of the receiver and of PostgreSQL.
func (b *stand) used(r *receiver) (times [2]time.Duration, err error) {
	if times[0], err = cpuOf(r.cmd.Process.Pid); err != nil {
		return times, err
	}
	times[1], err = cpuOfServer(b.cluster.PID())
	return times, err
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func last(values []float64) float64 { return values[len(values)-1] }
