package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// comparison is a workload with a number of deliveries in flight, and its goals.
type comparison struct {
	load          *workload
	inFlight      int
	subscriptions float64 // a part of -subscriptions, so that a round takes some seconds
	goal          string  // for new events per second
}

var comparisons = []comparison{
	{onChange, 1, 0.3, "≥ 1.3, aim 1.6"}, {onChange, 4, 0.6, "≥ 1.3, aim 1.6"}, {onChange, 16, 1, "≥ 1.4, aim 1.8"},
	{invoicePaid, 1, 1, ""}, {invoicePaid, 4, 1, ""}, {invoicePaid, 16, 2, "≥ 1.4, aim 1.8"},
	{billing, 1, 0.1, "≥ 1.6"}, {billing, 4, 0.2, "≥ 1.6"}, {billing, 16, 0.3, "≥ 1.6"},
	{projectionOnly, 1, 0.3, "≥ 1.4, aim 1.7"}, {projectionOnly, 4, 0.6, "≥ 1.4, aim 1.7"}, {projectionOnly, 16, 1, "≥ 1.9, aim 2.2"},
}

const (
	goalCPU        = "≤ 0.55 ×, aim 0.45"
	goalServerCPU  = "≤ 0.85 ×, aim 0.7"
	goalP99        = "≤ 0.7 ×, aim 0.5"
	goalPgbench    = "≥ 0.65, aim 0.75"
	goalDuplicates = "≥ 2.5, aim 3"
	goalAlone      = "≥ 2, aim 2.5" // duplicates, one at a time
)

// measurements has the results of one receiver, one entry per round.
type measurements struct{ fresh, freshCPU, freshServer, p99, duplicates, duplicateCPU []float64 }

// compare measures both receivers with the same deliveries, in alternating rounds, and pgbench.
func (b *stand) compare() error {
	of := make([]map[string]*measurements, len(comparisons))
	for i := range of {
		of[i] = map[string]*measurements{byHand: {}, ours: {}, batched: {}}
	}
	var bare []float64
	for round := range *rounds {
		for i, c := range comparisons {
			if !c.selected() {
				continue
			}
			list := requests(uint64(round+1), int(float64(*lives)*c.subscriptions), c.load)
			if err := b.round(round+1, of[i], c, list); err != nil {
				return fmt.Errorf("%s: %w", c.what(), err)
			}
			if !c.alsoPgbench() {
				continue
			}
			rate, err := b.pgbench(list)
			if err != nil {
				return fmt.Errorf("pgbench: %w", err)
			}
			bare = append(bare, rate)
		}
	}
	b.addComparisons(of, bare)
	return nil
}

// addComparisons adds the lines of compare: new events, duplicates, and pgbench.
func (b *stand) addComparisons(of []map[string]*measurements, bare []float64) {
	for i, c := range comparisons {
		if !c.selected() {
			continue
		}
		hand := of[i][byHand]
		for _, kind := range c.receivers() {
			own := of[i][kind]
			b.fresh = append(b.fresh, []string{
				c.load.what + strings.TrimPrefix(kind, ours), strconv.Itoa(c.inFlight), number(hand.fresh), number(own.fresh),
				ratio(hand.fresh, own.fresh), spread(hand.fresh, own.fresh), c.goal,
				valueAndRatio(hand.freshCPU, own.freshCPU), valueAndRatio(hand.freshServer, own.freshServer), valueAndRatio(hand.p99, own.p99),
			})
		}
		if own := of[i][ours]; c.measuresDuplicates() {
			goal := goalDuplicates
			if c.inFlight == 1 {
				goal = goalAlone
			}
			b.duplicates = append(b.duplicates, []string{
				strconv.Itoa(c.inFlight), number(hand.duplicates), number(own.duplicates), ratio(hand.duplicates, own.duplicates),
				spread(hand.duplicates, own.duplicates), goal, valueAndRatio(hand.duplicateCPU, own.duplicateCPU),
			})
		}
		if c.alsoPgbench() {
			b.add("new events/s, against pgbench with the same statements and bytes", bare, of[i][ours].fresh, goalPgbench)
			against := &b.rows[len(b.rows)-1]
			against.hand = "pgbench: " + against.hand
		}
	}
}

func number(values []float64) string { return fmt.Sprintf("%.0f", median(values)) }

func ratio(hand, own []float64) string { return fmt.Sprintf("%.2f ×", median(ratios(hand, own))) }

func spread(hand, own []float64) string {
	all := ratios(hand, own)
	return fmt.Sprintf("%.2f to %.2f", slices.Min(all), slices.Max(all))
}

func valueAndRatio(hand, own []float64) string {
	if len(own) == 0 {
		return ""
	}
	return fmt.Sprintf("%s, %s", number(own), ratio(hand, own))
}

// ratios returns the ratio of each round.
func ratios(hand, own []float64) []float64 {
	all := make([]float64, len(hand))
	for i := range hand {
		all[i] = own[i] / hand[i]
	}
	return all
}

func (c comparison) what() string { return fmt.Sprintf("%s, %d in flight", c.load.what, c.inFlight) }

func (c comparison) selected() bool {
	return (*onlyLoad == "" || *onlyLoad == c.load.name) && (*onlyInFlight == 0 || *onlyInFlight == c.inFlight)
}

// alsoPgbench reports whether pgbench runs the statements of the comparison.
func (c comparison) alsoPgbench() bool { return c.load == projectionOnly && c.inFlight == *connections }

// measuresDuplicates reports whether the duplicates of the workload are measured: which handlers an event has makes no
// difference to them.
func (c comparison) measuresDuplicates() bool { return c.load == projectionOnly }

// against describes the newest round.
func (m *measurements) against(hand *measurements) string {
	text := fmt.Sprintf("%.0f new events/s, %.0f by hand: %.2f ×", last(m.fresh), last(hand.fresh), last(m.fresh)/last(hand.fresh))
	text += fmt.Sprintf("; CPU %.0f + %.0f µs, %.0f + %.0f by hand", last(m.freshCPU), last(m.freshServer), last(hand.freshCPU), last(hand.freshServer))
	if len(m.duplicates) > 0 {
		text += fmt.Sprintf("; duplicates %.2f ×", last(m.duplicates)/last(hand.duplicates))
	}
	if len(m.p99) > 0 {
		text += fmt.Sprintf("; p99 %.0f and %.0f µs", last(m.p99), last(hand.p99))
	}
	return text
}

// add adds a line that compares the rounds of two receivers.
func (b *stand) add(what string, hand, own []float64, goal string) {
	b.rows = append(b.rows, row{what, number(hand), number(own), ratio(hand, own), spread(hand, own), goal})
}

// receivers returns the receivers that are compared with the handwritten one.
func (c comparison) receivers() []string {
	if c.load == projectionOnly || c.load == billing { // without a handler of the host's
		return []string{ours}
	}
	return []string{ours, batched}
}

const (
	// warmUp is the part of the new events that is not counted: connections are opened, and statements are replanned the
	// first five times.
	warmUp = 5
	// latencyPart is the part of the new events whose latency is measured, after the others.
	latencyPart = 4
	// turns is how often the receivers take turns within a round, so that a change of the machine's speed meets all.
	turns = 12
)

// contestant is a receiver in a round.
type contestant struct {
	kind string
	*receiver
}

// round delivers new events as fast as they are answered, then others at half the handwritten receiver's rate, and then all
// events again. The receivers take turns.
func (b *stand) round(number int, of map[string]*measurements, c comparison, list [][]byte) error {
	all, stop, err := b.contestants(append([]string{byHand}, c.receivers()...), c, list, directly)
	defer stop()
	if err != nil {
		return err
	}
	measured, err := warm(all, list, c.inFlight)
	if err != nil {
		return err
	}
	steady := c.inFlight == *connections
	if steady {
		cut := len(measured) * (latencyPart - 1) / latencyPart
		measured, list = measured[:cut], measured[cut:]
	}
	fresh, err := b.takeTurns(all, measured, c.inFlight)
	if err != nil {
		return err
	}
	for i, one := range all {
		m := of[one.kind]
		m.addFresh(fresh[i])
		if steady {
			p99, err := sendAtRate(one.addr, list, last(of[byHand].fresh)/2)
			if err != nil {
				return err
			}
			m.p99 = append(m.p99, float64(p99.Microseconds()))
		}
	}
	if c.measuresDuplicates() {
		again, err := b.takeTurns(all, measured, c.inFlight)
		if err != nil {
			return err
		}
		for i, one := range all {
			m := of[one.kind]
			m.duplicates, m.duplicateCPU = append(m.duplicates, again[i].rate()), append(m.duplicateCPU, again[i].each(again[i].cpu))
		}
	}
	for _, one := range all[1:] {
		progress("round %d, %s, %s: %s", number, c.what(), one.kind, of[one.kind].against(of[byHand]))
	}
	return nil
}

// warm delivers the first events, which are not measured, and returns the others.
func warm(all []contestant, list [][]byte, connections int) (measured [][]byte, err error) {
	cut := len(list) / warmUp
	for _, one := range all {
		if _, err := send(one.addr, list[:cut], connections); err != nil {
			return nil, fmt.Errorf("%s: %w", one.kind, err)
		}
	}
	return list[cut:], nil
}

// directly is a connection to PostgreSQL itself.
func directly(_ int, url string) (string, error) { return url, nil }

// contestants starts the receivers of a comparison, each on a database of its own. through returns the URL by which each connects.
func (b *stand) contestants(kinds []string, c comparison, list [][]byte, through func(i int, url string) (string, error)) (all []contestant, stop func(), err error) {
	stop = func() {
		for _, one := range all {
			one.stop()
		}
	}
	for i, kind := range kinds {
		url, err := b.database(kind)
		if err != nil {
			return all, stop, err
		}
		if err := b.fillAccounts(url, list); err != nil {
			return all, stop, err
		}
		if url, err = through(i, url); err != nil {
			return all, stop, err
		}
		var r *receiver
		if kind == syncEngine {
			r, err = start(kind, b.syncEngineCommand(url, c.inFlight))
		} else {
			r, err = startReceiver(kind, c.load, url, c.inFlight)
		}
		if err != nil {
			return all, stop, err
		}
		all = append(all, contestant{kind, r})
	}
	return all, stop, nil
}

// takeTurns delivers the same events to all receivers, a slice at a time.
func (b *stand) takeTurns(all []contestant, list [][]byte, connections int) ([]measured, error) {
	sums := make([]measured, len(all))
	for slice := range turns {
		part := list[len(list)*slice/turns : len(list)*(slice+1)/turns]
		for turn := range all {
			i := (slice + turn) % len(all)
			m, err := b.measure(all[i].receiver, part, connections)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", all[i].kind, err)
			}
			sums[i].add(m)
		}
	}
	return sums, nil
}

// addFresh adds what a round of new events took.
func (m *measurements) addFresh(took measured) {
	m.fresh, m.freshCPU, m.freshServer = append(m.fresh, took.rate()), append(m.freshCPU, took.each(took.cpu)), append(m.freshServer, took.each(took.server))
}

// measured is what deliveries took.
type measured struct {
	deliveries        int
	took, cpu, server time.Duration // cpu: processor time of the receiver; server: of PostgreSQL
}

func (m *measured) add(other measured) {
	m.deliveries += other.deliveries
	m.took, m.cpu, m.server = m.took+other.took, m.cpu+other.cpu, m.server+other.server
}

// rate is the deliveries per second.
func (m *measured) rate() float64 { return float64(m.deliveries) / m.took.Seconds() }

// each is a time of one delivery, in µs.
func (m *measured) each(d time.Duration) float64 {
	return float64(d.Microseconds()) / float64(m.deliveries)
}

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
	return measured{len(list), took, after[0] - before[0], after[1] - before[1]}, err
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
