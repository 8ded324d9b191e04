package subscriptions_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// The number of round trips to PostgreSQL, on a connection with prepared statements. A duplicate of an event that another
// receiver applied is found in the transaction's first round trip. The second is the rollback, for which the response does
// not wait.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	onChange := func(context.Context, pgx.Tx, subscriptions.Change) error { return nil }
	onChangeWrites := func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
		_, err := tx.Exec(ctx, `SELECT status = $1 FROM subscriptions WHERE id = $2`, string(c.After.Status), c.After.ID)
		return err
	}
	for name, c := range map[string]struct {
		config                             *subscriptions.Config
		unprepared                         bool
		created, updated, again, elsewhere int64
	}{
		"the projection alone":        {nil, false, 2, 2, 1, 2},
		"with OnChange":               {&subscriptions.Config{OnChange: onChange}, false, 2, 2, 1, 2},
		"with OnChange's statement":   {&subscriptions.Config{OnChange: onChangeWrites}, false, 3, 3, 1, 2},
		"without prepared statements": {nil, true, 2, 2, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count, url := &pglocal.RoundTrips{}, pgtest.NewURL(t)+"&pool_max_conns=1"
			handlers := func() *webhooks.Handlers {
				h := webhooks.NewHandlers()
				subscriptions.Register(h, c.config)
				return h
			}
			if c.unprepared {
				url += "&default_query_exec_mode=exec"
			}
			host := hooktest.On(t, pgtest.ConnectBy(t, url, count.Dial), handlers(), nil)
			other := hooktest.On(t, host.Pool, handlers(), nil)
			events := 0
			deliver := func(to *hooktest.Host, id, kind, sub, status string) (trips int64) {
				before := count.Count()
				reply := to.Send(t, hooktest.Event(id, "customer.subscription."+kind, int64(1000+events), subscription(sub, status)))
				if !reply.OK() {
					t.Error(reply)
				}
				events++
				pgtest.AwaitEqual(t, "the number of deliveries in flight", 0, func() int { return to.Receiver.Stats().InFlight })
				pgtest.AwaitEqual(t, "the number of connections in use", 0, func() int32 { return host.Pool.Stat().AcquiredConns() })
				return count.Count() - before
			}
			all := func(n int) [4]int64 {
				sub := fmt.Sprintf("sub_%d", n)
				created, updated := fmt.Sprintf("evt_%d_created", n), fmt.Sprintf("evt_%d_updated", n)
				return [4]int64{
					deliver(host, created, "created", sub, "active"), deliver(host, updated, "updated", sub, "past_due"),
					deliver(host, updated, "updated", sub, "past_due"), deliver(other, updated, "updated", sub, "past_due"),
				}
			}
			all(1) // prepares the statements
			if got, want := all(2), [4]int64{c.created, c.updated, c.again, c.elsewhere}; got != want {
				t.Errorf("round trips of a new subscription, an update, a duplicate, one elsewhere: %d, want %d", got, want)
			}
		})
	}
}

func subscription(id, status string) string {
	return `{"id":"` + id + `","object":"subscription","customer":"cus_1","status":"` + status + `","items":{"data":[{"id":"si_` + id + `","price":{"id":"price_1"}}]}}`
}
