package subscriptions_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// world is a simulated account, a receiver that may fetch from its API, and a log of the changes that OnChange receives.
type world struct {
	host       *hooktest.Host
	projection *subscriptions.Projection
	api        *stripesim.API
	apiBase    string
	mu         sync.Mutex
	failed     map[string]bool
}

var errOnPurpose = errors.New("this handler fails on purpose")

// effect records that an event takes effect, after the projection. It fails on the first attempt of one event in four.
func (w *world) effect(ctx context.Context, tx pgx.Tx, ev *webhooks.Event) (bool, error) {
	if _, err := tx.Exec(ctx, judge.Effect, ev.ID); err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if ev.ID[len(ev.ID)-1]%4 == 0 && !w.failed[ev.ID] {
		w.failed[ev.ID] = true
		return false, errOnPurpose
	}
	return false, nil
}

const changesTable = `CREATE TABLE changes (n BIGSERIAL, subscription TEXT, before TEXT, after TEXT)`

// newWorld starts a receiver. With an API it refetches as configured, by default if the order is ambiguous.
func newWorld(tb testing.TB, account *stripesim.Account, withAPI bool, refetch subscriptions.Refetch) *world {
	tb.Helper()
	return newWorldWith(tb, account, withAPI, refetch, func(*webhooks.Config) {})
}

func newWorldWith(tb testing.TB, account *stripesim.Account, withAPI bool, refetch subscriptions.Refetch, configure func(*webhooks.Config)) *world {
	tb.Helper()
	w := &world{failed: map[string]bool{}}
	h := webhooks.NewHandlers()
	w.projection = subscriptions.Register(h, &subscriptions.Config{OnChange: recordChange, Refetch: refetch, Logger: hooktest.NoLog()})
	webhooks.Project(h, "*", w.effect)
	w.host = hooktest.New(tb, h, func(c *webhooks.Config) {
		if withAPI {
			w.api = stripesim.NewAPI(account)
			server := httptest.NewServer(w.api)
			tb.Cleanup(server.Close)
			w.apiBase = server.URL
			c.APIKey, c.APIBase = "sk_test_1", server.URL
		}
		configure(c)
	})
	pgtest.Exec(tb, w.host.Pool, judge.EffectsTable)
	pgtest.Exec(tb, w.host.Pool, changesTable)
	return w
}

// recordChange records the states before and after a change.
func recordChange(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
	before := "nothing"
	if c.Before != nil {
		before = stateOf(c.Before)
	}
	_, err := tx.Exec(ctx, `INSERT INTO changes (subscription, before, after) VALUES ($1, $2, $3)`, c.After.ID, before, stateOf(c.After))
	return err
}

func stateOf(s *subscriptions.Subscription) string {
	items := make([]string, len(s.Items))
	for i, item := range s.Items {
		items[i] = fmt.Sprintf("%s=%s*%d", item.ID, item.PriceID, *item.Quantity)
	}
	slices.Sort(items) // their order is not part of the state
	canceled := int64(0)
	if s.CanceledAt != nil {
		canceled = s.CanceledAt.Unix()
	}
	pause := "not paused"
	if s.PauseCollection != nil {
		pause = fmt.Sprintf("%s until %v", s.PauseCollection.Behavior, s.PauseCollection.ResumesAt)
	}
	return fmt.Sprintf("%s %v %d %d %v %s %v %s %s %s %v", s.Status, s.CancelAtPeriodEnd, canceled, s.CurrentPeriodEnd.Unix(), s.Metadata,
		s.LatestInvoiceID, items, pause, s.ScheduleID, s.DefaultPaymentMethodID, s.DiscountIDs)
}

// reset empties the tables for another run.
func (w *world) reset(tb testing.TB) {
	tb.Helper()
	pgtest.Exec(tb, w.host.Pool, `DELETE FROM subscriptions; DELETE FROM stripe_webhook_events; DELETE FROM effects; DELETE FROM changes`)
}

// apply applies an event parsed from a delivery's body, and retries as Stripe does.
func (w *world) apply(e *stripesim.Event) error {
	ev, err := webhooks.ParseEvent(e.Body)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		_, err = w.host.Receiver.Apply(context.Background(), ev)
		if !errors.Is(err, webhooks.ErrUnavailable) && !errors.Is(err, errOnPurpose) || try == 9 {
			return err
		}
	}
}

// faults returns every difference from the account's truth and every gap in the sequence of changes.
func (w *world) faults(account *stripesim.Account) ([]string, error) {
	findings, err := judge.Judge(context.Background(), w.host.Pool, account)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, f := range findings {
		texts = append(texts, f.String())
	}
	rows, err := w.host.Pool.Query(context.Background(), `SELECT format('%s: a change begins with %s, where the last ended with %s', subscription, before, last)
		FROM (SELECT *, lag(after, 1, 'nothing') OVER (PARTITION BY subscription ORDER BY n) AS last FROM changes) AS c
		WHERE before <> last OR before = after`)
	if err != nil {
		return nil, err
	}
	broken, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return append(texts, broken...), err
}

func subscriptionEvents(account *stripesim.Account) []*stripesim.Event {
	return slices.DeleteFunc(slices.Clone(account.Events), func(e *stripesim.Event) bool { return e.ObjectID != e.SubscriptionID })
}

// short has histories of up to six events, several of them within one second.
var short = map[string]func(*stripesim.Account){
	"activated at once, renewed and upgraded in one second": func(a *stripesim.Account) {
		s := a.Subscribe(stripesim.VersionBasil)
		s.Activate()
		a.Wait(24 * time.Hour)
		s.Renew()
		s.Upgrade(5)
	},
	"four changes in one second": func(a *stripesim.Account) {
		s := a.Subscribe(stripesim.VersionBeforeBasil)
		a.Wait(time.Hour)
		s.Activate()
		s.SetQuantity(7)
		s.SetMetadata("org", "1")
		s.AddItem()
	},
	"there and back in one second": func(a *stripesim.Account) {
		s := a.Subscribe(stripesim.VersionBasil)
		s.Activate()
		a.Wait(time.Hour)
		s.CancelAtPeriodEnd(true)
		s.CancelAtPeriodEnd(false)
	},
	"deleted, and labeled in the same second and later": func(a *stripesim.Account) {
		s := a.Subscribe(stripesim.VersionBasil)
		a.Wait(time.Hour)
		s.SetMetadata("a", "1")
		s.Delete()
		s.SetMetadata("a", "2")
		a.Wait(time.Hour)
		s.SetMetadata("a", "3")
	},
	"paused and resumed": func(a *stripesim.Account) {
		s := a.SubscribeTrial(stripesim.VersionBasil, time.Hour)
		a.Wait(time.Hour)
		s.Pause()
		s.Resume()
	},
	"paused, discounted and moved to another card in one second": func(a *stripesim.Account) {
		s := a.Subscribe(stripesim.VersionBasil)
		s.Activate()
		s.AddItem()
		a.Wait(time.Hour)
		s.PauseCollection("void", 0)
		s.AddDiscount()
		s.SetPaymentMethod()
	},
	"all in one second": func(a *stripesim.Account) {
		s := a.Subscribe(stripesim.VersionBasil)
		s.Activate()
		s.SetMetadata("a", "1")
		s.SetMetadata("a", "2")
		s.Delete()
	},
}

// Every order of a short history converges to Stripe's object, with and without its API. The exception is a walk that ends
// where it began: without the API, every order converges to the same state, which may be a wrong one.
func TestEveryOrderOfShortHistories(t *testing.T) {
	t.Parallel()
	for name, live := range short {
		for _, withAPI := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, API %v", name, withAPI), func(t *testing.T) {
				t.Parallel()
				everyOrder(t, live, withAPI, name == "there and back in one second" && !withAPI)
			})
		}
	}
}

func everyOrder(t *testing.T, live func(*stripesim.Account), withAPI, circle bool) {
	account := stripesim.New(1, stripesim.Epoch)
	live(account)
	events := subscriptionEvents(account)
	account.Events = events
	w := newWorld(t, account, withAPI, "")
	ended := map[string]bool{}
	hooktest.Permutations(len(events), func(order []int) {
		for _, i := range order {
			if err := w.apply(events[i]); err != nil {
				t.Fatalf("order %v: %v", order, err)
			}
		}
		faults, err := w.faults(account)
		if err != nil {
			t.Fatal(err)
		}
		if len(faults) > 0 && !circle {
			t.Errorf("order %v: %v", order, faults)
		}
		ended[pgtest.Scan[string](t, w.host.Pool, `SELECT last_event_id FROM subscriptions`)] = true
		w.reset(t)
	})
	if circle && len(ended) != 1 {
		t.Errorf("the circle ends in %d ways", len(ended))
	}
}

// Generated histories with bursts converge to Stripe's objects. They are delivered out of order, with duplicates and by
// several clients, while handlers fail now and then. Without the API, they converge if the events of the last second
// settle their order.
func TestGeneratedHistoriesConverge(t *testing.T) {
	t.Parallel()
	for _, withAPI := range []bool{false, true} {
		t.Run(fmt.Sprintf("API %v", withAPI), func(t *testing.T) {
			t.Parallel()
			account := &stripesim.Account{}
			w := newWorld(t, account, withAPI, "")
			rapid.Check(t, func(rt *rapid.T) {
				*account = *stripesim.New(rapid.Uint64().Draw(rt, "seed"), stripesim.Epoch)
				steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 8).Draw(rt, "life")
				lead(account, steps)
				arrival := rapid.Permutation(append(slices.Clone(account.Events), account.Events...)).Draw(rt, "arrival")
				clients := rapid.IntRange(1, 4).Draw(rt, "clients")
				if err := w.deliver(arrival, clients); err != nil {
					rt.Fatal(err)
				}
				faults, err := w.faults(account)
				if err != nil {
					rt.Fatal(err)
				}
				if len(faults) > 0 && (withAPI || subscriptions.Settled(parse(rt, account))) {
					rt.Errorf("%s\narriving in the order%s\nends with\n%v", describe(account.Events), describe(arrival), faults)
				}
				w.reset(t)
			})
			t.Logf("settled by %+v", w.projection.Stats())
		})
	}
}

// Thousands of histories in one account, delivered in a storm by several clients.
func TestThousandsOfHistories(t *testing.T) {
	t.Parallel()
	account := stripesim.New(2026, stripesim.Epoch)
	lives := 2000
	if pgtest.Quick() {
		lives = 60
	}
	account.Live(stripesim.Life{Subscriptions: lives, Bursts: true})
	account.Events = subscriptionEvents(account)
	storm := stripesim.Default
	var arrival []*stripesim.Event
	for _, d := range storm.Plan(2026, account.Events) {
		for range d.Times {
			arrival = append(arrival, d.Event)
		}
	}
	w := newWorld(t, account, true, "")
	if err := w.deliver(arrival, 8); err != nil {
		t.Fatal(err)
	}
	faults, err := w.faults(account)
	if err != nil || len(faults) > 0 {
		t.Errorf("%d faults, the first of them %v, %v", len(faults), faults[:min(5, len(faults))], err)
	}
	t.Logf("%d lives, %d events, %d deliveries, settled by %+v", len(account.Subscriptions), len(account.Events), len(arrival), w.projection.Stats())
}

func parse(rt *rapid.T, account *stripesim.Account) []*webhooks.Event {
	var events []*webhooks.Event
	for _, e := range subscriptionEvents(account) {
		ev, err := webhooks.ParseEvent(e.Body)
		if err != nil {
			rt.Fatal(err)
		}
		events = append(events, ev)
	}
	return events
}

// lifeStep is one step of a generated history, and whether time passes before it.
type lifeStep struct {
	n    int
	wait bool
}

func drawStep(t *rapid.T) lifeStep {
	return lifeStep{rapid.IntRange(0, 99).Draw(t, "step"), rapid.Bool().Draw(t, "later")}
}

func lead(account *stripesim.Account, steps []lifeStep) {
	sub := account.Subscribe(stripesim.VersionBasil)
	for _, s := range steps {
		if s.wait {
			account.Wait(time.Hour)
		}
		sub.Step(s.n)
	}
	account.Wait(time.Hour)
}

// deliver applies the events in the order of their arrival, by several concurrent clients.
func (w *world) deliver(arrival []*stripesim.Event, clients int) error {
	queue := make(chan *stripesim.Event)
	errs := make([]error, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for e := range queue {
				errs[i] = errors.Join(errs[i], w.apply(e))
			}
		})
	}
	for _, e := range arrival {
		queue <- e
	}
	close(queue)
	wg.Wait()
	return errors.Join(errs...)
}

// describe lists events for an error message.
func describe(events []*stripesim.Event) string {
	var text string
	for _, e := range events {
		text += fmt.Sprintf("\n  %s  %-40s %s", time.Unix(e.Created, 0).UTC().Format(time.TimeOnly), e.Type, e.ID)
	}
	return text
}
