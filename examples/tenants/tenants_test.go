package tenants

import (
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

func TestTenants(t *testing.T) {
	pool := exampletest.Database(t, Tables)
	if _, err := pool.Exec(t.Context(), `INSERT INTO tenants (slug, stripe_account_id, webhook_secret) VALUES ('acme', 'acct_acme', 'whsec_of_acme'), ('evil', 'acct_evil', 'whsec_of_evil')`); err != nil {
		t.Fatal(err)
	}
	app := echo.New()
	if err := Mount(app, pool); err != nil {
		t.Fatal(err)
	}
	acme := webhookstest.New(t, app, "/tenants/acme/webhooks/stripe", "whsec_of_acme")
	evil := acme.At("/tenants/evil/webhooks/stripe", "whsec_of_evil")
	nobody := acme.At("/tenants/nobody/webhooks/stripe", "whsec_of_evil")

	sub := webhookstest.Subscription{ID: "sub_1", CustomerID: "cus_1", PriceID: "price_gold"}
	created := webhookstest.Event{ID: "evt_1", Type: "customer.subscription.created", Object: sub}
	acme.Storm(created)
	// A tenant who signs an event about another tenant's subscription changes nothing, whatever account the event names.
	sub.Status = "canceled"
	forged := webhookstest.Event{Type: "customer.subscription.deleted", Account: "acct_acme", Object: sub}
	if reply := evil.Deliver(forged.Body()); reply.Status != 500 {
		t.Errorf("the reply to a forged event is %s", reply)
	}
	if reply := nobody.Deliver(created.Body()); reply.Status != 404 {
		t.Errorf("the reply to an unknown tenant is %s", reply)
	}
	acme.Expect(created, webhooks.OutcomeDuplicate)

	// The tenant rolls the secret: while both are valid, Stripe signs with both. Then the new one alone is left.
	for _, secrets := range []string{"whsec_of_acme,whsec_new_of_acme", "whsec_new_of_acme"} {
		if _, err := pool.Exec(t.Context(), `UPDATE tenants SET webhook_secret = $1 WHERE slug = 'acme'`, secrets); err != nil {
			t.Fatal(err)
		}
		acme.At("/tenants/acme/webhooks/stripe", "whsec_new_of_acme").Expect(created, webhooks.OutcomeDuplicate)
	}
	var plans string
	if err := pool.QueryRow(t.Context(), `SELECT string_agg(slug || ' ' || plan, ', ' ORDER BY slug) FROM tenants`).Scan(&plans); err != nil {
		t.Fatal(err)
	}
	if want := "acme price_gold, evil free"; plans != want {
		t.Errorf("the plans are %s, want %s", plans, want)
	}
}
