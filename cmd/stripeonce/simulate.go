package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
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

func (f *simulationFlags) add(flags *pflag.FlagSet) {
	f.set = flags
	flags.Uint64Var(&f.seed, "seed", 1, "the random `seed`: the same seed gives the same deliveries")
	flags.IntVar(&f.subscriptions, "subscriptions", stripesim.DefaultSubscriptions, "the `number` of subscriptions in one wave")
	flags.StringSliceVar(&f.scenarios, "scenario", nil, "only these life `cycles`")
	flags.StringVar(&f.storm, "storm", stripesim.Default.Name, "the `storm` of deliveries: mild, default or wild")
	flags.StringVar(&f.thin, "thin", "", "deliver thin events, or with --thin=both each event in both `forms`")
	flags.Lookup("thin").NoOptDefVal = string(stripesim.ThinOnly)
	flags.StringVar(&f.apiVersion, "api-version", "", "the API `version` of all events, "+stripesim.VersionBeforeBasil+" or "+stripesim.VersionBasil+" (default: half each)")
	flags.BoolVar(&f.connect, "connect", false, "give a quarter of the subscriptions to connected accounts (default true with --thin)")
	flags.BoolVar(&f.billing, "billing", false, "also simulate customers, products, prices and invoices, with all their events")
	flags.DurationVar(&f.duration, "for", 0, "deliver wave after wave for this `duration`, such as 30s")
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
		scenario, err := stripesim.NamedScenario(name)
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
	case f.subscriptions < 1:
		return s, cli.Usage("--subscriptions must be at least 1")
	case f.duration < 0:
		return s, cli.Usage("--for must not be negative")
	}
	return s, nil
}

type simulateFlags struct {
	simulationFlags
	to          string
	rate        float64
	concurrency int
	retryScale  float64
	truth       string
	api         string
}

func newSimulate() *cobra.Command {
	f := &simulateFlags{}
	cmd := &cobra.Command{
		Use:   "simulate --to URL",
		Short: "Deliver simulated life cycles to any receiver, as Stripe does",
		Long: `Simulates the subscriptions of a Stripe account and delivers their events to a receiver in
any language: signed with the first secret in STRIPE_WEBHOOK_SECRET, out of order, with
duplicates, some at the same instant, and again until the response is a 2xx. It needs no
account and no network. The exit code is 1 if an event was never accepted.

What your tables should hold in the end is in --truth FILE: each subscription's final
object, one JSON object a line. --api ADDR serves the simulated API meanwhile, with any
key, to a receiver whose API base it is (STRIPE_API_BASE of stripeonce).

--billing also simulates customers, products, prices and whole invoices. Their final
objects follow in --truth; a deleted one is {"id", "object", "deleted": true}.

The life cycles of --scenario (default: a mixture that draws each step):` + aboutScenarios(),
		Example: `  STRIPE_WEBHOOK_SECRET=whsec_test stripeonce simulate --to http://127.0.0.1:3000/webhooks
  STRIPE_WEBHOOK_SECRET=whsec_test stripeonce simulate --to http://127.0.0.1:3000/webhooks \
      --scenario dunning,upgrade --storm wild --truth truth.jsonl`,
		Args: cli.Args(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "http://"+envOr("ADDR", "127.0.0.1:4242")+server.WebhookPath, "the `URL` to deliver to")
	f.add(flags)
	flags.Float64Var(&f.rate, "rate", 0, "the maximum `number` of deliveries a second; 0: as fast as they are answered")
	flags.IntVar(&f.concurrency, "concurrency", stripesim.DefaultConcurrency, "the `number` of deliveries in flight")
	flags.Float64Var(&f.retryScale, "retry-scale", stripesim.DefaultRetryScale, "how many `times` faster than Stripe's three days deliveries are retried")
	flags.StringVar(&f.truth, "truth", "", "write the final objects to this `file`, one JSON object a line")
	flags.StringVar(&f.api, "api", "", "serve the simulated API at this `address`, such as 127.0.0.1:12111, until the deliveries end")
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.run(cmd, out.Of(cmd)) }
	return cmd
}

func (f *simulateFlags) check() (stripesim.Simulation, error) {
	s, err := f.simulation()
	switch {
	case err != nil:
		return s, err
	case s.Storm.Thin != stripesim.SnapshotOnly && f.api == "":
		return s, cli.Usage("--thin: thin events hold no object: serve the simulated API with --api ADDR, and have the receiver ask it")
	case f.concurrency < 1:
		return s, cli.Usage("--concurrency must be at least 1")
	case f.rate < 0:
		return s, cli.Usage("--rate must not be negative")
	case f.retryScale <= 0:
		return s, cli.Usage("--retry-scale must be more than 0")
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
	var truth *os.File // created before the deliveries, which may take hours
	if f.truth != "" {
		if truth, err = os.Create(f.truth); err != nil {
			return cli.Usage("--truth: %w", err)
		}
		defer truth.Close()
	}
	account := s.NewAccount()
	run := &simulation.Run{
		Simulation: s, API: stripesim.NewAPI(account), Progress: cli.NewProgress(cmd), Out: cmd.OutOrStdout(),
		Deliverer: &stripesim.Deliverer{
			URL: f.to, Secret: secret, Concurrency: f.concurrency, Rate: f.rate, Pauses: stripesim.RetrySchedule(f.retryScale),
		},
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
	delivered := run.Deliver(cmd.Context()) // what was answered is reported even if it was interrupted
	if truth != nil {
		if err := errors.Join(stripesim.WriteTruth(truth, account), truth.Close()); err != nil {
			return fmt.Errorf("--truth: %w", err)
		}
	}
	run.PrintReport()
	report := run.Deliverer.Report()
	if out.JSON {
		err = printSimulated(out, &report)
	}
	if n := len(report.Refused); n > 0 && err == nil {
		err = fmt.Errorf("%d deliveries were never accepted", n)
	}
	return errors.Join(delivered, err)
}

// serveSimulated serves an API until stop is called.
func serveSimulated(ctx context.Context, addr string, api *stripesim.API) (stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, cli.Usage("--api: %w: use an address such as 127.0.0.1:12111", err)
	}
	api.CountOnly = true
	s := &http.Server{Handler: api, ReadHeaderTimeout: server.StopTimeout}
	go func() { _ = s.Serve(listener) }()
	return func() { _ = s.Close() }, nil
}

// printSimulated prints a report as JSON: a line for each delivery that was never accepted, and one for all.
func printSimulated(out *cli.Output, report *stripesim.Report) error {
	for _, one := range report.Refused {
		if err := out.Line(one); err != nil {
			return err
		}
	}
	return out.Line(map[string]any{
		"events": report.Events, "deliveries": report.Deliveries, "duplicates": report.Duplicates, "at_once": report.AtOnce,
		"disordered": report.Disordered, "retried": report.Retried, "unanswered": report.Unanswered, "never_accepted": len(report.Refused),
		"statuses": report.Statuses, "outcomes": report.Outcomes, "seconds": report.Seconds,
		"median_ms": report.Median.Seconds() * 1000, "p99_ms": report.P99.Seconds() * 1000,
	})
}
