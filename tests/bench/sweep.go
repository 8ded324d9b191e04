package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

var connectionCounts = []int{1, 2, 4, 8, 16, 32, 64}

const sweepSubscriptions = 300

// overConnections measures both receivers with few and with many deliveries in flight, without and with a handler.
func (b *stand) overConnections() error {
	for _, p := range []struct {
		file, title string
		load        *workload
	}{
		{"throughput-connections.svg", "New events/s, by deliveries in flight", projectionOnly},
		{"throughput-handler.svg", "New events/s with a handler (OnChange with one UPDATE)", onChange},
	} {
		chart := plot{
			file: p.file, title: p.title, x: "deliveries in flight, and connections of the pool",
			series: []series{{name: byHand}, {name: ours}},
		}
		for i, n := range connectionCounts {
			list := requests(uint64(2000+i), sweepSubscriptions, p.load)
			for s := range chart.series {
				rate, err := b.rate(chart.series[s].name, p.load, "", list, n)
				if err != nil {
					return err
				}
				chart.series[s].points = append(chart.series[s].points, point{float64(n), rate.rate()})
			}
			progress("%s, %d: %.0f by hand, %.0f stripeonce", chart.title, n, chart.series[0].points[i].y, chart.series[1].points[i].y)
		}
		b.plots = append(b.plots, chart)
	}
	return nil
}

// rate measures new events over a number of connections. It uses a new database if databaseURL is empty.
func (b *stand) rate(kind string, w *workload, databaseURL string, list [][]byte, connections int) (m measured, err error) {
	if databaseURL == "" {
		if databaseURL, err = b.database(kind); err != nil {
			return m, err
		}
		if err := b.fillAccounts(databaseURL, list); err != nil {
			return m, err
		}
	}
	r, err := startReceiver(kind, w, databaseURL, connections)
	if err != nil {
		return m, err
	}
	defer r.stop()
	warm := len(list) / warmUp
	if _, err := send(r.addr, list[:warm], connections); err != nil {
		return m, err
	}
	return b.measure(r, list[warm:], connections)
}

// ledgerOf fills the ledger with realistic rows: ids in the order of time, and ten events per object.
const ledgerOf = `
INSERT INTO stripe_webhook_events (event_id, event_type, processed_at, outcome, event_created_at, livemode, api_version, object_id)
SELECT 'evt_1' || lpad(to_hex(n), 9, '0') || substr(md5(n::text), 1, 14), 'customer.subscription.updated', now() - (%[1]d - n) * interval '1 second', 'processed',
	now() - (%[1]d - n) * interval '1 second', false, '2024-06-20', 'sub_1' || substr(md5((n %% (%[1]d / 10 + 1))::text), 1, 23)
FROM generate_series(1, %[1]d) AS n`

// overLedgers measures new events on ledgers of different sizes, in alternating rounds.
func (b *stand) overLedgers() error {
	sizes := []int{0, *ledgerRows / 100, *ledgerRows / 10, *ledgerRows}
	urls := make([]string, len(sizes))
	for i, size := range sizes {
		var err error
		if urls[i], err = b.database(ours); err != nil {
			return err
		}
		progress("a ledger of %d rows is filled", size)
		if size > 0 {
			if err := b.exec(urls[i], fmt.Sprintf(ledgerOf, size)); err != nil {
				return err
			}
		}
		if err := b.exec(urls[i], "VACUUM ANALYZE"); err != nil {
			return err
		}
	}
	if err := b.exec(urls[0], "CHECKPOINT"); err != nil {
		return err
	}
	rates, costs := make([][]float64, len(sizes)), make([][]float64, len(sizes))
	for round := range *rounds {
		list := requests(uint64(3000+round), *lives, projectionOnly)
		for i := range sizes {
			m, err := b.rate(ours, projectionOnly, urls[i], list, *connections)
			if err != nil {
				return err
			}
			rates[i], costs[i] = append(rates[i], m.rate()), append(costs[i], m.each(m.cpu+m.server))
		}
	}
	p := plot{file: "throughput-ledger.svg", title: "New events/s, by rows of the ledger", x: "rows of the ledger", series: []series{{name: ours}}}
	for i, size := range sizes {
		p.series[0].points = append(p.series[0].points, point{float64(max(size, 1)), median(rates[i])})
		progress("%d rows: %.0f new events a second", size, median(rates[i]))
	}
	b.plots = append(b.plots, p)
	largest := len(sizes) - 1
	slower := make([]float64, *rounds)
	for i := range slower {
		slower[i] = rates[0][i] / rates[largest][i]
	}
	b.rows = append(b.rows, row{
		fmt.Sprintf("time of a new event with %s rows in the ledger, against none", thousands(*ledgerRows)), "", "",
		fmt.Sprintf("%.2f ×", median(slower)), fmt.Sprintf("%.2f to %.2f", slices.Min(slower), slices.Max(slower)), "≤ 1.3, aim 1.1",
	})
	b.rows = append(b.rows, row{
		"processor time of the same, receiver and PostgreSQL, µs", fmt.Sprintf("stripeonce, none: %.0f", median(costs[0])), fmt.Sprintf("%.0f", median(costs[largest])),
		fmt.Sprintf("%.2f ×", median(costs[largest])/median(costs[0])), "", "",
	})
	return nil
}

func thousands(n int) string {
	text := strconv.Itoa(n)
	var parts []string
	for ; len(text) > 3; text = text[:len(text)-3] {
		parts = append([]string{text[len(text)-3:]}, parts...)
	}
	return strings.Join(append([]string{text}, parts...), ",")
}
