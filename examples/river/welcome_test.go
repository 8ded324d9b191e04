package river

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// outbox records the e-mails that are sent.
type outbox struct {
	mu   sync.Mutex
	sent map[string]int
	mail chan string
}

func (o *outbox) Send(_ context.Context, customerID, _ string) error {
	o.mu.Lock()
	o.sent[customerID]++
	o.mu.Unlock()
	o.mail <- customerID
	return nil
}

func TestWelcomeIsSentOnce(t *testing.T) {
	ctx := t.Context()
	pool := exampletest.Database(t, "")
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		t.Fatal(err)
	}
	out := &outbox{sent: map[string]int{}, mail: make(chan string, 100)}
	workers := river.NewWorkers()
	river.AddWorker(workers, &Worker{Mailer: out})
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}}, Workers: workers, FetchCooldown: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := jobs.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = jobs.Stop(context.WithoutCancel(ctx)) }()
	h := webhooks.NewHandlers()
	Register(h, jobs)
	stripe := exampletest.App(t, pool, h)
	const customers = 10
	var events []webhookstest.Event
	created := time.Now().Add(-time.Hour)
	for n := range customers {
		sub := webhookstest.Subscription{ID: fmt.Sprint("sub_", n), CustomerID: fmt.Sprint("cus_", n)}
		events = append(events, webhookstest.Event{Type: "customer.subscription.created", Created: created, Object: sub})
		sub.Metadata = map[string]string{"seen": "yes"}
		events = append(events, webhookstest.Event{Type: "customer.subscription.updated", Created: created.Add(time.Minute), Object: sub})
	}
	stripe.Storm(events...)
	for range customers {
		select {
		case <-out.mail:
		case <-time.After(time.Minute):
			t.Fatalf("only these mails came: %v", out.sent)
		}
	}
	var others int
	if err := pool.QueryRow(ctx, `SELECT count(*)::int - $1 FROM river_job`, customers).Scan(&others); err != nil || others != 0 {
		t.Errorf("there are %d jobs more, %v", others, err)
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	for customer, times := range out.sent {
		if times != 1 {
			t.Errorf("%s was welcomed %d times", customer, times)
		}
	}
}
