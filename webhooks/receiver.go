// Package webhooks receives Stripe's webhook deliveries and makes each event take effect in PostgreSQL
// exactly once.
//
// A [Receiver] verifies a delivery, then in one transaction looks the event's id up in the ledger
// (stripe_webhook_events), runs the functions that are registered for its type, records the event, and
// commits. A copy of a known event is answered 200 at once and writes nothing. Of copies that race, the
// ledger's unique index lets one commit; the others are rolled back and answered 200. Events that run no function of
// the host's, and come at the same time, may share a transaction: see [Config].MaxShared.
//
// Register functions on [Handlers] with [On]; mount the Receiver on Echo with [Receiver.Mount], or use it
// as an http.Handler.
package webhooks

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/signing"
	"github.com/pook/stripeonce/internal/stripeapi"
)

// Receiver receives deliveries. It is an http.Handler and safe for concurrent use. Create it with New.
type Receiver struct {
	pool     *pgxpool.Pool
	queries  *db.Queries
	handlers *Handlers
	config   *Config
	verifier *signing.Verifier
	gate     *gate
	buffer   *buffer
	copies   *copies
	turns    *turns
	shared   *shared
	recent   *recent
	workers  *workers
	stats    *recorder
	stripe   *stripeapi.Client

	prepares   bool // the pool's connections use prepared statements
	mode       pgx.QueryExecMode
	ready      atomic.Bool  // the database has been found ready, and not been doubted since
	served     atomic.Bool  // it has once been found ready
	trialState atomic.Int32 // one of the states of the trial
	trialMu    sync.Mutex
	trial      *trialRun     // in progress; nil: none
	exposed    atomic.Bool   // it has been warned of tables that anybody may read
	pooled     atomic.Bool   // the way to it has been looked at
	checking   chan struct{} // holds one while somebody looks

	lastCommit atomic.Int64 // when an event last took effect, in nanoseconds since 1970
}

// New makes a Receiver whose events take effect through pool's connections. It freezes h. It does not
// connect: see Ready. The error names every field of config that is wrong.
func New(pool *pgxpool.Pool, h *Handlers, config *Config) (*Receiver, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	if pool == nil {
		return nil, errors.New("webhooks.New: the pool is nil")
	}
	if h == nil {
		return nil, errors.New("webhooks.New: the handlers are nil: use webhooks.NewHandlers()")
	}
	warnOfUnknownTypes(h, config.Logger)
	h.frozen = true
	mode := pool.Config().ConnConfig.DefaultQueryExecMode
	return &Receiver{
		pool:     pool,
		queries:  db.New(),
		handlers: h,
		config:   config,
		verifier: signing.NewVerifier(config.Secrets, config.Tolerance),
		gate:     newGate(config.MaxInFlight),
		buffer:   &buffer{max: config.MaxBufferBytes},
		copies:   newCopies(),
		turns:    newTurns(),
		shared:   newShared(config),
		recent:   newRecent(),
		workers:  newWorkers(),
		stats:    newRecorder(),
		// Once, and not for long: Stripe's delivery is what is tried again.
		stripe:   stripeapi.New(stripeapi.Config{Key: config.APIKey, Base: config.APIBase, Timeout: config.AskTimeout}),
		checking: make(chan struct{}, 1),
		prepares: mode == pgx.QueryExecModeCacheStatement,
		mode:     mode,
	}, nil
}

// Types lists the types that functions are registered for, as Handlers.Types does.
func (r *Receiver) Types() []string { return r.handlers.Types() }

// Handles is true if the event would run a function: one is registered for its type, it is of the mode
// that takes effect, and if it is thin there is an API key to fetch its object with.
func (r *Receiver) Handles(ev *Event) bool { return len(r.newWork(ev).handlers) > 0 }

// Shutdown refuses further deliveries with 503 and waits until those in flight are done and their failures recorded, or
// ctx ends.
func (r *Receiver) Shutdown(ctx context.Context) error { return r.gate.close(ctx) }
