package operations

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pook/stripeonce/webhooks"
)

const (
	// overlap is how far each run of ReconcileEvery goes back into the time of the last one, since Stripe's
	// lists may show an event later than others of its second.
	overlap = time.Hour
	// firstSince is how far back the first run goes at least: as long as Stripe tries to deliver.
	firstSince = 3 * 24 * time.Hour
	// againSoon is when a run that failed is made again, if that is before its time.
	againSoon = time.Minute
	// grace is how old an event must be for its absence to count as missing: younger ones may be on their way.
	grace = time.Minute
)

// Stats are the figures of ReconcileEvery. The package metrics offers them to Prometheus.
type Stats struct {
	Runs    uint64 // that came to their end
	Failed  uint64 // that did not
	Skipped uint64 // since another process was at it
	// Missing counts the events that were found missing, but for those that were created within a minute
	// (or within the interval, if that is shorter): Stripe may have been delivering them.
	Missing       uint64
	Applied       uint64
	FailedEvents  uint64
	LastCompleted time.Time // zero: none yet
}

type stats struct {
	runs, failed, skipped, missing, applied, failedEvents atomic.Uint64
	lastCompleted                                         atomic.Int64 // Unix seconds
}

// Stats returns the figures since New.
func (o *Operator) Stats() Stats {
	s := Stats{
		Runs: o.stats.runs.Load(), Failed: o.stats.failed.Load(), Skipped: o.stats.skipped.Load(),
		Missing: o.stats.missing.Load(), Applied: o.stats.applied.Load(), FailedEvents: o.stats.failedEvents.Load(),
	}
	if at := o.stats.lastCompleted.Load(); at > 0 {
		s.LastCompleted = time.Unix(at, 0).UTC()
	}
	return s
}

// ReconcileEvery reconciles at once and then at each interval, until ctx ends. Of the processes on one
// database, one does it at a time. The first run goes back to the last event in the ledger, and three days
// at least; each later one to the start of the last that came to its end, and an hour more.
//
// accounts are connected accounts whose events are looked for beside the platform's own, which do not have
// them. It holds one of the pool's connections while it runs, and refuses a pool of one.
func (o *Operator) ReconcileEvery(ctx context.Context, every time.Duration, accounts ...string) error {
	switch {
	case o.pool.Config().MaxConns < 2:
		return fmt.Errorf("%w: the pool must have 2 connections at least, since one is held while it runs", ErrRefused)
	case every <= 0:
		return fmt.Errorf("%w: the interval must be more than 0", ErrRefused)
	case o.config.APIKey == "":
		return ErrNoAPIKey
	case o.config.Applier == nil:
		return ErrNoApplier
	}
	b := &background{Operator: o, every: every, accounts: append([]string{""}, accounts...)}
	for {
		start := time.Now()
		wait := every
		switch ran, err := b.run(ctx); {
		case err != nil && ctx.Err() != nil: // it was told to stop
		case err != nil:
			o.stats.failed.Add(1)
			o.config.Logger.ErrorContext(ctx, "reconcile failed", "error", err)
			wait = min(every, againSoon)
		case ran:
			b.from = start.Add(-overlap)
			o.stats.runs.Add(1)
			o.stats.lastCompleted.Store(time.Now().Unix())
		default:
			o.stats.skipped.Add(1)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// background is what ReconcileEvery knows from run to run.
type background struct {
	*Operator
	every    time.Duration
	accounts []string
	// from is how far back the next run goes: it moves on when a run has come to its end. Zero: not known yet.
	from time.Time
}

// run reconciles, unless another process does. The lock is that of a transaction in which nothing
// else happens; if its connection is lost, the run goes on, and at worst another one does the same.
func (b *background) run(ctx context.Context) (ran bool, err error) {
	tx, err := b.pool.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it held nothing but the lock
	if b.from.IsZero() {                          // before the lock: deliveries that arrive meanwhile must not hide what was before them
		newest, err := b.queries.StripeWebhookEventNewest(ctx, tx)
		if err != nil {
			return false, err
		}
		b.from = time.Now().Add(-max(time.Since(newest)+overlap, firstSince))
	}
	if mine, err := b.queries.ReconcileLockTry(ctx, tx); err != nil || !mine {
		return false, err
	}
	for _, account := range b.accounts {
		if err := b.reconcile(ctx, account); err != nil {
			return false, err
		}
	}
	return true, nil
}

// reconcile reconciles one account. What could not be applied since something was unavailable leaves no
// record, so the run counts as not come to its end.
func (b *background) reconcile(ctx context.Context, account string) error {
	young := time.Now().Add(-min(b.every, grace))
	since := min(time.Since(b.from), MaxSince)
	var unavailable error
	sum, err := b.Reconcile(ctx, ReconcileOptions{Since: since, Account: account, Each: func(m Missing) {
		if m.CreatedAt.Before(young) {
			b.stats.missing.Add(1)
		}
		if errors.Is(m.Err, webhooks.ErrUnavailable) {
			unavailable = m.Err
		}
		if m.Err != nil {
			b.stats.failedEvents.Add(1)
			b.config.Logger.ErrorContext(ctx, "a missing event fails", "event_id", m.EventID, "event_type", m.EventType, "error", m.Err)
			return
		}
		b.stats.applied.Add(1)
		b.config.Logger.WarnContext(ctx, "a missing event was applied", "event_id", m.EventID, "event_type", m.EventType, "outcome", m.Outcome)
	}})
	if err != nil {
		return err
	}
	b.config.Logger.InfoContext(ctx, "reconciled", "account", account, "since", since.Round(time.Second), "listed", sum.Listed,
		"missing", sum.Missing, "applied", sum.Applied, "failed", sum.Failed)
	return unavailable
}
