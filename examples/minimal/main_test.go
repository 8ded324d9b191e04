package main

import (
	"net"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// The program as README.md shows it records a payment once, however often it is delivered.
func TestMinimal(t *testing.T) {
	pool := exampletest.Database(t, `CREATE TABLE payments (invoice text, cents bigint)`)
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().(*net.TCPAddr)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address.String())
	t.Setenv("DATABASE_URL", pool.Config().ConnString())
	t.Setenv("STRIPE_WEBHOOK_SECRET", webhookstest.Secret)
	t.Setenv("PORT", port)
	go main() // until the test's process ends

	target := &url.URL{Scheme: "http", Host: "127.0.0.1:" + port}
	for deadline := time.Now().Add(30 * time.Second); ; {
		conn, err := net.DialTimeout("tcp", target.Host, time.Second)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	stripe := webhookstest.New(t, httputil.NewSingleHostReverseProxy(target), "/webhooks/stripe", webhookstest.Secret)
	paid := webhookstest.Event{ID: "evt_1", Type: "invoice.paid", Object: webhookstest.Invoice{CustomerID: "cus_1", AmountDue: 500}}
	stripe.Expect(paid, webhooks.OutcomeProcessed)
	stripe.Storm(paid)
	var cents int
	if err := pool.QueryRow(t.Context(), `SELECT sum(cents) FROM payments`).Scan(&cents); err != nil || cents != 500 {
		t.Errorf("the payments are %d cents, %v, want 500", cents, err)
	}
}
