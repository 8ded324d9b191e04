// Package demo shows stripeonce at work on this machine: a private PostgreSQL, the receiver, and a
// simulated Stripe that delivers every event more than once.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/internal/stripesim"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

const (
	database = "stripeonce"
	secret   = "whsec_demo_of_stripeonce"
	copies   = 3 // of each event at the same instant
)

// ErrCheck is returned when a check did not hold.
var ErrCheck = errors.New("a check did not hold")

// Config configures the demo.
type Config struct {
	Out io.Writer
	// Keep leaves the receiver up until the context ends.
	Keep bool
}

// Run runs the demo and returns ErrCheck if anything did not hold.
func Run(ctx context.Context, config Config) error {
	d := &demo{out: config.Out}
	defer d.stop()
	if err := d.start(ctx); err != nil {
		return err
	}
	err := d.show(ctx)
	if config.Keep && ctx.Err() == nil {
		d.printf("\nThe receiver stays up at %s, its database at\n  %s\nCtrl-C ends both.\n", d.url, d.cluster.URL(database))
		<-ctx.Done()
	}
	return err
}

type demo struct {
	out     io.Writer
	cluster *pglocal.Cluster
	pool    *pgxpool.Pool
	url     string
	stops   []func()
}

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }

func (d *demo) stop() {
	for i := len(d.stops) - 1; i >= 0; i-- {
		d.stops[i]()
	}
}

func (d *demo) start(ctx context.Context) error {
	d.printf("Starting a private PostgreSQL and the receiver …\n")
	var err error
	// Nothing else may write, so that what a duplicate writes can be counted.
	quiet := map[string]string{"autovacuum": "off", "wal_level": "minimal", "max_wal_senders": "0"}
	if d.cluster, err = pglocal.Start(ctx, pglocal.Config{Settings: quiet}); err != nil {
		return err
	}
	d.stops = append(d.stops, func() { _ = d.cluster.Stop() })
	if err := d.cluster.CreateDatabase(ctx, database); err != nil {
		return err
	}
	if err := migrate.Up(ctx, d.cluster.URL(database), io.Discard); err != nil {
		return err
	}
	if d.pool, err = pgxpool.New(ctx, d.cluster.URL(database)); err != nil {
		return err
	}
	d.stops = append(d.stops, d.pool.Close)
	return d.serve(ctx)
}

func (d *demo) serve(ctx context.Context) error {
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	receiver, err := webhooks.New(d.pool, h, &webhooks.Config{Secrets: []string{secret}, Logger: logger})
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.url = "http://" + listener.Addr().String() + server.WebhookPath
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.New(receiver, logger).Serve(ctx, listener)
	}()
	d.stops = append(d.stops, func() {
		cancel()
		<-done
	})
	return nil
}

// life is a dozen events of one subscription.
func life() *stripesim.Account {
	account := stripesim.New(1, time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC))
	sub := account.Subscribe(stripesim.VersionBasil)
	for _, step := range []func(){
		sub.Activate, sub.Renew, func() { sub.Upgrade(5) }, sub.FailPayment, sub.Activate,
		func() { sub.CancelAtPeriodEnd(true) }, sub.Delete,
	} {
		account.Wait(24 * time.Hour)
		step()
	}
	return account
}

func (d *demo) show(ctx context.Context) error {
	account := life()
	d.printf("\nThe life of one subscription: %d events, each delivered %d times at the same instant.\n\n", len(account.Events), copies)
	sender := delivery.NewSender(d.url, secret, copies)
	defer sender.Close()
	for _, ev := range account.Events {
		outcomes, err := deliver(ctx, sender, ev)
		if err != nil {
			return err
		}
		d.printf("  %-31s %v\n", ev.Type, outcomes)
	}
	d.printf("\nThen everything once more, while PostgreSQL counts what is written.\n")
	before, err := d.written(ctx)
	if err != nil {
		return err
	}
	for _, ev := range account.Events {
		if _, err := deliver(ctx, sender, ev); err != nil {
			return err
		}
	}
	after, err := d.written(ctx)
	if err != nil {
		return err
	}
	return d.check(ctx, account, before, after)
}

// deliver posts copies of an event at the same instant and returns their outcomes.
func deliver(ctx context.Context, sender *delivery.Sender, ev *stripesim.Event) ([]webhooks.Outcome, error) {
	var wg sync.WaitGroup
	outcomes := make([]webhooks.Outcome, copies)
	errs := make([]error, copies)
	for i := range copies {
		wg.Go(func() {
			reply, err := sender.Send(ctx, ev.Body)
			if outcomes[i], errs[i] = reply.Outcome(), err; err == nil && !reply.OK() {
				errs[i] = fmt.Errorf("%s was answered %s", ev.ID, reply)
			}
		})
	}
	wg.Wait()
	return outcomes, errors.Join(errs...)
}

// written is how far PostgreSQL has come in transaction ids and in its write-ahead log.
type written struct {
	NextXID int64
	WAL     int64
}

func (d *demo) written(ctx context.Context) (w written, err error) {
	err = d.pool.QueryRow(ctx, `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
		(pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint`).Scan(&w.NextXID, &w.WAL)
	return w, err
}

func (d *demo) check(ctx context.Context, account *stripesim.Account, before, after written) error {
	truth := account.Subscriptions[0]
	var events, rows int
	err := d.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM stripe_webhook_events), (SELECT count(*) FROM subscriptions)`).
		Scan(&events, &rows)
	if err != nil {
		return err
	}
	row, err := subscriptions.New(d.pool).Get(ctx, truth.ID())
	if err != nil {
		return err
	}
	d.printf("\nWhat PostgreSQL holds now:\n")
	d.printf("  subscription %s  customer %s  status %s  price %s  quantity %d  items %d\n\n",
		row.ID, row.CustomerID, row.Status, row.PriceID, *row.Quantity, len(row.Items))
	ok := true
	for _, check := range []struct {
		what string
		held bool
		seen any
	}{
		{fmt.Sprintf("each of the %d events is in the ledger once", len(account.Events)), events == len(account.Events), events},
		{"there is one subscription", rows == 1, rows},
		{"its status is Stripe's, " + truth.Status(), string(row.Status) == truth.Status(), row.Status},
		{"duplicates took no transaction id", before.NextXID == after.NextXID, after.NextXID - before.NextXID},
		{"duplicates wrote nothing to the write-ahead log", before.WAL == after.WAL, after.WAL - before.WAL},
	} {
		mark := "ok  "
		if !check.held {
			ok, mark = false, "FAIL"
		}
		d.printf("  %s  %s (%v)\n", mark, check.what, check.seen)
	}
	if !ok {
		return ErrCheck
	}
	return nil
}
