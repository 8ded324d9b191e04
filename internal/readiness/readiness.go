// Package readiness finds out whether deliveries can take effect on a database, before and after errors that cast doubt
// on it.
//
// # States
//
// A Checker is ready or not. It becomes ready when the checks pass, and stays so until somebody calls [Checker.Doubt].
// While it is ready, [Checker.Ensure] costs nothing.
//
// # The trial
//
// Checks cannot tell everything: a policy, a trigger, a setting of the session. So the first [Checker.Ready] also tries
// a delivery: it writes rows with random ids to every table that deliveries write, in the pool's own query exec mode,
// reads them back, and rolls back. After Doubt, deliveries wait until a trial has passed.
package readiness

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/admission"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpool"
	"github.com/pook/stripeonce/internal/projection"
	"github.com/pook/stripeonce/schema"
)

// Config is what a Checker checks. Every field is required but Projections and the booleans.
type Config struct {
	Pool        *pgpool.Pool
	Projections []projection.Projection // whose Tables and Trials are checked, too
	// Timeout bounds a trial, and LockTimeout each wait for a lock in it: webhooks.Config's.
	Timeout, LockTimeout time.Duration
	// Fetches reports whether there is an API key: then serving also removes rows of thin events.
	Fetches bool
	// KeepsPayloads reports whether serving stores the payloads of events.
	KeepsPayloads bool
	// AssumeMigrated skips what is read from the table stripeonce_migrations.
	AssumeMigrated bool
	Logger         *slog.Logger
}

// Checker checks one database. It is safe for concurrent use. Create it with New.
type Checker struct {
	Config
	queries *db.Queries

	ready      atomic.Bool   // the database has been found ready, and not been doubted since
	served     atomic.Bool   // it has once been found ready
	refused    atomic.Bool   // somebody was told that it is not ready, and nobody since that it is
	checking   chan struct{} // holds one while a delivery's check is in progress
	lastCommit atomic.Int64  // when an event last took effect, in nanoseconds since 1970

	trialState atomic.Int32 // one of the states of the trial
	trials     admission.Flights[error]

	exposed atomic.Bool // it has been warned of tables that anybody may read
	pooled  atomic.Bool // a pooler has been looked for
	newer   atomic.Bool // it has been told of migrations of a newer version

	forgetful atomic.Bool // it has been warned of commits that are not durable
}

// New returns a Checker that knows nothing of the database yet.
func New(config Config) *Checker {
	return &Checker{Config: config, queries: db.New(), checking: make(chan struct{}, 1)}
}

// poll is how often Ready, while it waits for a connection, looks whether events take effect.
const poll = 100 * time.Millisecond

// rollbackTimeout bounds the rollback of a check.
const rollbackTimeout = 5 * time.Second

// Ready returns nil if deliveries can take effect. While every connection of the pool is in use, an event that takes
// effect is proof enough. The error wraps fault.ErrUnavailable.
func (c *Checker) Ready(ctx context.Context) error { return c.report(c.isReady(ctx)) }

// report logs when the database is ready after somebody has been told that it is not.
func (c *Checker) report(err error) error {
	if err != nil {
		c.refused.Store(true)
	} else if c.refused.CompareAndSwap(true, false) {
		c.Logger.Info("ready again")
	}
	return err
}

func (c *Checker) isReady(ctx context.Context) error {
	began := time.Now().UnixNano()
	for {
		err := c.check(ctx, poll, c.checkProbe, c.trialState.Load() != trialPassed)
		busy := pgpool.IsNotAcquired(err)
		if (busy || errors.Is(err, errTrialInProgress)) && c.ready.Load() && c.lastCommit.Load() > began {
			return nil
		}
		if err == nil || !busy {
			return err
		}
		waiting := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
		if !waiting || time.Now().UnixNano()-began > int64(c.Pool.AcquireTimeout) {
			return err
		}
	}
}

// Ensure returns nil at once if the database has been found ready. Otherwise one caller checks it, and the others wait.
func (c *Checker) Ensure(ctx context.Context) error {
	if c.ready.Load() {
		return nil
	}
	select {
	case c.checking <- struct{}{}:
		defer func() { <-c.checking }()
	case <-ctx.Done():
		return fault.Unavailable(errors.New("the first check of the database has not finished yet"))
	}
	if c.ready.Load() {
		return nil
	}
	return c.report(c.check(ctx, c.Pool.AcquireTimeout, c.checkReady, c.trialState.Load() == trialNeeded))
}

// Doubt has the next delivery wait until a trial has passed.
func (c *Checker) Doubt() {
	c.trialState.Store(trialNeeded)
	c.ready.Store(false)
}

// EventCommitted notes that an event took effect.
func (c *Checker) EventCommitted() { c.lastCommit.Store(time.Now().UnixNano()) }

func (c *Checker) check(ctx context.Context, acquireLimit time.Duration, look func(context.Context, *pgxpool.Conn) error, withTrial bool) error {
	err := c.onConn(ctx, acquireLimit, look)
	if err == nil && withTrial {
		err = c.awaitTrial(ctx)
	}
	if err == nil && c.trialState.Load() != trialNeeded { // as it is if somebody has doubted meanwhile
		c.ready.Store(true)
		c.served.Store(true)
	}
	return err
}

// onConn runs a check on a connection of the pool, and makes its error an infrastructure failure.
func (c *Checker) onConn(ctx context.Context, acquireLimit time.Duration, look func(context.Context, *pgxpool.Conn) error) error {
	return c.Pool.DoWithin(ctx, acquireLimit, c.served.Load(), func(conn *pgxpool.Conn) error {
		err := fault.Classify(look(ctx, conn), fault.Circumstances{})
		if err != nil && !errors.Is(err, fault.ErrUnavailable) {
			return fault.Unavailable(err)
		}
		return err
	})
}

// writes are the tables that the receiver itself uses. With an API key it also removes the provisional row of a thin
// event whose twin is recorded.
var writes = []projection.Table{
	{Name: "stripe_webhook_events", Privileges: []string{"SELECT", "INSERT", "UPDATE"}},
	{Name: "stripe_webhook_failures", Privileges: []string{"SELECT", "INSERT", "UPDATE"}},
	{Name: "stripe_erasures", Privileges: []string{"SELECT", "INSERT"}},
}

// needs returns the tables that serving needs, with the privileges on each.
func (c *Checker) needs() []projection.Table {
	needs := slices.Clone(writes)
	for _, p := range c.Projections {
		needs = append(needs, p.Tables...)
	}
	if c.Fetches {
		needs = append(needs, projection.Table{Name: "stripe_webhook_events", Privileges: []string{"DELETE"}})
	}
	if c.KeepsPayloads {
		needs = append(needs, projection.Table{Name: "stripe_webhook_payloads", Privileges: []string{"SELECT", "INSERT"}})
	}
	if !c.AssumeMigrated {
		needs = append(needs, projection.Table{Name: schema.MigrationsTable, Privileges: []string{"SELECT"}})
	}
	return needs
}

// tables returns the names of the tables that serving needs, each once.
func (c *Checker) tables() (names []string) {
	for _, table := range c.needs() {
		if !slices.Contains(names, table.Name) {
			names = append(names, table.Name)
		}
	}
	return names
}
