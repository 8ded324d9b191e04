// Package demo demonstrates stripeonce on this machine: a private PostgreSQL, the receiver, and a simulated Stripe that
// delivers out of order, with duplicates, and retries.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/simulation"
	"github.com/pook/stripeonce/stripesim"
)

// resent is the number of events that are redelivered while PostgreSQL's writes are counted.
const resent = 300

// ErrCheck reports that a check failed.
var ErrCheck = errors.New("a check failed")

// ErrDatabase reports that the private PostgreSQL did not start.
var ErrDatabase = errors.New("a private PostgreSQL could not be started")

// Config configures the demo.
type Config struct {
	Simulation stripesim.Simulation
	Out        io.Writer
	Progress   *cli.Progress
	// Keep keeps the receiver running until the context ends.
	Keep bool
	// Postgres is the major version of a PostgreSQL to download, see pglocal.Config. Empty: the installed one.
	Postgres string
	// Receiver is the name of a receiver of package wrong. Empty: stripeonce.
	Receiver string
	// Repeat is the command that repeats the deliveries.
	Repeat string
}

// Run runs the demo and returns ErrCheck if a check failed.
func Run(ctx context.Context, config Config) error {
	if config.Keep && config.Simulation.For == 0 { // so that the console shows times of today
		config.Simulation = config.Simulation.EndingAt(time.Now())
	}
	d := &demo{Config: config, account: config.Simulation.NewAccount()}
	d.printf("Starting a private PostgreSQL and the receiver …\n")
	var err error
	if d.host, err = startHost(ctx, &d.Config, stripesim.NewAPI(d.account)); err != nil {
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
	account *stripesim.Account
	host    *host
	history history
}

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.Out, format, args...) }

func (d *demo) run(ctx context.Context) error {
	deliverer := &stripesim.Deliverer{URL: d.host.url, Secret: secret, Observe: d.history.record}
	run := &simulation.Run{Simulation: d.Simulation, API: d.host.api, Deliverer: deliverer, Progress: d.Progress, Out: d.Out}
	run.Simulation.Planned = func([]stripesim.Delivery) { d.history.choose(d.account) }
	d.printf("\n")
	if err := run.Deliver(ctx); err != nil {
		return err
	}
	d.printf("\n")
	d.printHistory()
	d.printf("\n")
	run.PrintReport()
	report := deliverer.Report()
	d.printWork(&report)
	findings, err := d.resend(ctx)
	if err != nil {
		return err
	}
	judged, err := judge.Judge(ctx, d.host.pool, d.account)
	if err != nil {
		return err
	}
	findings = append(findings, judged...)
	if d.host.mirrors {
		objects, err := judge.Objects(ctx, d.host.pool, d.account, mirrored...)
		if err != nil {
			return err
		}
		findings = append(findings, objects...)
	}
	if n := report.GivenUp; n > 0 {
		findings = append(findings, judge.Finding{Check: checkAnswered, What: "deliveries given up", Want: 0, Got: n})
	}
	return d.report(&report, findings)
}

// resend redelivers events while nothing else happens, and checks that PostgreSQL writes nothing.
func (d *demo) resend(ctx context.Context) ([]judge.Finding, error) {
	unfetchable, err := judge.Unfetchable(ctx, d.host.pool, d.account)
	if err != nil {
		return nil, err
	}
	before, err := pglocal.ReadWritten(ctx, d.host.pool)
	if err != nil {
		return nil, err
	}
	again := &stripesim.Deliverer{URL: d.host.url, Secret: secret}
	var plan []stripesim.Delivery
	for _, ev := range d.account.Events[:min(resent, len(d.account.Events))] {
		if !unfetchable[ev.ID] { // its snapshot event would be new
			plan = append(plan, stripesim.Delivery{Event: ev, Times: 2})
		}
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
