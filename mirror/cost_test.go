package mirror_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// The number of round trips to PostgreSQL, on a connection with prepared statements: as for subscriptions.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	writes := func(ctx context.Context, tx pgx.Tx, c mirror.Change) error {
		_, err := tx.Exec(ctx, `SELECT deleted FROM stripe_objects WHERE id = $1`, c.After.ID)
		return err
	}
	for name, c := range map[string]struct {
		onChange                    func(context.Context, pgx.Tx, mirror.Change) error
		created, updated, duplicate int64
	}{
		"the mirror alone":          {nil, 2, 2, 1},
		"with OnChange's statement": {writes, 3, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count := &pglocal.RoundTrips{}
			h := webhooks.NewHandlers()
			mirror.Register(h, &mirror.Config{Types: mirror.Billing, OnChange: c.onChange})
			host := hooktest.On(t, pgtest.ConnectBy(t, pgtest.NewURL(t)+"&pool_max_conns=1", count.Dial), h, nil)
			deliver := func(id, kind string, second int64, object string) int64 {
				before := count.Count()
				if reply := host.Send(t, event(id, kind, second, object, "")); !reply.OK() {
					t.Error(reply)
				}
				pgtest.AwaitEqual(t, "the number of deliveries in flight", 0, func() int { return host.Receiver.Stats().InFlight })
				pgtest.AwaitEqual(t, "the number of connections in use", 0, func() int32 { return host.Pool.Stat().AcquiredConns() })
				return count.Count() - before
			}
			all := func(n int) [3]int64 {
				in := fmt.Sprintf("in_%d", n)
				return [3]int64{
					deliver("evt_created_"+in, "invoice.created", 1, invoice(in, "draft", "")), deliver("evt_paid_"+in, "invoice.paid", 2, invoice(in, "paid", "")),
					deliver("evt_paid_"+in, "invoice.paid", 2, invoice(in, "paid", "")),
				}
			}
			all(1) // prepares the statements
			if got, want := all(2), [3]int64{c.created, c.updated, c.duplicate}; got != want {
				t.Errorf("round trips of a new invoice, an update, a duplicate: %d, want %d", got, want)
			}
		})
	}
}

// An event takes one transaction id and not much more write-ahead log than the size of its object, a duplicate writes nothing,
// and an update leaves the indexes alone.
func TestFootprint(t *testing.T) {
	t.Parallel()
	settings := pglocal.Quiet()
	settings["full_page_writes"] = "off"
	url := pgtest.NewCluster(t, pglocal.Config{Disposable: true, Settings: settings}).URL("postgres")
	if err := migrate.Up(t.Context(), url, io.Discard); err != nil {
		t.Fatal(err)
	}
	pool := pgtest.Connect(t, url)
	h := webhooks.NewHandlers()
	mirror.Register(h, &mirror.Config{Types: billed, Logger: hooktest.NoLog()})
	host := hooktest.On(t, pool, h, nil)
	account := stripesim.New(1, stripesim.Epoch)
	account.Billing = true
	account.Live(stripesim.Life{Subscriptions: 40})
	look := func() pglocal.Written {
		written, err := pglocal.ReadWritten(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		return written
	}
	var events [][]byte
	var objects int64
	const extending = 100 // events that are not measured, since they extend the files
	for _, e := range account.Events {
		ev, err := webhooks.ParseEvent(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		if !host.Receiver.Handles(ev) {
			continue
		}
		if events = append(events, e.Body); len(events) > extending {
			objects += int64(len(ev.Object))
		}
	}
	send := func(list [][]byte) pglocal.Written {
		before := look()
		for _, body := range list {
			if reply := host.Send(t, body); !reply.OK() {
				t.Error(reply)
			}
		}
		return look().Since(before)
	}
	send(events[:extending])
	n := int64(len(events) - extending)
	wrote := send(events[extending:])
	t.Logf("an event: %d bytes of WAL, %d of its object", wrote.WAL/n, objects/n)
	if n < 200 || wrote.XID != n || wrote.WAL > 2*objects {
		t.Errorf("%d events wrote %+v, for objects of %d bytes", n, wrote, objects)
	}
	if wrote := send(events); wrote != (pglocal.Written{}) {
		t.Errorf("duplicates wrote %+v", wrote)
	}
}
