package river

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// outbox records the e-mails that are sent, by their idempotency keys.
type outbox struct {
	mu   sync.Mutex
	sent map[string]int
	mail chan string
}

func newOutbox() *outbox { return &outbox{sent: map[string]int{}, mail: make(chan string, 100)} }

func (o *outbox) Send(_ context.Context, _, key string) error {
	o.mu.Lock()
	o.sent[key]++
	o.mu.Unlock()
	o.mail <- key
	return nil
}

// await waits until n more e-mails are sent.
func (o *outbox) await(t *testing.T, n int) {
	t.Helper()
	for range n {
		pgtest.Receive(t, "another e-mail is sent", o.mail)
	}
}

func (o *outbox) counts() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.sent)
}

// start runs the application with its workers on a database. stop stops the workers and closes the pool.
func start(t *testing.T, pool *pgxpool.Pool, out *outbox) (stripe *webhookstest.Stripe, stop func()) {
	t.Helper()
	workers := river.NewWorkers()
	river.AddWorker(workers, &Worker{Mailer: out})
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}}, Workers: workers, FetchCooldown: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := jobs.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = jobs.Stop(context.WithoutCancel(t.Context()))
		pgtest.Close(t, pool)
	})
	t.Cleanup(stop)
	h := webhooks.NewHandlers()
	Register(h, jobs)
	return exampletest.App(t, pool, h), stop
}

func migrate(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil); err != nil {
		t.Fatal(err)
	}
}

// lives returns two events of each of the customers from one number to another.
func lives(from, to int) (events []webhookstest.Event) {
	created := time.Now().Add(-time.Hour)
	for n := from; n < to; n++ {
		sub := webhookstest.Subscription{ID: fmt.Sprint("sub_", n), CustomerID: fmt.Sprint("cus_", n)}
		events = append(events, webhookstest.Event{ID: fmt.Sprint("evt_created_", n), Type: "customer.subscription.created", Created: created, Object: sub})
		sub.Metadata = map[string]string{"seen": "yes"}
		events = append(events, webhookstest.Event{ID: fmt.Sprint("evt_updated_", n), Type: "customer.subscription.updated", Created: created.Add(time.Minute), Object: sub})
	}
	return events
}

func TestWelcomeIsSentOnce(t *testing.T) {
	pool := exampletest.Database(t, "")
	migrate(t, pool)
	out := newOutbox()
	stripe, _ := start(t, pool, out)
	const customers = 10
	stripe.Storm(lives(0, customers)...)
	out.await(t, customers)
	if others := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM river_job`) - customers; others != 0 {
		t.Errorf("there are %d jobs more", others)
	}
	for key, times := range out.counts() {
		if times != 1 {
			t.Errorf("%q was sent %d times", key, times)
		}
	}
}

// The database is restored from a backup, and the events since then are applied again. Their jobs run again, with the idempotency keys
// of the first time, by which the mailer recognizes them. Those of the time before the backup do not.
func TestRestoreRepeatsKeys(t *testing.T) {
	databaseURL := pgtest.NewURL(t)
	pool := pgtest.Connect(t, databaseURL)
	migrate(t, pool)
	out := newOutbox()
	stripe, stop := start(t, pool, out)
	const before, all = 5, 10
	stripe.Storm(lives(0, before)...)
	out.await(t, before)
	stop()
	backup := pgtest.CopyURL(t, databaseURL)
	stripe, stop = start(t, pgtest.Connect(t, databaseURL), out)
	stripe.Storm(lives(before, all)...)
	out.await(t, all-before)
	stop()

	stripe, _ = start(t, pgtest.Connect(t, backup), out)
	stripe.Storm(lives(0, all)...) // as reconcile would
	out.await(t, all-before)
	got := out.counts()
	for n := range all {
		want := 1
		if n >= before {
			want = 2
		}
		if key := fmt.Sprint("welcome sub_", n); got[key] != want {
			t.Errorf("%q was sent %d times, want %d", key, got[key], want)
		}
	}
	if len(got) != all {
		t.Errorf("the keys are %v", got)
	}
}
