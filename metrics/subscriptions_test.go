package metrics_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// A subscription that is stored with truncated items is counted.
func TestIncompleteItems(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, &subscriptions.Config{Logger: hooktest.NoLog()})
	host := hooktest.New(t, h, nil)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.NewSubscriptions(projection))
	host.Expect(t, hooktest.Event("evt_1", "customer.subscription.created", 1,
		`{"id":"sub_1","status":"active","items":{"has_more":true,"data":[{"id":"si_1"}]}}`), 200, webhooks.OutcomeProcessed)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		values[family.GetName()] = family.GetMetric()[0].GetCounter().GetValue()
	}
	if values["stripeonce_incomplete_items_total"] != 1 || len(values) != 2 {
		t.Errorf("the metrics are %v", values)
	}
}
