package schema_test

import (
	"fmt"

	"github.com/pook/stripeonce/schema"
)

// For a host that applies the migrations with a tool of its own: their files, in order.
func ExampleMigrations() {
	for _, m := range schema.Migrations()[:3] {
		fmt.Println(m.Name)
	}
	// Output:
	// 20261123000001_create_stripe_webhook_events.sql
	// 20261123000002_create_subscriptions.sql
	// 20261123000003_create_subscription_items.sql
}
