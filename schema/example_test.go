package schema_test

import (
	"fmt"

	"github.com/pook/stripeonce/schema"
)

// For a host that applies the migrations with a tool of its own: their files, in order.
func ExampleMigrations() {
	for _, m := range schema.Migrations() {
		fmt.Println(m.Name)
	}
	// Output:
	// 20261126000001_create_stripe_webhook_events.sql
	// 20261126000002_create_stripe_webhook_failures.sql
	// 20261126000003_create_subscriptions.sql
	// 20261126000004_create_subscription_items.sql
	// 20261126000005_create_stripe_objects.sql
	// 20261126000006_create_stripe_views.sql
	// 20261126000007_create_stripe_payment_views.sql
	// 20261126000008_create_stripe_entitlements.sql
	// 20261126000009_create_stripe_webhook_runs.sql
	// 20261126000010_create_stripe_webhook_payloads.sql
	// 20261126000011_create_stripe_erasures.sql
}
