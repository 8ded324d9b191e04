// Package operations is what an operator does with a receiver's ledger: look at events and failures, apply
// events again, find and apply those that never arrived, delete old rows, and compare Stripe's endpoint
// with the functions that are registered. Nothing here has a way of its own to make an event take effect:
// that is always the receiver's, so that an event which has taken effect is a duplicate.
//
// The package commands offers all of it on the command line.
package operations

import (
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/stripeapi"
)

var (
	// ErrNotFound is wrapped where there is no such event or failure.
	ErrNotFound = errors.New("no such event")
	// ErrRefused is wrapped by refusals: nothing was done.
	ErrRefused = errors.New("refused")
	// ErrNoAPIKey is wrapped where Stripe would have to be asked.
	ErrNoAPIKey = errors.New("there is no API key (STRIPE_API_KEY)")
	// ErrNoApplier is wrapped where an event would have to be applied.
	ErrNoApplier = errors.New("there is no applier: set Config.Applier to the receiver")
)

const (
	// DefaultAPITimeout bounds one request to Stripe's API.
	DefaultAPITimeout = stripeapi.BackgroundTimeout
	// DefaultAPIAttempts is how often one request is tried while Stripe answers 429 or 5xx, or not at all.
	// The waiting between doubles from half a second to half a minute, unless Stripe says how long.
	DefaultAPIAttempts = stripeapi.BackgroundAttempts
)

// Config configures an Operator. The zero value can look at the ledger and prune it.
type Config struct {
	// Applier makes events take effect: the *webhooks.Receiver that has all the functions that deliveries
	// have, or a Remote one. Nil: Replay and Reconcile refuse, but for a dry run.
	Applier Applier
	// APIKey is the secret or restricted key for what asks Stripe. A restricted one needs to read events
	// (Reconcile, Replay) and to read and write webhook endpoints (Endpoints). Empty: ErrNoAPIKey.
	APIKey string
	// APIBase is another address of Stripe's API, for tests. Empty: Stripe's.
	APIBase string
	// APITimeout bounds one request to it. 0: DefaultAPITimeout.
	APITimeout time.Duration
	// Logger is told of waiting for Stripe, and of what ReconcileEvery does. Nil: slog.Default().
	Logger *slog.Logger
}

// Operator does an operator's work on one database. It is safe for concurrent use. Create it with New.
type Operator struct {
	pool    *pgxpool.Pool
	queries *db.Queries
	config  Config
	api     *stripeapi.Client
	stats   stats
}

// New makes an Operator. It does not connect.
func New(pool *pgxpool.Pool, config *Config) *Operator {
	o := &Operator{pool: pool, queries: db.New()}
	if config != nil {
		o.config = *config
	}
	o.config.APIKey = strings.TrimSpace(o.config.APIKey)
	if o.config.APITimeout == 0 {
		o.config.APITimeout = DefaultAPITimeout
	}
	if o.config.Logger == nil {
		o.config.Logger = slog.Default()
	}
	o.api = stripeapi.New(stripeapi.Config{
		Key: o.config.APIKey, Base: o.config.APIBase, Timeout: o.config.APITimeout, Attempts: DefaultAPIAttempts, Logger: o.config.Logger,
	})
	return o
}
