package metrics_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/webhooks"
)

// gauges returns the values of the ledger's metrics, summed over their labels.
func gauges(t *testing.T, collector prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			values[family.GetName()] += metric.GetGauge().GetValue()
		}
	}
	return values
}

// A receiver on a database that lacks a table is not ready.
func TestReady(t *testing.T) {
	t.Parallel()
	for table, want := range map[string]float64{"none": 1, "stripe_webhook_events": 0} {
		host := hooktest.New(t, webhooks.NewHandlers(), nil)
		pgtest.Exec(t, host.Pool, `ALTER TABLE IF EXISTS `+table+` RENAME TO elsewhere`)
		if got := gauges(t, metrics.NewReceiver(host.Receiver))["stripeonce_ready"]; got != want {
			t.Errorf("without the table %s the receiver is ready: %v", table, got)
		}
	}
}

// A receiver without the projections needs no right on their tables, and sees the ledger all the same.
func TestLedgerWithLeastPrivileges(t *testing.T) {
	t.Parallel()
	url := pgtest.NewURL(t)
	admin := pgtest.Connect(t, url)
	role := pgtest.NewRole(t, admin)
	pgtest.Exec(t, admin, `GRANT SELECT ON stripe_webhook_events, stripe_webhook_failures, stripe_objects TO `+role)
	pgtest.Exec(t, admin, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error) VALUES ('evt_1', 'invoice.paid', 'no plan')`)
	got := gauges(t, metrics.NewLedger(pgtest.ConnectAs(t, url, role)))
	if _, incomplete := got["stripeonce_incomplete_rows"]; got["stripeonce_ledger_up"] != 1 || got["stripeonce_failing_events"] != 1 || !incomplete {
		t.Errorf("the metrics are %v", got)
	}
	pgtest.Exec(t, admin, `REVOKE SELECT ON stripe_webhook_failures FROM `+role)
	if got := gauges(t, metrics.NewLedger(pgtest.ConnectAs(t, url, role))); got["stripeonce_ledger_up"] != 0 || len(got) != 1 {
		t.Errorf("without a right on the failures the metrics are %v", got)
	}
}
