package webhooks_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// A handler sees what the projections before it have written, although their writes are deferred.
func TestHandlerSeesDeferredWrites(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	webhooks.On(h, "customer.subscription.*", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, sub *struct{ ID string }) error {
		var status string
		if err := tx.QueryRow(ctx, `SELECT status FROM subscriptions WHERE id = $1`, sub.ID).Scan(&status); err != nil {
			return err
		}
		if status != "active" {
			return fmt.Errorf("the status is %s", status)
		}
		return nil
	})
	host := hooktest.New(t, h, nil)
	host.Expect(t, about("evt_1", "sub_1", "active"), 200, webhooks.OutcomeProcessed)
}
