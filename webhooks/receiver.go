// Package webhooks receives Stripe's webhook deliveries and makes each event take effect in PostgreSQL
// exactly once.
//
// A [Receiver] verifies a delivery, then in one transaction looks the event's id up in the ledger
// (stripe_webhook_events), runs the functions that are registered for its type, records the event, and
// commits. A copy of a known event is answered 200 at once and writes nothing. Of copies that race, the
// ledger's unique index lets one commit; the others are rolled back and answered 200.
//
// Register functions on [Handlers] with [On]; mount the Receiver on Echo with [Receiver.Mount], or use it
// as an http.Handler.
package webhooks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/stripeapi"
	"github.com/pook/stripeonce/schema"
)

// Receiver receives deliveries. It is an http.Handler and safe for concurrent use. Create it with New.
type Receiver struct {
	pool     *pgxpool.Pool
	queries  *db.Queries
	handlers *Handlers
	config   *Config
	secrets  []*secret
	gate     *gate
	buffer   *buffer
	copies   *copies
	turns    *turns
	stats    *recorder
	stripe   *stripeapi.Client

	ready    atomic.Bool   // the database has once been found ready
	pooled   atomic.Bool   // the way to it has been looked at
	checking chan struct{} // holds one while somebody looks
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
	h.frozen = true
	return &Receiver{
		pool:     pool,
		queries:  db.New(),
		handlers: h,
		config:   config,
		secrets:  newSecrets(config.Secrets),
		gate:     newGate(config.MaxInFlight),
		buffer:   &buffer{max: config.MaxBufferBytes},
		copies:   newCopies(),
		turns:    newTurns(),
		stats:    newRecorder(),
		// Once, and not for long: Stripe's delivery is what is tried again.
		stripe:   stripeapi.New(stripeapi.Config{Key: config.APIKey, Base: config.APIBase, Timeout: config.AskTimeout}),
		checking: make(chan struct{}, 1),
	}, nil
}

// Types lists the types that functions are registered for, as Handlers.Types does.
func (r *Receiver) Types() []string { return r.handlers.Types() }

// Handles is true if the event would run a function: one is registered for its type, it is of the mode
// that takes effect, and if it is thin there is an API key to fetch its object with.
func (r *Receiver) Handles(ev *Event) bool { return len(r.newWork(ev).handlers) > 0 }

// Ready returns nil if deliveries can take effect: the database answers, can be written to, has every
// migration, and is not behind a pooler that does not go together with the pool's settings; and the receiver
// is not shutting down. Otherwise the error says what is amiss and wraps ErrUnavailable.
func (r *Receiver) Ready(ctx context.Context) error {
	if r.gate.isClosed() {
		return fmt.Errorf("%w: %w", ErrUnavailable, ErrShutdown)
	}
	return r.checkReady(ctx)
}

// ensureReady asks the database only until it has once been found ready. One asks, the others wait for it.
func (r *Receiver) ensureReady(ctx context.Context) error {
	if r.ready.Load() {
		return nil
	}
	select {
	case r.checking <- struct{}{}:
		defer func() { <-r.checking }()
	case <-ctx.Done():
		return fmt.Errorf("%w: whether the database is ready is not known yet", ErrUnavailable)
	}
	if r.ready.Load() {
		return nil
	}
	return r.checkReady(ctx)
}

func (r *Receiver) checkReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.config.AcquireTimeout)
	defer cancel()
	if err := r.checkPooler(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if !r.config.AssumeMigrated {
		if err := r.checkMigrated(ctx); err != nil {
			return err
		}
	}
	if err := r.checkWritable(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	r.ready.Store(true)
	return nil
}

// checkWritable gives up a connection to a server that cannot be written to, so that the pool looks for
// another.
func (r *Receiver) checkWritable(ctx context.Context) error {
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	readOnly, err := r.queries.ServerIsReadOnly(ctx, conn)
	if err == nil && readOnly {
		_ = conn.Conn().Close(ctx)
		return ErrReadOnly
	}
	return err
}

func (r *Receiver) checkMigrated(ctx context.Context) error {
	applied, err := r.queries.MigrationList(ctx, r.pool)
	if err != nil && !isMissingTable(err) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if missing := missingMigrations(applied); len(missing) > 0 {
		r.ready.Store(false)
		return notMigrated(errors.New("it lacks " + strings.Join(missing, ", ") + ": run 'stripeonce migrate' or 'dbmate up'"))
	}
	return nil
}

func notMigrated(cause error) error {
	return fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrNotMigrated, cause)
}

func missingMigrations(applied []string) []string {
	has := map[string]bool{}
	for _, version := range applied {
		has[version] = true
	}
	var missing []string
	for _, m := range schema.Migrations() {
		if !has[m.Version] {
			missing = append(missing, m.Name)
		}
	}
	return missing
}

// Shutdown refuses further deliveries with 503 and waits until those under way are done, or ctx ends.
func (r *Receiver) Shutdown(ctx context.Context) error { return r.gate.close(ctx) }
