// Package demo demonstrates stripeonce on this machine: a private PostgreSQL, the receiver, and a simulated Stripe that
// delivers out of order, with duplicates, and retries.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/stripesim"
)

// The defaults of Config.
const (
	DefaultSeed          = 1
	DefaultSubscriptions = 400
	DefaultStorm         = "default"
)

const (
	concurrency = 24  // entries of the plan in flight
	resent      = 300 // events that are redelivered while PostgreSQL's writes are counted
)

// ErrCheck reports that a check failed.
var ErrCheck = errors.New("a check failed")

// ErrDatabase reports that the private PostgreSQL did not start.
var ErrDatabase = errors.New("a private PostgreSQL could not be started")

// Config configures the demo.
type Config struct {
	Out io.Writer
	// Live shows progress by rewriting a line: for terminals.
	Live bool
	// Keep keeps the receiver running until the context ends.
	Keep bool
	// Seed is the random seed of the simulated Stripe.
	Seed uint64
	// Subscriptions is the number of subscriptions in one wave.
	Subscriptions int
	// For is how long wave after wave is delivered, at least two. 0: one wave.
	For time.Duration
	// Storm is mild, default or wild.
	Storm string
	// Postgres is the major version of a PostgreSQL to download, see pglocal.Config. Empty: the installed one.
	Postgres string
	// Thin says in which form events are delivered. With thin events, a part of the subscriptions is of connected accounts.
	Thin stripesim.Thin
	// Receiver is the name of a receiver of package wrong. Empty: stripeonce.
	Receiver string
}

// Run runs the demo and returns ErrCheck if a check failed.
func Run(ctx context.Context, config Config) error {
	storm, err := stripesim.NamedStorm(config.Storm)
	if err != nil {
		return err
	}
	storm.Thin = config.Thin
	d := &demo{Config: config, storm: storm}
	epoch := stripesim.Epoch
	if config.Keep {
		epoch = epoch.AddDate(0, 0, -7*keptWeeks)
	}
	d.account = stripesim.New(config.Seed, epoch)
	if config.Thin != stripesim.SnapshotOnly {
		d.account.Connected = []string{"acct_1DemoConnectedA", "acct_1DemoConnectedB"}
	}
	d.printf("Starting a private PostgreSQL and the receiver …\n")
	if d.host, err = startHost(ctx, &d.Config, d.account); err != nil {
		return err
	}
	defer d.host.stop()
	err = d.run(ctx)
	if config.Keep && ctx.Err() == nil {
		err = errors.Join(err, d.keep(ctx))
	}
	return err
}

type demo struct {
	Config
	storm   stripesim.Storm
	account *stripesim.Account
	host    *host
	shape   stripesim.Shape
	took    time.Duration
	history history
}

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.Out, format, args...) }

func (d *demo) run(ctx context.Context) error {
	sender := delivery.NewSender(d.host.url, secret, 4*concurrency)
	defer sender.Close()
	deliverer := &stripesim.Deliverer{Sender: sender, Concurrency: concurrency, Observe: d.history.record}
	if err := d.deliver(ctx, deliverer); err != nil {
		return err
	}
	d.printHistory()
	d.printTally(deliverer.Tally())
	wrote, err := d.resend(ctx, sender)
	if err != nil {
		return err
	}
	findings, err := judge.Judge(ctx, d.host.pool, d.account)
	if err != nil {
		return err
	}
	if n := deliverer.Tally().GivenUp; n > 0 {
		findings = append(findings, judge.Finding{Check: checkAnswered, What: "deliveries given up", Want: 0, Got: n})
	}
	return d.report(append(findings, wrote...))
}

// deliver simulates waves of subscriptions and delivers their events until the time is over.
func (d *demo) deliver(ctx context.Context, deliverer *stripesim.Deliverer) error {
	start := time.Now()
	atLeast := uint64(1)
	if d.For > 0 {
		atLeast = 2
	}
	for wave := uint64(0); wave < atLeast || time.Since(start) < d.For; wave++ {
		events := d.account.Live(stripesim.Life{Subscriptions: d.Subscriptions, Bursts: true})
		plan := d.storm.Plan(d.Seed+wave, events)
		d.shape = d.shape.Add(stripesim.Measure(plan))
		if wave == 0 {
			d.history.choose(d.account)
			d.printPlan()
		}
		if err := d.watch(ctx, deliverer, plan); err != nil {
			return err
		}
	}
	d.took = time.Since(start)
	return nil
}

// resend redelivers events while nothing else happens, and checks that PostgreSQL writes nothing.
func (d *demo) resend(ctx context.Context, sender *delivery.Sender) ([]judge.Finding, error) {
	before, err := pglocal.ReadWritten(ctx, d.host.pool)
	if err != nil {
		return nil, err
	}
	again := &stripesim.Deliverer{Sender: sender, Concurrency: concurrency}
	var plan []stripesim.Delivery
	for _, ev := range d.account.Events[:min(resent, len(d.account.Events))] {
		plan = append(plan, stripesim.Delivery{Event: ev, Times: 2})
	}
	if err := again.Deliver(ctx, plan); err != nil {
		return nil, err
	}
	after, err := pglocal.ReadWritten(ctx, d.host.pool)
	if err != nil {
		return nil, err
	}
	var findings []judge.Finding
	wrote := after.Since(before)
	if n := wrote.XID; n != 0 {
		findings = append(findings, judge.Finding{Check: checkWrites, What: "transaction ids taken by duplicates", Want: 0, Got: n})
	}
	if n := wrote.WAL; n != 0 {
		findings = append(findings, judge.Finding{Check: checkWrites, What: "bytes that duplicates added to the write-ahead log", Want: 0, Got: n})
	}
	return findings, nil
}
