package operations_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/erasure"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
)

// Deliveries of new and known objects to two receivers, while customers are erased, come before the erasure, and are erased, or after
// it, and are left out. In the first round no receiver knows of an erasure.
func TestEraseWhileEventsArrive(t *testing.T) {
	t.Parallel()
	e := newErasable(t, 3)
	hosts := []*hooktest.Host{e.Host, e.receiver(t, pgtest.Connect(t, e.DatabaseURL))}
	e.deliver(t, e.account.Events)
	rounds := 3
	if pgtest.Quick() {
		rounds = 1
	}
	for range rounds {
		known := len(e.account.Events)
		e.live()
		e.live()
		events := slices.Clone(e.account.Events[known:])
		rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		_, _, texts := e.belongings(t)
		feed := make(chan *stripesim.Event)
		var deliveries sync.WaitGroup
		for worker := range 8 {
			deliveries.Go(func() {
				for ev := range feed {
					if reply := hosts[worker%2].Send(t, ev.Body); reply.Status != 200 {
						t.Errorf("%s: %s", ev.Type, reply)
					}
				}
			})
		}
		erased := make(chan error, 1)
		go func() {
			_, err := e.operator("request 4711").Erase(t.Context(), operations.EraseOptions{Customer: e.customer.ID()})
			erased <- err
		}()
		for i, ev := range events {
			feed <- ev
			if i == len(events)/2 { // the rest comes after the erasure
				if err := pgtest.Receive(t, "the customer is erased", erased); err != nil {
					t.Error(err)
				}
				e.changes.Store(0)
			}
		}
		close(feed)
		deliveries.Wait()
		if n := e.changes.Load(); n != 0 {
			t.Errorf("after the erasure OnChange was called %d times with the customer's data", n)
		}
		e.erase(t) // a refund that came before its charge, after the erasure
		e.expectNothing(t, texts)
		e.account.Wait(time.Minute)
		e.customer = e.account.AddCustomer(stripesim.VersionBasil)
		e.live()
		e.deliver(t, e.account.Events[known:])
	}
	if !slices.ContainsFunc(e.dump(t), func(row string) bool { return strings.Contains(row, "Wilhelmina") }) {
		t.Error("no data is stored of the customer who was not erased: the test shows nothing")
	}
}

// What a delivery in progress stores that began before the erasure is erased, too: here of an object that nobody knows yet.
func TestEraseWaitsForDeliveries(t *testing.T) {
	t.Parallel()
	e := newErasable(t, 1)
	pgtest.Exec(t, e.Pool, `INSERT INTO stripe_erasures (id_hash, livemode, customer_hash, erased_at) VALUES ('', FALSE, '', now() - INTERVAL '1 hour')`)
	e.deliver(t, e.account.Events)
	held, resume := make(chan struct{}), make(chan struct{})
	e.hold = func() {
		close(held)
		<-resume
	}
	known := len(e.account.Events)
	e.customer.AddInvoice(1).SetMetadata("for", "Wilhelmina")
	_, _, texts := e.belongings(t)
	delivered := make(chan int, 1)
	go func() {
		reply, err := e.Sender.Send(context.Background(), e.account.Events[known].Body)
		if err != nil {
			t.Error(err)
		}
		delivered <- reply.Status
	}()
	pgtest.Receive(t, "OnChange is called", held)
	roundTrips := &pglocal.RoundTrips{}
	pool := pgtest.ConnectBy(t, e.DatabaseURL, roundTrips.Dial)
	erased := make(chan error, 1)
	go func() {
		o := operations.New(pool, &operations.Config{Reason: "request 4711"})
		_, err := o.Erase(t.Context(), operations.EraseOptions{Customer: e.customer.ID(), Waiting: func(time.Duration) { t.Error("it waits for receivers") }})
		erased <- err
	}()
	pgtest.AwaitSQL(t, e.Pool, "the erasure looks for transactions in progress", `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '-- name: ErasureTransactions%' AND pid <> pg_backend_pid())`)
	before := roundTrips.Count()
	pgtest.Await(t, "the erasure goes on looking", func() bool { return roundTrips.Count() > before+20 || len(erased) > 0 })
	if len(erased) > 0 {
		t.Error("the erasure does not wait for the delivery in progress")
	}
	close(resume)
	if status := pgtest.Receive(t, "the delivery is answered", delivered); status != 200 {
		t.Errorf("the delivery is answered %d", status)
	}
	if err := pgtest.Receive(t, "the customer is erased", erased); err != nil {
		t.Error(err)
	}
	e.expectNothing(t, texts)
}

// The first erasure in a database removes nothing until no receiver relies any more on that there are none. The next ones need not
// wait.
func TestFirstEraseWaitsForReceivers(t *testing.T) {
	t.Parallel()
	e := newErasable(t, 1)
	e.deliver(t, e.account.Events)
	known, waits := len(e.account.Events), 0
	e.customer.AddInvoice(1).SetMetadata("for", "Wilhelmina")
	_, _, texts := e.belongings(t)
	options := operations.EraseOptions{Customer: e.customer.ID(), Waiting: func(wait time.Duration) {
		waits++
		if wait <= erasure.Lease {
			t.Errorf("it waits %v", wait)
		}
		noted, rows := e.Count(t, "stripe_erasures WHERE customer_hash = sha256('"+e.customer.ID()+"')"), e.Count(t, "stripe_invoices WHERE customer_id = '"+e.customer.ID()+"'")
		if noted < 20 || rows == 0 {
			t.Errorf("before it waits, %d ids are noted, and %d invoices are left", noted, rows)
		}
		e.deliver(t, e.account.Events[known:]) // which may rely on it
	}}
	if _, err := e.operator("request 4711").Erase(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	e.expectNothing(t, texts)
	options.Customer = e.account.Customers[0].ID()
	if _, err := e.operator("request 4712").Erase(t.Context(), options); err != nil || waits != 1 {
		t.Errorf("two erasures wait %d times for receivers, %v", waits, err)
	}
}
