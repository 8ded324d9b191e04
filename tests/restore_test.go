package tests

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// postOffice stands for a service outside the database, such as one that sends e-mails.
type postOffice struct {
	mu       sync.Mutex
	requests map[string]int // by the event's id, which is the idempotency key
}

func (p *postOffice) send(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests[key]++
}

// restored is a host on one of the two databases: before and after the restore.
func restored(t *testing.T, pool *pgxpool.Pool, apiURL string, mails *postOffice) *outage {
	t.Helper()
	o := &outage{apiURL: apiURL}
	h := webhooks.NewHandlers()
	o.projection = subscriptions.Register(h, nil)
	webhooks.On(h, "*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *map[string]any) error {
		mails.send(ev.ID)
		_, err := tx.Exec(ctx, judge.Effect, ev.ID)
		return err
	})
	o.Host = hooktest.On(t, pool, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", apiURL })
	return o
}

// A database is restored from a backup of five days ago. Its ledger is behind the world: Stripe has delivered everything, and sends
// nothing again. Reconcile applies what came after the backup. Within the database each event then has its effect once. What handlers
// did outside of it happens again for exactly these events.
func TestRestore(t *testing.T) {
	t.Parallel()
	account := stripesim.New(7, time.Now().Add(-10*24*time.Hour))
	server := httptest.NewServer(stripesim.NewAPI(account))
	t.Cleanup(server.Close)
	mails := &postOffice{requests: map[string]int{}}
	databaseURL := pgtest.NewURL(t)
	before := restored(t, pgtest.Connect(t, databaseURL), server.URL, mails)
	pgtest.Exec(t, before.Pool, judge.EffectsTable)
	for range 15 {
		account.Subscribe(stripesim.VersionBasil)
	}
	live := func(days int) {
		from := len(account.Events)
		for hour := range days * 24 {
			account.Wait(time.Hour)
			for i, sub := range account.Subscriptions {
				if (i+hour)%29 == 0 {
					sub.Step((i*13 + hour*31) % 100)
				}
			}
		}
		for _, ev := range account.Events[from:] {
			before.Expect(t, ev.Body, 200, webhooks.OutcomeProcessed)
		}
	}
	for _, ev := range account.Events {
		before.Expect(t, ev.Body, 200, webhooks.OutcomeProcessed)
	}
	live(5)
	backedUp := len(account.Events)
	pgtest.Close(t, before.Pool)
	backup := pgtest.CopyURL(t, databaseURL)
	before = restored(t, pgtest.Connect(t, databaseURL), server.URL, mails)
	live(4)
	lost := len(account.Events) - backedUp
	if lost < 50 {
		t.Fatalf("only %d events came after the backup", lost)
	}

	after := restored(t, pgtest.Connect(t, backup), server.URL, mails)
	if code, out := after.run(t, "verify"); code != 1 {
		t.Errorf("after the restore verify exits %d: %s", code, out)
	}
	if code, out := after.run(t, "reconcile", "--since", "6d"); code != 0 || !strings.Contains(out, " missing, ") {
		t.Errorf("reconcile exits %d: %s", code, out)
	}
	for _, command := range []string{"verify", "failures"} {
		if code, out := after.run(t, command); code != 0 {
			t.Errorf("%s exits %d: %s", command, code, out)
		}
	}
	findings, err := judge.Judge(t.Context(), after.Pool, account)
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range findings {
		t.Error(finding)
	}
	for i, ev := range account.Events {
		want := 1
		if i >= backedUp {
			want = 2
		}
		if n := mails.requests[ev.ID]; n != want {
			t.Errorf("outside the database event %d of %d (%d before the backup) happened %d times, want %d", i, len(account.Events), backedUp, n, want)
		}
	}
}
