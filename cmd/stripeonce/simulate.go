package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/stripesim"
)

type simulateFlags struct {
	to            string
	scenarios     []string
	storm         string
	subscriptions int
	seed          uint64
	rate          float64
	thin          string
	connect       bool
	concurrency   int
	retryScale    float64
	truth         string
	api           string
}

func newSimulate() *cobra.Command {
	f := &simulateFlags{}
	var about []string
	for _, s := range stripesim.Scenarios() {
		about = append(about, fmt.Sprintf("  %-22s %s", s.Name, s.About))
	}
	cmd := &cobra.Command{
		Use:   "simulate --to URL",
		Short: "Deliver simulated life cycles to any receiver, as Stripe does",
		Long: `Simulates the subscriptions of a Stripe account and delivers their events to a receiver in
any language: signed with the first secret in STRIPE_WEBHOOK_SECRET, out of order, with
duplicates, some at the same instant, and again until the response is a 2xx. It needs no
account. The exit code is 1 if an event was never accepted.

What your tables should hold in the end is in --truth FILE: each subscription's final
object, one JSON object a line. --api ADDR serves the simulated API meanwhile (STRIPE_API_BASE
of a receiver), with any key.

The same seed gives the same deliveries. Life cycles of --scenario (default: a mixture):
` + strings.Join(about, "\n"),
		Example: `  STRIPE_WEBHOOK_SECRET=whsec_test stripeonce simulate --to http://127.0.0.1:3000/webhooks
  STRIPE_WEBHOOK_SECRET=whsec_test stripeonce simulate --to http://127.0.0.1:3000/webhooks \
      --scenario dunning,upgrade --storm wild --truth truth.jsonl`,
		Args: cli.Args(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "http://"+envOr("ADDR", "127.0.0.1:4242")+server.WebhookPath, "the `URL` to deliver to")
	flags.StringSliceVar(&f.scenarios, "scenario", nil, "only these life `cycles`")
	flags.StringVar(&f.storm, "storm", "default", "the `storm` of deliveries: mild, default or wild")
	flags.IntVar(&f.subscriptions, "subscriptions", 100, "the `number` of subscriptions")
	flags.Uint64Var(&f.seed, "seed", 1, "the random `seed`")
	flags.Float64Var(&f.rate, "rate", 0, "the deliveries a second; 0: as fast as they are answered")
	flags.StringVar(&f.thin, "thin", "", "deliver thin events (`form` only), or each event in both forms (both); needs --api for the objects")
	flags.Lookup("thin").NoOptDefVal = string(stripesim.ThinOnly)
	flags.BoolVar(&f.connect, "connect", false, "a quarter of the subscriptions are of connected accounts")
	flags.IntVar(&f.concurrency, "concurrency", 24, "the number of deliveries in flight")
	flags.Float64Var(&f.retryScale, "retry-scale", 100_000, "how much faster than Stripe's three days deliveries are retried")
	flags.StringVar(&f.truth, "truth", "", "write the final objects to this `file`, one JSON object a line")
	flags.StringVar(&f.api, "api", "", "serve the simulated API at this `address`, such as 127.0.0.1:12111, until the deliveries end")
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.run(cmd, out.Of(cmd)) }
	return cmd
}

func (f *simulateFlags) check() (storm stripesim.Storm, scenarios []stripesim.Scenario, err error) {
	if storm, err = stripesim.NamedStorm(f.storm); err != nil {
		return storm, nil, cli.Usage("%w", err)
	}
	for _, name := range f.scenarios {
		scenario, err := stripesim.NamedScenario(name)
		if err != nil {
			return storm, nil, cli.Usage("%w", err)
		}
		scenarios = append(scenarios, scenario)
	}
	storm.Thin = stripesim.Thin(f.thin)
	switch {
	case storm.Thin != stripesim.SnapshotOnly && storm.Thin != stripesim.ThinOnly && storm.Thin != stripesim.ThinAndTwin:
		return storm, nil, cli.Usage("--thin=%s: use only or both", f.thin)
	case storm.Thin != stripesim.SnapshotOnly && f.api == "":
		return storm, nil, cli.Usage("--thin: thin events hold no object: serve the simulated API with --api ADDR, and have the receiver ask it")
	case f.subscriptions < 1, f.concurrency < 1:
		return storm, nil, cli.Usage("--subscriptions and --concurrency must be at least 1")
	case f.rate < 0:
		return storm, nil, cli.Usage("--rate must not be negative")
	case f.retryScale <= 0:
		return storm, nil, cli.Usage("--retry-scale must be more than 0")
	}
	return storm, scenarios, cli.HTTPURL("--to", f.to)
}

func (f *simulateFlags) run(cmd *cobra.Command, out *cli.Output) error {
	storm, scenarios, err := f.check()
	if err != nil {
		return err
	}
	secret, err := senderSecret()
	if err != nil {
		return err
	}
	account := stripesim.New(f.seed, stripesim.Epoch)
	if f.connect {
		account.Connected = []string{"acct_1SimulatedA", "acct_1SimulatedB"}
	}
	if len(scenarios) > 0 {
		account.Play(scenarios, f.subscriptions)
	} else {
		account.Live(stripesim.Life{Subscriptions: f.subscriptions, Bursts: true})
	}
	if f.api != "" {
		stop, err := serveSimulated(cmd.Context(), f.api, account)
		if err != nil {
			return err
		}
		defer stop()
	}
	plan := storm.Plan(f.seed, account.Events)
	r := &simulated{shape: stripesim.Measure(plan)}
	if err := f.deliver(cmd, plan, secret, r); err != nil {
		return err
	}
	if f.truth != "" {
		if err := writeTruth(f.truth, account); err != nil {
			return err
		}
	}
	return r.print(out)
}

// deliver delivers the plan, and shows its progress on a terminal.
func (f *simulateFlags) deliver(cmd *cobra.Command, plan []stripesim.Delivery, secret string, r *simulated) error {
	ctx := cmd.Context()
	sender := delivery.NewSender(f.to, secret, f.concurrency)
	defer sender.Close()
	d := &stripesim.Deliverer{
		Sender: sender, Concurrency: f.concurrency, Observe: r.answered, Took: r.took, GaveUp: r.gaveUp,
		Pauses: stripesim.RetrySchedule(f.retryScale), Rate: f.rate,
	}
	progress := cli.NewProgress(cmd)
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- d.Deliver(ctx, plan) }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			progress.Clear()
			r.tally, r.seconds = d.Tally(), time.Since(began).Seconds()
			return err
		case <-tick.C:
			progress.Show(float64(d.Done())/float64(max(r.shape.Deliveries, 1)), "%d of %d deliveries", d.Done(), r.shape.Deliveries)
		}
	}
}

// serveSimulated serves the account's API until stop is called.
func serveSimulated(ctx context.Context, addr string, account *stripesim.Account) (stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, cli.Usage("--api: %w: use an address such as 127.0.0.1:12111", err)
	}
	api := stripesim.NewAPI(account)
	api.CountOnly = true
	s := &http.Server{Handler: api, ReadHeaderTimeout: server.StopTimeout}
	go func() { _ = s.Serve(listener) }()
	return func() { _ = s.Close() }, nil
}

// writeTruth writes the final object of each subscription.
func writeTruth(name string, account *stripesim.Account) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("--truth: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return stripesim.WriteTruth(file, account)
}

// simulated is what was answered.
type simulated struct {
	shape   stripesim.Shape
	tally   stripesim.Tally
	seconds float64

	mu        sync.Mutex
	statuses  map[int]int
	latencies []time.Duration
	never     []neverAccepted
}

type neverAccepted struct {
	EventID   string `json:"event_id"`
	EventType string `json:"event_type"`
	Answer    string `json:"answer"`
}

func (r *simulated) answered(_ *stripesim.Event, reply delivery.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.statuses == nil {
		r.statuses = map[int]int{}
	}
	r.statuses[reply.Status]++
}

func (r *simulated) took(took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latencies = append(r.latencies, took)
}

func (r *simulated) gaveUp(ev *stripesim.Event, reply delivery.Reply, err error) {
	answer := reply.String()
	if err != nil {
		answer = err.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.never = append(r.never, neverAccepted{ev.ID, ev.Type, answer})
}

// quantile returns a latency in milliseconds.
func (r *simulated) quantile(q float64) float64 {
	if len(r.latencies) == 0 {
		return 0
	}
	slices.Sort(r.latencies)
	return float64(r.latencies[int(q*float64(len(r.latencies)-1))].Microseconds()) / 1000
}

const shownNever = 10

func (r *simulated) print(out *cli.Output) error {
	median, high := r.quantile(0.5), r.quantile(0.99)
	if out.JSON {
		for _, one := range r.never {
			if err := out.Line(one); err != nil {
				return err
			}
		}
		if err := out.Line(map[string]any{
			"events": r.shape.Events, "deliveries": r.shape.Deliveries, "duplicates": r.shape.Duplicates, "disordered": r.shape.Disordered,
			"retried": r.tally.Retried, "never_accepted": len(r.never), "statuses": r.statuses, "seconds": r.seconds, "median_ms": median, "p99_ms": high,
		}); err != nil {
			return err
		}
		return r.verdict()
	}
	out.Printf("%d events, delivered %d times: %d duplicates, %d out of order, %d at the same instant as a duplicate\n",
		r.shape.Events, r.shape.Deliveries, r.shape.Duplicates, r.shape.Disordered, r.shape.AtOnce)
	var statuses []string
	for status, n := range r.statuses {
		statuses = append(statuses, fmt.Sprintf("%d: %d times", status, n))
	}
	slices.Sort(statuses)
	out.Printf("answered %s; retried %d times\n", strings.Join(statuses, ", "), r.tally.Retried)
	out.Printf("in %.1f s, %.0f deliveries a second; a response took %.1f ms (median), %.1f ms (99th percentile)\n",
		r.seconds, float64(r.shape.Deliveries)/max(r.seconds, 0.001), median, high)
	for _, one := range r.never[:min(shownNever, len(r.never))] {
		out.Printf("never accepted: %s  %s  %s\n", one.EventID, one.EventType, cli.OneLine(one.Answer))
	}
	if more := len(r.never) - shownNever; more > 0 {
		out.Printf("… and %d more\n", more)
	}
	return r.verdict()
}

func (r *simulated) verdict() error {
	if n := len(r.never); n > 0 {
		return fmt.Errorf("%d deliveries were never accepted", n)
	}
	return nil
}
