package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// billed are the types that the simulation has beside subscriptions.
var billed = stripesim.BillingTypes()

// world is a receiver that mirrors a simulated account, with its API.
type world struct {
	host       *hooktest.Host
	projection *mirror.Projection
	api        atomic.Pointer[stripesim.API]
	apiBase    string
}

func newWorld(t *testing.T, configure func(*mirror.Config, *webhooks.Config)) *world {
	t.Helper()
	w := &world{}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { w.api.Load().ServeHTTP(rw, req) }))
	t.Cleanup(server.Close)
	w.apiBase = server.URL
	h := webhooks.NewHandlers()
	config := &mirror.Config{Types: billed, Logger: hooktest.NoLog(), OnChange: recordChange}
	hooks := &webhooks.Config{APIKey: "sk_test_1", APIBase: server.URL, ListRate: 1e6}
	if configure != nil {
		configure(config, hooks)
	}
	w.projection = mirror.Register(h, config)
	w.host = hooktest.New(t, h, func(c *webhooks.Config) {
		c.APIKey, c.APIBase, c.ListRate = hooks.APIKey, hooks.APIBase, hooks.ListRate
	})
	pgtest.Exec(t, w.host.Pool, `CREATE TABLE changes (n BIGSERIAL, object TEXT, before TEXT, after TEXT)`)
	return w
}

// recordChange records the states before and after a change.
func recordChange(ctx context.Context, tx pgx.Tx, c mirror.Change) error {
	before := "nothing"
	if c.Before != nil {
		before = state(c.Before)
	}
	_, err := tx.Exec(ctx, `INSERT INTO changes (object, before, after) VALUES ($1, $2, $3)`,
		fmt.Sprint(c.After.Account, c.After.Livemode, c.After.Type, c.After.ID), before, state(c.After))
	return err
}

// state is a state in the form that jsonb gives it: the same whether it was read from a row or an event.
func state(o *mirror.Object) string {
	return fmt.Sprint(o.Status, o.Deleted, o.Complete, o.CustomerID, o.SubscriptionID)
}

// deliver applies the deliveries of a plan, some at the same time, and retries as Stripe does.
func (w *world) deliver(plan []stripesim.Delivery) error {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	errs := make(chan error, len(plan)*8)
	for _, d := range plan {
		for range d.Times {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				errs <- w.apply(d)
			})
		}
	}
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

func (w *world) apply(d stripesim.Delivery) error {
	ev, err := webhooks.ParseEvent(d.Body())
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		if _, err = w.host.Receiver.Apply(context.Background(), ev); !errors.Is(err, webhooks.ErrUnavailable) || try == 20 {
			return err
		}
	}
}

// faults returns every difference from the account's truth, and every gap in the sequence of changes.
func (w *world) faults(account *stripesim.Account) (string, error) {
	findings, err := judge.Objects(context.Background(), w.host.Pool, account, billed...)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, f := range findings {
		fmt.Fprintln(&text, f)
	}
	rows, err := w.host.Pool.Query(context.Background(), `SELECT format('%s: a change begins with %s, where the last ended with %s', object, before, last)
		FROM (SELECT *, lag(after, 1, 'nothing') OVER (PARTITION BY object ORDER BY n) AS last FROM changes) AS c WHERE before <> last`)
	if err != nil {
		return "", err
	}
	gaps, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, gap := range gaps {
		fmt.Fprintln(&text, gap)
	}
	return text.String(), err
}

func (w *world) reset(tb testing.TB) {
	tb.Helper()
	pgtest.Exec(tb, w.host.Pool, `DELETE FROM stripe_objects; DELETE FROM stripe_webhook_events; DELETE FROM changes`)
}

// Whatever the order, the number and the interleaving of their events, all objects end as Stripe has them.
func TestConverges(t *testing.T) {
	t.Parallel()
	for name, form := range map[string]stripesim.Thin{"snapshots": stripesim.SnapshotOnly, "thin": stripesim.ThinOnly, "twins": stripesim.ThinAndTwin} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			checks, most := 0, 40
			if pgtest.Quick() {
				most = 6
			}
			rapid.Check(t, func(rt *rapid.T) {
				if checks++; checks > most {
					return
				}
				w.reset(t)
				account := stripesim.New(rapid.Uint64().Draw(rt, "seed"), stripesim.Epoch)
				account.Billing = true
				if rapid.Bool().Draw(rt, "connected") {
					account.Connected = []string{"acct_1Connected", "acct_2Connected"}
				}
				account.Live(stripesim.Life{Subscriptions: rapid.IntRange(1, 4).Draw(rt, "subscriptions"), Bursts: true})
				storm := stripesim.Wild
				storm.Thin = form
				w.api.Store(stripesim.NewAPI(account))
				if err := w.deliver(storm.Plan(account.Seed, account.Events)); err != nil {
					rt.Fatal(err)
				}
				faults, err := w.faults(account)
				if err != nil || faults != "" {
					rt.Fatalf("%s%v", faults, err)
				}
			})
		})
	}
}
