package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/internal/simulation"
	"github.com/pook/stripeonce/stripesim"
)

// simulationFlags choose a simulation. demo and simulate have them in common.
type simulationFlags struct {
	seed          uint64
	subscriptions int
	scenarios     []string
	storm         string
	thin          string
	apiVersion    string
	connect       bool
	billing       bool
	duration      time.Duration

	set *pflag.FlagSet
}

// flagBilling is the flag that --keep of the demo implies.
const flagBilling = "billing"

// maxSubscriptions bounds a wave, whose events are in memory: some 60 kB for each subscription.
const maxSubscriptions = 20_000

func (f *simulationFlags) add(flags *pflag.FlagSet) {
	f.set = flags
	flags.Uint64Var(&f.seed, "seed", 1, "the `number` that seeds the random generator; the same seed gives the same deliveries")
	flags.IntVar(&f.subscriptions, "subscriptions", stripesim.DefaultSubscriptions, "the `number` of subscriptions in one wave")
	flags.StringSliceVar(&f.scenarios, "scenario", nil, "only these `scenarios`, comma separated; see 'stripeonce simulate --help' (default: a random mixture)")
	flags.StringVar(&f.storm, "storm", stripesim.Default.Name, "the `level` of disorder and duplicates: none (once and in order), mild, default or wild")
	flags.StringVar(&f.thin, "thin", "", "deliver thin events; with --thin=both, deliver each event in both `forms`, thin and snapshot")
	flags.Lookup("thin").NoOptDefVal = string(stripesim.ThinOnly)
	flags.StringVar(&f.apiVersion, "api-version", "", "the API `version` of all events, "+stripesim.VersionBeforeBasil+" or "+stripesim.VersionBasil+" (default: half each)")
	flags.BoolVar(&f.connect, "connect", false, "put a quarter of the subscriptions in connected accounts (default true with --thin)")
	flags.BoolVar(&f.billing, flagBilling, false, "also deliver events of customers, products, prices, payments, refunds and entitlements, and every invoice event")
	flags.Var((*cli.Duration)(&f.duration), "for", "repeat complete waves of deliveries, at least two, until this `duration` has passed, such as 30s (default: one wave)")
}

// args explains an argument that is meant for --thin.
func (f *simulationFlags) args(cmd *cobra.Command, given []string) error {
	if len(given) > 0 && f.thin == string(stripesim.ThinOnly) && (given[0] == string(stripesim.ThinOnly) || given[0] == string(stripesim.ThinAndTwin)) {
		return cli.Usage("--thin takes its value with an equals sign: --thin=%s", given[0])
	}
	return cli.Args(cobra.NoArgs)(cmd, given)
}

// aboutScenarios lists the life cycles of --scenario.
func aboutScenarios() string {
	var about strings.Builder
	for _, s := range stripesim.Scenarios() {
		fmt.Fprintf(&about, "\n  %-22s %s", s.Name, s.About)
	}
	return about.String()
}

func (f *simulationFlags) simulation() (s stripesim.Simulation, err error) {
	s = stripesim.Simulation{
		Seed: f.seed, Subscriptions: f.subscriptions, APIVersion: f.apiVersion, Connect: f.connect, Billing: f.billing, For: f.duration,
	}
	if s.Storm, err = stripesim.NamedStorm(f.storm); err != nil {
		return s, cli.Usage("%w", err)
	}
	for _, name := range f.scenarios {
		scenario, err := stripesim.NamedScenario(strings.TrimSpace(name))
		if err != nil {
			return s, cli.Usage("%w", err)
		}
		s.Scenarios = append(s.Scenarios, scenario)
	}
	switch s.Storm.Thin = stripesim.Thin(f.thin); s.Storm.Thin {
	case stripesim.SnapshotOnly:
	case stripesim.ThinOnly, stripesim.ThinAndTwin:
		s.Connect = f.connect || !f.set.Changed("connect")
	default:
		return s, cli.Usage("--thin=%s: use only or both", f.thin)
	}
	switch {
	case f.apiVersion != "" && f.apiVersion != stripesim.VersionBeforeBasil && f.apiVersion != stripesim.VersionBasil:
		return s, cli.Usage("--api-version=%s: use %s, or %s for the shapes since then", f.apiVersion, stripesim.VersionBeforeBasil, stripesim.VersionBasil)
	case f.subscriptions < 1 || f.subscriptions > maxSubscriptions:
		return s, cli.Usage("--subscriptions must be from 1 to %d", maxSubscriptions)
	}
	return s, nil
}

type simulateFlags struct {
	simulationFlags
	to          string
	rate        float64
	concurrency int
	timeout     time.Duration
	retryScale  float64
	truth       string
	api         string
	linger      time.Duration
	start       cli.Moment
}

// stopAfter is the number of first attempts after which a wrong URL or secret ends the command.
const stopAfter = 20

func newSimulate() *cobra.Command {
	f := &simulateFlags{timeout: stripesim.DefaultTimeout}
	cmd := &cobra.Command{
		Use:   "simulate --to URL",
		Short: "Send simulated events to any receiver, signed and retried as Stripe does",
		Long: `Simulates the subscriptions of a Stripe account and delivers their events to a receiver in
any language, to test it: signed with the first secret in STRIPE_WEBHOOK_SECRET, out of order,
and with duplicates, some of them concurrent. It needs no account and no network. Empty the
receiver's tables before each run, or use another --seed: a second run with the same seed has
the same event ids, which a receiver ignores.

A delivery without a 2xx response within --timeout is retried on Stripe's schedule, but faster:
ten attempts within twelve seconds (--retry-scale). The exit code is 1 if an event was never
accepted. If all first attempts fail in the way of a wrong URL or secret, the command stops and
names the setting to check.

--truth FILE writes what your tables should hold in the end: the final object of each
subscription and each of its invoices, one JSON object per line, in the API version of its
events. Objects of connected accounts (--connect) have the account's id in "account".

--api ADDR serves the simulated API, which accepts any key. Set the receiver's API base to it
(STRIPE_API_BASE of stripeonce). It serves /v1/events, /v1/subscriptions,
/v1/subscription_items, /v1/customers, /v1/products, /v1/prices, /v1/invoices with /lines,
/v1/charges and the other billing paths, /v1/entitlements/active_entitlements and
/v2/core/events. Its objects are as of the newest event whose delivery has started. --linger
keeps the API up after the deliveries, for a receiver that responds first and processes events
from a queue.

The simulated clock starts in January 2024. To test a command with a time window, such as
'stripeonce reconcile --since', start it recently: --start 30d. Subscriptions start within 30
days and live for one to five months, so the last events are then in the future.

--billing also delivers the events of customers, products and prices, every invoice event, and
the events of payment intents, charges, refunds, disputes, payment methods, setup intents,
Checkout sessions, credit notes, subscription schedules, coupons, promotion codes, tax ids,
payouts and entitlements. The scenarios checkout, customer-deleted, dispute,
entitlement-change, invoice-voided and refund imply it. --truth then has their final objects,
too; a deleted object is {"id", "object", "deleted": true}.

Scenarios of --scenario (default: a random mixture of their steps):` + aboutScenarios(),
		Example: `  STRIPE_WEBHOOK_SECRET=whsec_test stripeonce simulate --to http://127.0.0.1:3000/webhooks
  STRIPE_WEBHOOK_SECRET=whsec_test stripeonce simulate --to http://127.0.0.1:3000/webhooks \
      --scenario dunning,upgrade --storm wild --truth truth.jsonl`,
		Args: f.args,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "http://"+envOr("ADDR", "127.0.0.1:4242")+server.WebhookPath, "the `URL` of the receiver")
	f.add(flags)
	flags.Float64Var(&f.rate, "rate", 0, "the maximum `number` of deliveries per second; 0: no limit")
	flags.IntVar(&f.concurrency, "concurrency", stripesim.DefaultConcurrency, "the maximum `number` of concurrent deliveries")
	flags.Var((*cli.Duration)(&f.timeout), "timeout", "the maximum `duration` of an attempt")
	flags.Float64Var(&f.retryScale, "retry-scale", stripesim.DefaultRetryScale, "the `factor` by which retries are faster than Stripe's, which takes three days for ten attempts")
	flags.Var(&f.start, "start", "the `time` at which the simulated clock starts, such as 2026-11-24, or a duration before now, such as 30d (default 2024-01-01)")
	flags.StringVar(&f.truth, "truth", "", "write the final objects to this `file`, one JSON object per line")
	flags.StringVar(&f.api, "api", "", "serve the simulated API at this `address`, such as 127.0.0.1:12111")
	flags.Var((*cli.Duration)(&f.linger), "linger", "keep the simulated API up for this `duration` after the deliveries, such as 1m (default 0s)")
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.run(cmd, out.Of(cmd)) }
	return cmd
}

func (f *simulateFlags) check() (stripesim.Simulation, error) {
	const maxScale = 1e12
	s, err := f.simulation()
	s.Start = f.start.Time
	switch {
	case err != nil:
		return s, err
	case s.Storm.Thin != stripesim.SnapshotOnly && f.api == "":
		return s, cli.Usage("--thin requires --api ADDR: thin events contain no object, so the receiver fetches it from the simulated API")
	case f.concurrency < 1:
		return s, cli.Usage("--concurrency must be at least 1")
	case !(f.rate >= 0) || math.IsInf(f.rate, 0): // NaN, too
		return s, cli.Usage("--rate must be a number of deliveries per second, or 0 for no limit")
	case !(f.retryScale >= 1) || f.retryScale > maxScale:
		return s, cli.Usage("--retry-scale must be from 1 (Stripe's three days) to %g", maxScale)
	case f.timeout <= 0:
		return s, cli.Usage("--timeout must be positive, such as 30s")
	case f.linger > 0 && f.api == "":
		return s, cli.Usage("--linger requires --api ADDR, the simulated API that it keeps up")
	}
	return s, cli.HTTPURL("--to", f.to)
}

func (f *simulateFlags) run(cmd *cobra.Command, out *cli.Output) error {
	s, err := f.check()
	if err != nil {
		return err
	}
	secret, err := senderSecret()
	if err != nil {
		return err
	}
	account, stdout := s.NewAccount(), cli.NewChecked(cmd)
	run := &simulation.Run{
		Simulation: s, API: stripesim.NewAPI(account), Progress: cli.NewProgress(cmd), Out: stdout,
		Deliverer: &stripesim.Deliverer{
			URL: f.to, Secret: secret, Concurrency: f.concurrency, Rate: f.rate, Pauses: stripesim.RetrySchedule(f.retryScale),
			Timeout: f.timeout, StopAfter: stopAfter,
		},
	}
	if !run.Progress.Terminal() {
		run.Lines = cmd.ErrOrStderr()
	}
	if out.JSON {
		run.Out = io.Discard
	}
	if f.api != "" {
		stop, err := serveSimulated(cmd.Context(), f.api, run.API)
		if err != nil {
			return err
		}
		defer stop()
	}
	truth, err := newTruth(f.truth) // before the deliveries, which may take hours
	if err != nil {
		return err
	}
	defer truth.discard()
	delivered := run.Deliver(cmd.Context()) // what was answered is reported even if it was interrupted
	if hint := simulation.Hint(delivered); hint != "" {
		delivered = fmt.Errorf("%w: %s", delivered, hint)
	}
	report := run.Deliverer.Report()
	if report.Deliveries > 0 {
		run.PrintReport()
	}
	if out.JSON {
		err = printSimulated(out, &report)
	}
	if n := len(report.Refused); n > 0 && err == nil {
		err = fmt.Errorf("%d events were never accepted", n)
	}
	if report.Completed > 0 {
		if report.Completed < report.Deliveries && f.truth != "" {
			out.Hintf("%s holds the final objects, also of events that were not delivered\n", f.truth)
		}
		err = errors.Join(truth.write(account), err)
	}
	if f.linger > 0 && delivered == nil {
		out.Hintf("the simulated API is served for another %s, or until Ctrl-C\n", f.linger)
		linger(cmd.Context(), f.linger)
	}
	return errors.Join(delivered, err, stdout.Err())
}

func linger(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// serveSimulated serves an API until stop is called.
func serveSimulated(ctx context.Context, addr string, api *stripesim.API) (stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, cli.Usage("--api: %w: use a free address such as 127.0.0.1:12112", err)
	}
	api.CountOnly = true
	s := &http.Server{Handler: api, ReadHeaderTimeout: server.StopTimeout}
	go func() { _ = s.Serve(listener) }()
	return func() { _ = s.Close() }, nil
}

// printSimulated prints a report as JSON: a line for each event that was never accepted, and one for all.
func printSimulated(out *cli.Output, report *stripesim.Report) error {
	for _, one := range report.Refused {
		if err := out.Line(one); err != nil {
			return err
		}
	}
	statuses := report.Statuses
	if statuses == nil {
		statuses = map[int]int{}
	}
	outcomes := report.Outcomes
	if outcomes == nil {
		outcomes = map[string]int{}
	}
	return out.Line(map[string]any{
		"events": report.Events, "deliveries": report.Deliveries, "duplicates": report.Duplicates, "at_once": report.AtOnce,
		"disordered": report.Disordered, "retried": report.Retried, "unanswered": report.Unanswered, "never_accepted": len(report.Refused),
		"completed": report.Completed, "accepted": report.Accepted, "given_up": report.GivenUp,
		"statuses": statuses, "outcomes": outcomes, "seconds": report.Seconds,
		"median_ms": report.Median.Seconds() * 1000, "p99_ms": report.P99.Seconds() * 1000,
	})
}
