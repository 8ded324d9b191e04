package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/internal/wrong"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

const (
	database = "stripeonce"
	secret   = "whsec_demo_of_stripeonce"
	apiKey   = "sk_test_of_the_demo"
	// failOneIn is the number of events per event whose first delivery fails.
	failOneIn = 20
)

// host is the private PostgreSQL and the receiver on it.
type host struct {
	databaseURL string
	url         string
	console     string // its URL; empty for a receiver of package wrong
	password    string // of the console
	pool        *pgxpool.Pool
	projection  *subscriptions.Projection // nil for a receiver of package wrong
	mirror      *mirror.Projection
	mirrors     bool // the account has other objects of billing, which are mirrored
	api         *stripesim.API
	stops       []func()
}

func (h *host) stop() {
	for i := len(h.stops) - 1; i >= 0; i-- {
		h.stops[i]()
	}
}

// startHost starts both. If one of them does not start, it stops the other.
func startHost(ctx context.Context, config *Config, api *stripesim.API) (*host, error) {
	api.CountOnly = true
	h := &host{api: api}
	if err := h.start(ctx, config); err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

func (h *host) start(ctx context.Context, config *Config) error {
	if err := h.startDatabase(ctx, config); err != nil {
		return err
	}
	if config.Receiver == "" {
		h.mirrors = config.Simulation.Billing || slices.ContainsFunc(config.Simulation.Scenarios, func(s stripesim.Scenario) bool { return s.Billing })
		return h.serveStripeonce(ctx)
	}
	if _, err := h.pool.Exec(ctx, wrong.Tables); err != nil {
		return err
	}
	handler, err := wrong.Handler(config.Receiver, h.pool)
	if err != nil {
		return err
	}
	return h.serve(ctx, func(ctx context.Context, listener net.Listener) error {
		s := &http.Server{Handler: handler, ReadHeaderTimeout: server.StopTimeout}
		go func() {
			<-ctx.Done()
			_ = s.Close()
		}()
		return s.Serve(listener)
	})
}

func (h *host) startDatabase(ctx context.Context, config *Config) error {
	cluster, err := pglocal.Start(ctx, pglocal.Config{
		Settings: pglocal.Quiet(), // the writes of duplicates are counted
		Version:  config.Postgres,
		Notify:   func(message string) { fmt.Fprintln(config.Out, message+" …") },
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	h.stops = append(h.stops, func() { _ = cluster.Stop() })
	if err := cluster.CreateDatabase(ctx, database); err != nil {
		return err
	}
	h.databaseURL = cluster.URL(database)
	if err := migrate.Up(ctx, h.databaseURL, io.Discard); err != nil {
		return err
	}
	if h.pool, err = pgxpool.New(ctx, h.databaseURL+"&pool_max_conns=16"); err != nil {
		return err
	}
	h.stops = append(h.stops, h.pool.Close)
	return nil
}

func (h *host) serveStripeonce(ctx context.Context) error {
	api := httptest.NewServer(h.api)
	h.stops = append(h.stops, api.Close)
	if _, err := h.pool.Exec(ctx, judge.EffectsTable); err != nil {
		return err
	}
	// Handlers fail on purpose, and the report shows it.
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	receiver, err := webhooks.New(h.pool, h.handlers(logger), &webhooks.Config{
		Secrets: []string{secret}, Logger: logger, APIKey: apiKey, APIBase: api.URL, ListRate: 1e6,
	})
	if err != nil {
		return err
	}
	s := server.New(receiver, logger)
	h.password = rand.Text()
	pages := console.New(h.pool, receiver, &console.Config{
		APIKey: apiKey, APIBase: api.URL, Subscriptions: h.projection, Mirror: h.mirror, User: server.User, ReadOnly: server.ReadOnly, Logger: logger,
	})
	h.stops = append(h.stops, pages.Close)
	s.MountConsole(pages, server.Passwords{Console: h.password})
	if err := h.serve(ctx, s.Serve); err != nil {
		return err
	}
	h.console = strings.TrimSuffix(h.url, server.WebhookPath) + server.ConsolePath
	return nil
}

// mirrored are the types of other objects of billing.
var mirrored = append(stripesim.BillingTypes(), mirror.Entitlements...)

// handlers returns the projections, and a handler with an effect that is not idempotent.
func (h *host) handlers(logger *slog.Logger) *webhooks.Handlers {
	set := webhooks.NewHandlers()
	h.projection = subscriptions.Register(set, &subscriptions.Config{Logger: logger})
	if h.mirrors {
		h.mirror = mirror.Register(set, &mirror.Config{Types: mirrored, Logger: logger})
	}
	flaky := &flaky{failed: map[string]bool{}}
	// Registered as a projection that changes nothing, so that the outcome is that of the subscriptions' projection.
	webhooks.Project(set, "customer.subscription.*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event) (bool, error) {
		return false, flaky.effect(ctx, tx, ev)
	})
	for _, pattern := range []string{ // all but those of subscriptions
		"charge.*", "checkout.session.*", "coupon.*", "credit_note.*", "customer.created", "customer.deleted", "customer.tax_id.*", "customer.updated",
		"entitlements.*", "invoice.*", "payment_intent.*", "payment_method.*", "payout.*", "price.*", "product.*", "promotion_code.*", "refund.*",
		"setup_intent.*", "subscription_schedule.*",
	} {
		webhooks.On(set, pattern, func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *struct{}) error {
			return flaky.effect(ctx, tx, ev)
		})
	}
	return set
}

// flaky is a handler that fails on the first attempt of some events.
type flaky struct {
	mu     sync.Mutex
	failed map[string]bool
}

var errOnPurpose = errors.New("this handler fails on purpose")

func (f *flaky) effect(ctx context.Context, tx pgx.Tx, ev *webhooks.Event) error {
	if _, err := tx.Exec(ctx, judge.Effect, ev.ID); err != nil {
		return err
	}
	sum := 0
	for _, b := range []byte(ev.ID) {
		sum += int(b)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if sum%failOneIn == 0 && !f.failed[ev.ID] {
		f.failed[ev.ID] = true
		return errOnPurpose
	}
	return nil
}

func (h *host) serve(ctx context.Context, run func(context.Context, net.Listener) error) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h.url = "http://" + listener.Addr().String() + server.WebhookPath
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = run(ctx, listener)
	}()
	h.stops = append(h.stops, func() {
		cancel()
		<-done
	})
	return nil
}
