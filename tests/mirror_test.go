package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/entitlements"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// serve mirrors what STRIPEONCE_MIRROR names: every object ends as Stripe has it, and verify finds nothing to repair but what was
// changed by hand.
func TestServeMirrors(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	simulation := stripesim.Simulation{Seed: 2, Subscriptions: 40, Billing: true, Storm: stripesim.Default}
	account := simulation.NewAccount()
	api := stripesim.NewAPI(account)
	stripe := httptest.NewServer(api)
	t.Cleanup(stripe.Close)
	env := environ("DATABASE_URL="+databaseURL, "STRIPE_API_KEY=sk_test_123", "STRIPE_API_BASE="+stripe.URL, "STRIPEONCE_MIRROR=customer,product, price,invoice")
	s := serve(t, env, "--rate", "1000")
	d := &stripesim.Deliverer{URL: s.url + "/webhooks/stripe", Secret: hooktest.Secret}
	if err := simulation.Run(t.Context(), api, d); err != nil {
		t.Fatal(err)
	}
	if report := d.Report(); len(report.Refused) > 0 {
		t.Fatalf("%+v", report)
	}
	pool := pgtest.Connect(t, databaseURL)
	for _, check := range []func() ([]judge.Finding, error){
		func() ([]judge.Finding, error) { return judge.Subscriptions(t.Context(), pool, account) },
		func() ([]judge.Finding, error) {
			return judge.Objects(t.Context(), pool, account, "customer", "product", "price", "invoice")
		},
	} {
		if findings, err := check(); err != nil || len(findings) > 0 {
			t.Errorf("%v, %v", findings, err)
		}
	}
	if _, body := s.get(t, "/metrics"); !strings.Contains(body, `stripeonce_mirror_order_settled_total{by="chain"} `) {
		t.Error("/metrics does not count how events of one second were ordered")
	}

	types := []string{"verify", "--type", "subscription,customer,product,price,invoice", "--rate", "1000"}
	if r := run(t, env, "", types...); r.code != 0 || !strings.Contains(r.stdout, " 0 drifted") {
		t.Errorf("verify: %s", r)
	}
	pgtest.Exec(t, pool, `UPDATE stripe_objects SET object = object || '{"number": "wrong"}', digest = NULL WHERE id = (SELECT max(id) FROM stripe_invoices WHERE NOT deleted)`)
	pgtest.Exec(t, pool, `UPDATE subscriptions SET currency = 'xxx', digest = NULL WHERE id = (SELECT max(id) FROM subscriptions)`)
	r := run(t, env, "", append(types, "--json")...)
	list := lines(t, r)
	if r.code != 1 || len(list) != 3 || list[0]["type"] != "subscription" || list[1]["type"] != "invoice" || list[1]["local"] != "wrong" || list[2]["drifted"] != float64(2) {
		t.Errorf("verify --json: %s", r)
	}
	if r := run(t, env, "", append(types, "--fix", "--here")...); r.code != 0 || !strings.Contains(r.stdout, "2 drifted, 2 fixed") {
		t.Errorf("verify --fix: %s", r)
	}
	for list, text := range map[string]string{"subscription": `"subscription" is always mirrored`, "Invoice": `"Invoice" is not a type`} {
		if r := run(t, append(env, "STRIPE_WEBHOOK_SECRET="+hooktest.Secret, "STRIPEONCE_MIRROR="+list), "", "serve", "--addr", "127.0.0.1:0"); r.code != 2 || !strings.Contains(r.stderr, text) {
			t.Errorf("STRIPEONCE_MIRROR=%s: %s", list, r)
		}
	}
}

// Stripe's own fixtures of every type that the mirror knows are stored, read back and shown by the views.
func TestMirrorOfStripeMock(t *testing.T) {
	t.Parallel()
	mock := startStripeMock(t)
	h := webhooks.NewHandlers()
	mirror.Register(h, &mirror.Config{Types: mirror.All, Logger: hooktest.NoLog()})
	host := hooktest.New(t, h, nil)
	stored := 0
	for object, path := range map[string]string{
		"customer": "/v1/customers", "product": "/v1/products", "price": "/v1/prices", "plan": "/v1/plans", "coupon": "/v1/coupons",
		"promotion_code": "/v1/promotion_codes", "tax_id": "/v1/tax_ids", "tax_rate": "/v1/tax_rates", "invoice": "/v1/invoices",
		"invoiceitem": "/v1/invoiceitems", "credit_note": "/v1/credit_notes", "subscription_schedule": "/v1/subscription_schedules",
		"quote": "/v1/quotes", "charge": "/v1/charges", "payment_intent": "/v1/payment_intents", "setup_intent": "/v1/setup_intents",
		"payment_method": "/v1/payment_methods", "refund": "/v1/refunds", "dispute": "/v1/disputes", "checkout.session": "/v1/checkout/sessions",
		"payout": "/v1/payouts", "transfer": "/v1/transfers", "topup": "/v1/topups", "payment_link": "/v1/payment_links", "review": "/v1/reviews",
		"mandate": "/v1/mandates", "invoice_payment": "/v1/invoice_payments", "radar.early_fraud_warning": "/v1/radar/early_fraud_warnings",
	} {
		fixture := fetchFixture(t, mock+path+"/x_"+strings.ReplaceAll(object, ".", "_"))
		var head struct{ ID, Object string }
		if err := json.Unmarshal(fixture, &head); err != nil || head.Object != object {
			t.Fatalf("%s: %s %v", path, fixture, err)
		}
		kind := object + ".updated"
		switch object {
		case "tax_id":
			kind = "customer.tax_id.updated"
		case "dispute":
			kind = "charge.dispute.updated"
		}
		host.Expect(t, hooktest.Event("evt_"+object, kind, 1767225600, string(fixture)), 200, webhooks.OutcomeProcessed)
		o, err := mirror.Get[mirror.Object](t.Context(), host.Pool, mirror.Key{Type: object, ID: head.ID})
		if err != nil {
			t.Errorf("%s: %v", object, err)
			continue
		}
		if strings.Contains(string(o.Object), "client_secret") {
			t.Errorf("%s is stored with its secret: %s", object, o.Object)
		}
		if !strings.Contains(string(fixture), "client_secret") && !pgtest.Scan[bool](t, host.Pool, `SELECT object = $2::jsonb FROM stripe_objects WHERE object_type = $1`, object, string(fixture)) {
			t.Errorf("%s is stored as %s", object, o.Object)
		}
		stored++
	}
	// The summary of entitlements has no endpoint of its own: the API has the customer's list.
	entitled := fetchFixture(t, mock+"/v1/entitlements/active_entitlements?customer=cus_1")
	summary := fmt.Sprintf(`{"object":%q,"customer":"cus_1","entitlements":%s}`, mirror.Entitlements[0], entitled)
	host.Expect(t, hooktest.Event("evt_summary", mirror.Entitlements[0]+".updated", 1767225600, summary), 200, webhooks.OutcomeProcessed)
	if list, err := entitlements.New(host.Pool).List(t.Context(), "cus_1"); err != nil || len(list) != 1 || list[0].LookupKey == "" || list[0].FeatureID == "" {
		t.Errorf("the entitlements are %+v, %v, of %s", list, err, entitled)
	}
	stored++
	if stored != len(mirror.All) {
		t.Errorf("%d types are stored", stored)
	}
	for _, view := range []string{
		"stripe_customers", "stripe_products", "stripe_prices", "stripe_invoices", "stripe_charges", "stripe_payment_intents", "stripe_refunds",
		"stripe_disputes", "stripe_payment_methods", "stripe_checkout_sessions", "stripe_credit_notes", "stripe_subscription_schedules",
		"stripe_coupons", "stripe_promotion_codes", "stripe_entitlements",
	} {
		if n := pgtest.Scan[int](t, host.Pool, `SELECT count(to_jsonb(v))::int FROM `+view+` AS v`); n != 1 {
			t.Errorf("%s has %d rows", view, n)
		}
	}
	if _, err := mirror.Get[stripe.Invoice](t.Context(), host.Pool, mirror.Key{ID: "x_invoice"}); err != nil {
		t.Error(err)
	}
}

func fetchFixture(t *testing.T, url string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sk_test_123")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(fmt.Errorf("%s: %s %w", url, res.Status, err))
	}
	return body
}
