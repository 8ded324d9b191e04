package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// The application is ready, takes an event once, has metrics of it, and stops when its context ends.
func TestProduction(t *testing.T) {
	address := exampletest.Environment(t, exampletest.Database(t, `CREATE TABLE payments (invoice text, cents bigint)`))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()

	stripe := exampletest.Program(t, address)
	if status, text := get(t, address.String()+"/readyz"); status != http.StatusOK {
		t.Errorf("/readyz answers %d: %s", status, text)
	}
	stripe.Expect(webhookstest.Event{ID: "evt_1", Type: "invoice.paid", Object: webhookstest.Invoice{CustomerID: "cus_1", AmountDue: 500}}, webhooks.OutcomeProcessed)
	_, text := get(t, address.String()+"/metrics")
	if !strings.Contains(text, `stripeonce_deliveries_total{outcome="processed",pattern="invoice.paid"} 1`) {
		t.Errorf("the metrics are %s", text)
	}
	if strings.Contains(text, "stripeonce_reconcile_") {
		t.Error("there are metrics of reconciliation without an API key: the alert on its last run would fire")
	}
	stop()
	if err := pgtest.Receive(t, "run returns when its context has ended", ended); err != nil {
		t.Error(err)
	}
}

// Where another program has the port, the application ends with the reason.
func TestOccupiedPort(t *testing.T) {
	address := exampletest.Environment(t, exampletest.Database(t, `CREATE TABLE payments (invoice text, cents bigint)`))
	listener, err := net.Listen("tcp", ":"+address.Port())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	ended := make(chan error, 1)
	go func() { ended <- run(t.Context()) }()
	if err := pgtest.Receive(t, "run returns, whose port is taken", ended); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("the error is %v", err)
	}
}

// get returns a response.
func get(t *testing.T, address string) (status int, text string) {
	t.Helper()
	res, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}
