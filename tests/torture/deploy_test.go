package torture

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// The kinds of receivers before and after a deploy that adds a handler. A receiver of live events ignores all events here,
// like a receiver without a handler.
const (
	noHandler         = "stripeonce, without a handler"
	otherMode         = "stripeonce, for live events"
	slowHandler       = "stripeonce, with a handler that takes a while"
	projectionAlone   = "stripeonce, with the projection, each event in its own transaction"
	projectionInBatch = "stripeonce, with the projection, events in batches"
)

// registerSlow registers a slow version of registerStandard's effect, so that a replica without the handler has time to
// record the event as ignored.
func registerSlow(h *webhooks.Handlers, logger *slog.Logger) {
	subscriptions.Register(h, &subscriptions.Config{Logger: logger})
	webhooks.On(h, "*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *struct{}) error {
		_, err := tx.Exec(ctx, `WITH slow AS (SELECT pg_sleep(0.004)) INSERT INTO effects SELECT $1 FROM slow`, ev.ID)
		return err
	})
}

func registerProjection(h *webhooks.Handlers, logger *slog.Logger) {
	subscriptions.Register(h, &subscriptions.Config{Logger: logger})
}

// effectOfProjection makes each write of the projection an effect that is not idempotent, and that takes a while.
const effectOfProjection = `
CREATE FUNCTION effect_of_projection() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	PERFORM pg_sleep(0.004);
	INSERT INTO effects (event_id) VALUES (NEW.last_event_id);
	RETURN NULL;
END $$;
CREATE TRIGGER effect_of_projection AFTER INSERT OR UPDATE ON subscriptions FOR EACH ROW EXECUTE FUNCTION effect_of_projection()`

// deploy replaces the replicas of a receiver one by one, and records the responses of each kind.
type deploy struct {
	*world
	balancer *balancer
	running  []*process
	front    string // the URL of all replicas
	replaced int

	seen struct {
		sync.Mutex
		events  map[string]*stripesim.Event // all delivered events
		reached map[string]bool             // events that were delivered to a replica with the handler
		applied map[string]bool             // events that such a replica acknowledged
	}
}

const replicas = 4

// newDeploy starts replicas without a handler.
func newDeploy(w *world) *deploy {
	w.t.Helper()
	d := &deploy{world: w, balancer: &balancer{list: make([]*backend, replicas)}, running: make([]*process, replicas)}
	d.seen.events, d.seen.reached, d.seen.applied = map[string]*stripesim.Event{}, map[string]bool{}, map[string]bool{}
	w.observe = d.record
	for i := range d.running {
		d.running[i] = w.start(without(i), w.url, "127.0.0.1:0")
		d.balancer.set(i, d.running[i])
	}
	front := httptest.NewServer(d.balancer)
	w.t.Cleanup(front.Close)
	d.front = front.URL + server.WebhookPath
	return d
}

// without returns the kind of a replica before the deploy. It alternates between the two kinds that ignore events.
func without(i int) string { return []string{noHandler, otherMode}[i%2] }

// record records a response by the receiver's kind, and checks that the outcome fits the kind.
func (d *deploy) record(ev *stripesim.Event, reply delivery.Reply) {
	d.seen.Lock()
	defer d.seen.Unlock()
	d.seen.events[ev.ID] = ev
	kind, outcome := reply.Header.Get(kindHeader), reply.Outcome()
	withHandler := kind != noHandler && kind != otherMode
	if withHandler {
		d.seen.reached[ev.ID] = true
		d.seen.applied[ev.ID] = d.seen.applied[ev.ID] || reply.OK()
	}
	if reply.OK() && outcome != webhooks.OutcomeDuplicate && withHandler == (outcome == webhooks.OutcomeIgnored) {
		d.t.Errorf("a receiver of the kind %q answers %s", kind, reply)
	}
}

// rollOut replaces the replicas one by one, while waves of deliveries arrive at all of them. kind returns the kind of the
// nth replica.
func (d *deploy) rollOut(kind func(n int) string, wave func(int) []stripesim.Delivery) {
	d.t.Helper()
	d.deliverWavesWhile(d.front, wave, replicas, within(100*time.Millisecond, 400*time.Millisecond), func(i int) {
		d.balancer.takeOut(i)
		d.running[i].terminate()
		d.running[i] = d.start(kind(i), d.url, "127.0.0.1:0")
		d.balancer.set(i, d.running[i])
		d.replaced++
	})
}

// judgeDeploy checks the result when all replicas have the handler. An event that one of them acknowledged took effect
// once. An event that only the others acknowledged is ignored until it is delivered again.
func (d *deploy) judgeDeploy() (stillIgnored int) {
	d.t.Helper()
	applied, unseen := d.acknowledgedBy()
	var ids []string
	for _, ev := range unseen {
		ids = append(ids, ev.ID)
	}
	findings, err := judge.Acknowledged(context.Background(), d.pool(), applied)
	d.complain(findings, err)
	findings, err = judge.StillIgnored(context.Background(), d.pool(), ids)
	d.complain(findings, err)
	d.deliver(d.front, 12, plan(unseen))
	findings, err = judge.Acknowledged(context.Background(), d.pool(), ids)
	d.complain(findings, err)
	return len(unseen)
}

// acknowledgedBy returns the events that a replica with the handler acknowledged, and the events that no such replica
// received.
func (d *deploy) acknowledgedBy() (applied []string, unseen []*stripesim.Event) {
	d.seen.Lock()
	defer d.seen.Unlock()
	for id, ev := range d.seen.events {
		switch {
		case d.seen.applied[id]:
			applied = append(applied, id)
		case !d.seen.reached[id]:
			unseen = append(unseen, ev)
		}
	}
	return applied, unseen
}

// storming plans a storm of deliveries, each at all replicas at the same instant.
func (w *world) storming(subscriptions int) []stripesim.Delivery {
	list := w.live(max(1, subscriptions/4))
	for i := range list {
		list[i].Times = max(list[i].Times, replicas)
	}
	return list
}

// created plans one event per subscription, at all replicas at the same instant. Every eighth event is delivered again.
func (w *world) created(subscriptions int) []stripesim.Delivery {
	var list []stripesim.Delivery
	for i, ev := range w.newEvents(2 * subscriptions) {
		list = append(list, stripesim.Delivery{Event: ev, Times: replicas})
		if i%8 == 7 {
			list = append(list, stripesim.Delivery{Event: list[len(list)-4].Event, Times: 1})
		}
	}
	return list
}

// most returns the largest number of events that were recorded in one transaction.
func (w *world) most() int {
	return pgtest.Scan[int](w.t, w.pool(), `SELECT max(n)::int FROM (SELECT count(*) AS n FROM stripe_webhook_events GROUP BY xmin::text) AS by_transaction`)
}

// A deploy adds a handler, replica by replica, while duplicates of the same events arrive at all replicas at the same
// instant. Replicas without the handler record events as ignored. An event that a replica with the handler acknowledges has
// taken effect.
func TestDeployAddsAHandler(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		order, kind, name, schema string
		wave                      func(*world, int) []stripesim.Delivery
	}{
		{"1", slowHandler, "a handler", "", (*world).storming},
		{"2", projectionAlone, "the projection, each event in its own transaction", effectOfProjection, (*world).created},
		{"3", projectionInBatch, "the projection, events in batches", effectOfProjection, (*world).created},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pglocal.Config{})
			pgtest.Exec(t, w.pool(), c.schema)
			d := newDeploy(w)
			wave := func(subscriptions int) []stripesim.Delivery { return c.wave(w, subscriptions) }
			d.deliver(d.front, 12, wave(20)) // before the deploy
			ignored := 0
			for round := range times(1, 8) {
				if round > 0 {
					d.rollOut(without, wave) // roll back
				}
				d.rollOut(func(int) string { return c.kind }, wave)
				ignored += d.judgeDeploy()
			}
			if ignored == 0 {
				t.Error("every event came to a replica with the handler")
			}
			w.everything(d.front)
			w.judge()
			if batch := w.most() > 1; batch != (c.kind == projectionInBatch) {
				t.Errorf("at most %d events were recorded in one transaction", w.most())
			}
			w.only(200, 503)
			addRow(t, "08c"+c.order, "a rolling deploy that adds "+c.name,
				fmt.Sprintf("%d times one of %d replicas replaced, back and forth, under deliveries of the same events to all of them at the same instant", d.replaced, replicas),
				"%d events that only replicas without it had seen stayed ignored until they were redelivered; %s", ignored, w.summary())
		})
	}
}
