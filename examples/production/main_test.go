package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// The application is ready, takes an event once, has metrics of it, and stops when its context ends.
func TestProduction(t *testing.T) {
	pool := exampletest.Database(t, `CREATE TABLE payments (invoice text, cents bigint)`)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DATABASE_URL", pool.Config().ConnString())
	t.Setenv("STRIPE_WEBHOOK_SECRET", webhookstest.Secret)
	t.Setenv("STRIPE_API_KEY", "")
	t.Setenv("PORT", port)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()

	target := &url.URL{Scheme: "http", Host: "127.0.0.1:" + port}
	for deadline := time.Now().Add(30 * time.Second); ; {
		status, text := get(t, target.String()+"/readyz")
		if status == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("/readyz answers %d: %s", status, text)
		}
	}
	stripe := webhookstest.New(t, httputil.NewSingleHostReverseProxy(target), "/webhooks/stripe", webhookstest.Secret)
	stripe.Expect(webhookstest.Event{ID: "evt_1", Type: "invoice.paid", Object: webhookstest.Invoice{CustomerID: "cus_1", AmountDue: 500}}, webhooks.OutcomeProcessed)
	if _, text := get(t, target.String()+"/metrics"); !strings.Contains(text, `stripeonce_deliveries_total{outcome="processed",pattern="invoice.paid"} 1`) {
		t.Errorf("the metrics are %s", text)
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("run has not returned within a minute after its context ended")
	}
}

// Where another program has the port, the application ends with the reason.
func TestOccupiedPort(t *testing.T) {
	pool := exampletest.Database(t, `CREATE TABLE payments (invoice text, cents bigint)`)
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	t.Setenv("DATABASE_URL", pool.Config().ConnString())
	t.Setenv("STRIPE_WEBHOOK_SECRET", webhookstest.Secret)
	t.Setenv("STRIPE_API_KEY", "")
	t.Setenv("PORT", port)
	ended := make(chan error, 1)
	go func() { ended <- run(t.Context()) }()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "address already in use") {
			t.Errorf("the error is %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("run has not returned within a minute, although its port is taken")
	}
}

// get returns the response to a request, and 0 where nothing listens.
func get(t *testing.T, address string) (status int, text string) {
	t.Helper()
	res, err := http.Get(address)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}
