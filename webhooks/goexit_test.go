package webhooks_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// A hook of the pool that ends the goroutine keeps no place: the receiver can shut down. The event has no function, so it
// is worked on where it is delivered.
func TestHookGoexits(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(pgtest.NewURL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
		runtime.Goexit()
		return true, nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	r, err := webhooks.New(pool, webhooks.NewHandlers(), &webhooks.Config{Secrets: []string{"whsec_test"}, AssumeMigrated: true})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = r.Apply(t.Context(), &webhooks.Event{ID: "evt_1", Type: "test.event"}) })
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if n := r.Stats().InFlight; n != 0 {
		t.Fatalf("%d deliveries are in flight", n)
	}
	if err := r.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
