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
	// ErrNotFound reports that there is no such event or failure.
	ErrNotFound = errors.New("no such event")
	// ErrRefused reports that a call was refused, since its options are not valid or its conditions are not met. Nothing was done.
	ErrRefused = errors.New("refused")
	// ErrNoAPIKey reports that a call needs Config.APIKey, which is empty.
	ErrNoAPIKey = errors.New("there is no API key: set STRIPE_API_KEY")
	// ErrNoApplier reports that a call needs Config.Applier, which is nil.
	ErrNoApplier = errors.New("there is no applier: set Config.Applier to the receiver")
)

const (
	// DefaultAPITimeout bounds one attempt of a request to Stripe's API.
	DefaultAPITimeout = 30 * time.Second
	// DefaultAPIAttempts is how often a request is attempted if Stripe answers 429 or 5xx, or does not answer. The pause
	// between attempts doubles from half a second to half a minute, unless Stripe sends Retry-After.
	DefaultAPIAttempts = 8
)

// Config configures an Operator. The zero value suffices to read the ledger and prune it.
type Config struct {
	// Applier applies events: a *webhooks.Receiver with all handlers that deliveries run, or a Remote. If nil, Replay and
	// Reconcile return ErrNoApplier, except for a dry run.
	Applier Applier
	// APIKey is the secret or restricted key for requests to Stripe. A restricted key needs read access to events
	// (Reconcile, Replay), and read and write access to webhook endpoints (Endpoints). If empty, these return ErrNoAPIKey.
	APIKey string
	// APIBase is another address of Stripe's API, for tests. Defaults to Stripe's.
	APIBase string
	// AccountID is the API key's own account, webhooks.Config.AccountID, which is never sent with a request. Defaults to the
	// Applier's, if that is a Receiver.
	AccountID string
	// Account is the connected account on whose behalf requests are made that name no other. Empty: the platform's own.
	Account string
	// Operator and Reason are who runs these functions and why, for the record of runs (stripe_webhook_runs). Operator defaults to the
	// user of this process.
	Operator, Reason string
	// SoleReceiver has ReconcileEvery refuse to run while the ledger has events of receivers of other names than the Applier's
	// (webhooks.Config.Name): an Applier that lacks their handlers would apply events without them, and these would be lost.
	SoleReceiver bool
	// APITimeout bounds one attempt of a request. Defaults to DefaultAPITimeout.
	APITimeout time.Duration
	// Logger receives warnings of retried requests, and the results of ReconcileEvery. Defaults to slog.Default().
	Logger *slog.Logger
}

// Operator has the operator's functions for one database. It is safe for concurrent use. Create it with New.
type Operator struct {
	pool     *pgxpool.Pool
	queries  *db.Queries
	config   Config
	api      *stripeapi.Client
	stats    stats
	verified verifyStats
	retried  retryCounts
}

// New returns an Operator. It does not connect.
func New(pool *pgxpool.Pool, config *Config) *Operator {
	o := &Operator{pool: pool, queries: db.New()}
	if config != nil {
		o.config = *config
	}
	o.config.APIKey = strings.TrimSpace(o.config.APIKey)
	if here, ok := o.config.Applier.(interface{ AccountID() string }); ok && o.config.AccountID == "" {
		o.config.AccountID = here.AccountID()
	}
	if o.config.APITimeout == 0 {
		o.config.APITimeout = DefaultAPITimeout
	}
	if o.config.Logger == nil {
		o.config.Logger = slog.Default()
	}
	o.api = stripeapi.New(stripeapi.Config{
		Key: o.config.APIKey, Base: o.config.APIBase, Timeout: o.config.APITimeout, Attempts: DefaultAPIAttempts,
		Account: o.config.Account, Own: o.config.AccountID, Logger: o.config.Logger,
	})
	return o
}
