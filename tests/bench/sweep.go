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

// objectsOf fills the mirror with invoices, ten per customer.
const objectsOf = `
INSERT INTO stripe_objects (livemode, object_type, id, customer_id, subscription_id, status, stripe_created_at, last_event_id, last_event_created_at, object)
SELECT false, 'invoice', id, customer, subscription, 'paid', at, 'evt_1' || substr(id, 4), at, jsonb_build_object('id', id, 'object', 'invoice', 'customer', customer,
	'subscription', subscription, 'status', 'paid', 'created', extract(epoch FROM at)::bigint, 'currency', 'usd', 'total', n, 'lines', jsonb_build_object('data', jsonb_build_array()))
FROM generate_series(1, %[1]d) AS n, LATERAL (SELECT 'in_1' || lpad(to_hex(n), 9, '0') || substr(md5(n::text), 1, 14) AS id,
	'cus_1' || substr(md5((n %% (%[1]d / 10 + 1))::text), 1, 13) AS customer, 'sub_1' || substr(md5((n %% (%[1]d / 10 + 1))::text), 1, 23) AS subscription,
	now() - (%[1]d - n) * interval '1 second' AS at) AS invoice`

// growth is a table that grows, and a workload that it must not slow down.
type growth struct {
	what string
	fill string // with the number of rows
	load *workload
	rows int
	file string
	goal string
}

func (b *stand) overLedgers() error {
	return b.overRows(growth{"the ledger", ledgerOf, projectionOnly, *ledgerRows, "throughput-ledger.svg", "≤ 1.3, aim 1.1"})
}

func (b *stand) overMirrors() error {
	return b.overRows(growth{"the mirror", objectsOf, billing, *mirrorRows, "throughput-mirror.svg", "≤ 1.3"})
}

// overRows measures new events on tables of different sizes, in alternating rounds.
func (b *stand) overRows(g growth) error {
	sizes := []int{0, g.rows / 100, g.rows / 10, g.rows}
	urls := make([]string, len(sizes))
	for i, size := range sizes {
		var err error
		if urls[i], err = b.database(ours); err != nil {
			return err
		}
		progress("%s is filled with %d rows", g.what, size)
		if size > 0 {
			if err := b.exec(urls[i], fmt.Sprintf(g.fill, size)); err != nil {
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
		list := requests(uint64(3000+round), *lives, g.load)
		for i := range sizes {
			m, err := b.rate(ours, g.load, urls[i], list, *connections)
			if err != nil {
				return err
			}
			rates[i], costs[i] = append(rates[i], m.rate()), append(costs[i], m.each(m.cpu+m.server))
		}
	}
	b.addGrowth(g, sizes, rates, costs)
	return nil
}

// addGrowth adds the plot and the lines of overRows.
func (b *stand) addGrowth(g growth, sizes []int, rates, costs [][]float64) {
	p := plot{file: g.file, title: "New events/s, by rows of " + g.what, x: "rows of " + g.what, series: []series{{name: ours}}}
	for i, size := range sizes {
		p.series[0].points = append(p.series[0].points, point{float64(max(size, 1)), median(rates[i])})
		progress("%s, %d rows: %.0f new events a second", g.what, size, median(rates[i]))
	}
	b.plots = append(b.plots, p)
	largest := len(sizes) - 1
	slower := make([]float64, *rounds)
	for i := range slower {
		slower[i] = rates[0][i] / rates[largest][i]
	}
	b.rows = append(b.rows, row{
		fmt.Sprintf("time of a new event with %s rows in %s, against none: %s", thousands(g.rows), g.what, g.load.what), "", "",
		fmt.Sprintf("%.2f ×", median(slower)), fmt.Sprintf("%.2f to %.2f", slices.Min(slower), slices.Max(slower)), g.goal,
	})
	b.rows = append(b.rows, row{
		"processor time of the same, receiver and PostgreSQL, µs", fmt.Sprintf("stripeonce, none: %.0f", median(costs[0])), fmt.Sprintf("%.0f", median(costs[largest])),
		fmt.Sprintf("%.2f ×", median(costs[largest])/median(costs[0])), "", "",
	})
}

func thousands(n int) string {
	text := strconv.Itoa(n)
	var parts []string
	for ; len(text) > 3; text = text[:len(text)-3] {
		parts = append([]string{text[len(text)-3:]}, parts...)
	}
	return strings.Join(append([]string{text}, parts...), ",")
}
