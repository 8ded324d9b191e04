package torture

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// Receivers under pressure.
const (
	busy         = "stripeonce, with handlers that take 50 ms"
	oneSlowType  = "stripeonce, with a handler of invoices that takes a second"
	stuckAtFirst = "stripeonce, with handlers that do not return the first time"
)

func registerBusy(h *webhooks.Handlers, _ *slog.Logger) {
	webhooks.On(h, "*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *struct{}) error {
		_, err := tx.Exec(ctx, `WITH busy AS (SELECT pg_sleep(0.05)) INSERT INTO effects SELECT $1 FROM busy`, ev.ID)
		return err
	})
}

func registerSlowType(h *webhooks.Handlers, logger *slog.Logger) {
	registerStandard(h, logger)
	webhooks.On(h, "invoice.*", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *struct{}) error {
		_, err := tx.Exec(ctx, `SELECT pg_sleep($1)`, 1)
		return err
	})
}

// registerStuck registers a handler that ignores its context on the first attempt of an invoice's event, for good.
func registerStuck(h *webhooks.Handlers, logger *slog.Logger) {
	subscriptions.Register(h, &subscriptions.Config{Logger: logger})
	var seen sync.Map
	webhooks.On(h, "*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *struct{}) error {
		_, err := tx.Exec(ctx, judge.Effect, ev.ID)
		if _, again := seen.LoadOrStore(ev.ID, true); !again && strings.HasPrefix(ev.Type, "invoice.") {
			select {}
		}
		return err
	})
}

// offer keeps each of so many senders delivering events until all are acknowledged. It returns how long each acknowledged
// delivery took, in order.
func (w *world) offer(p *process, senders int, events []*stripesim.Event) (took []time.Duration) {
	w.t.Helper()
	sender := delivery.NewSender(p.url(), hooktest.Secret, senders)
	defer sender.Close()
	var mu sync.Mutex
	var next atomic.Int64
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(events)) && w.ctx.Err() == nil; i = next.Add(1) - 1 {
				for first, acknowledged := time.Now(), false; !acknowledged && w.ctx.Err() == nil; {
					if time.Since(first) > waitLimit {
						w.t.Errorf("%s is not acknowledged within %s", events[i].ID, waitLimit)
						return
					}
					began := time.Now()
					reply, err := sender.Send(w.ctx, events[i].Body)
					if err != nil {
						w.t.Errorf("a delivery was not answered: %v", err)
						return
					}
					w.note(events[i], reply)
					if acknowledged = reply.OK(); acknowledged {
						mu.Lock()
						took = append(took, time.Since(began))
						mu.Unlock()
						continue
					}
					time.Sleep(50 * time.Millisecond) // more patient than a loop, less than Stripe
				}
			}
		})
	}
	wg.Wait()
	return took
}

// Far more deliveries arrive than can be processed, for a while. Those that are refused are retried. Every event takes
// effect once, and /readyz and /healthz are answered meanwhile.
func TestOverload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{})
	p := w.start(busy, w.url+"&pool_max_conns=4", "127.0.0.1:0")
	stop := p.health()
	began := time.Now()
	took := w.offer(p, 400, w.newEvents(times(900, 3000)))
	lasted := time.Since(began)
	answers, unready := stop()
	if unready > 0 {
		t.Errorf("%d of %d health requests were not answered 200", unready, answers)
	}
	w.only(200, 503)
	if w.statuses[http.StatusServiceUnavailable] == 0 {
		t.Error("nothing was refused, so the test shows nothing")
	}
	w.judgeEffects()
	late := slices.Clone(took[len(took)*2/3:])
	slices.Sort(late)
	addRow(t, "06d", "more deliveries than can be processed", fmt.Sprintf("400 at a time, %d a second, for %.0f s; handlers of 50 ms on a pool of 4, which can do 80 a second",
		int(float64(w.deliveries)/lasted.Seconds()), lasted.Seconds()),
		"%d a second took effect (%s), in the last third after %.1f s in the median and %.1f s at most; %d requests for `/readyz` and `/healthz` meanwhile, all 200; each event took effect exactly once",
		int(float64(len(took))/lasted.Seconds()), w.answered(), late[len(late)/2].Seconds(), late[len(late)-1].Seconds(), answers)
}

// judgeEffects is judge for a receiver without the projection.
func (w *world) judgeEffects() {
	w.t.Helper()
	const query = `SELECT (SELECT count(*) FROM effects) = $1::bigint AND (SELECT count(DISTINCT event_id) FROM effects) = $1::bigint
		AND (SELECT count(*) FROM stripe_webhook_events WHERE outcome = 'processed') = $1::bigint`
	if !pgtest.Scan[bool](w.t, w.pool(), query, len(w.acknowledged)) {
		w.t.Errorf("the effects are not those of the %d acknowledged events", len(w.acknowledged))
	}
}

// A slow type has more events in progress than the pool has connections. Events of other types are all answered 200.
func TestSlowType(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{})
	p := w.start(oneSlowType, w.url+"&pool_max_conns=4", "127.0.0.1:0")
	var slow, others []*stripesim.Event
	for _, ev := range w.newPaid(times(30, 300)) {
		if strings.HasPrefix(ev.Type, "invoice.") {
			slow = append(slow, ev)
		} else {
			others = append(others, ev)
		}
	}
	var refused atomic.Int64
	w.observe = func(ev *stripesim.Event, reply delivery.Reply) {
		if !strings.HasPrefix(ev.Type, "invoice.") && !reply.OK() {
			refused.Add(1)
			t.Errorf("an event of another type was answered %s", reply)
		}
	}
	first := others[0]
	w.offer(p, 1, []*stripesim.Event{first})
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.offer(p, 12, slow)
	}()
	w.offer(p, 4, others[1:])
	<-done
	w.judge()
	w.only(200, 503)
	addRow(t, "06e", "a slow type", fmt.Sprintf("12 invoices at a time, which take a second each, on a pool of 4, and %d events of other types meanwhile", len(others)),
		"other types: %d of %d answered 200; after Stripe's retries each event took effect exactly once", len(others)-int(refused.Load()), len(others))
}

// newPaid returns the events of n new subscriptions that are paid.
func (w *world) newPaid(n int) []*stripesim.Event {
	var events []*stripesim.Event
	w.sim.Do(func(account *stripesim.Account) {
		before := len(account.Events)
		for range n {
			sub := account.Subscribe(stripesim.VersionBasil)
			account.Wait(time.Second)
			sub.Activate()
		}
		events = account.Events[before:]
	})
	return events
}

// More handlers do not return than the pool has connections. Other events go on, and so do these when they are retried.
func TestStuckHandlers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{})
	p := w.start(stuckAtFirst, w.url+"&pool_max_conns=4", "127.0.0.1:0")
	var plan []stripesim.Delivery
	for _, ev := range w.newPaid(times(8, 40)) {
		plan = append(plan, stripesim.Delivery{Event: ev, Times: 1})
	}
	w.deliver(p.url(), 16, plan)
	w.judge()
	w.only(200, 500, 503)
	addRow(t, "06f", "handlers that never return", "the first attempt of each invoice's event, of 16 deliveries at a time, on a pool of 4", "%s", w.summary())
}
