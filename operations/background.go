package operations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pook/stripeonce/webhooks"
)

const (
	// overlap is how far each run of ReconcileEvery reaches back before the start of the previous one, since an event may
	// appear in Stripe's lists late.
	overlap = time.Hour
	// firstSince is how far back the first run goes at least: as long as Stripe retries a delivery.
	firstSince = 3 * 24 * time.Hour
	// retryInterval is the pause after a failed run, unless the interval of ReconcileEvery is shorter.
	retryInterval = time.Minute
	// grace is how old a missing event must be to be counted in ReconcileStats: Stripe may still be delivering a newer one.
	grace = time.Minute
)

// ReconcileStats are the counts of ReconcileEvery. Package metrics exports them to Prometheus.
type ReconcileStats struct {
	RunStats
	// Missing counts missing events that were more than a minute old (or older than the interval, if that is shorter).
	// Stripe may still have been delivering newer ones.
	Missing      uint64
	Applied      uint64
	FailedEvents uint64
}

type stats struct {
	runCounts
	missing, applied, failedEvents atomic.Uint64
}

// ReconcileStats returns the counts of ReconcileEvery since New.
func (o *Operator) ReconcileStats() ReconcileStats {
	return ReconcileStats{o.stats.load(), o.stats.missing.Load(), o.stats.applied.Load(), o.stats.failedEvents.Load()}
}

// ReconcileEvery reconciles immediately and then at each interval, until ctx ends. Only one process per database reconciles
// at a time. The first run goes back to the last event in the ledger, and at least three days. Each later run goes back to
// one hour before the start of the last completed run.
//
// accounts are connected accounts to reconcile in addition to the platform's own. A run holds one connection of the pool,
// so the pool must have at least two. Each run that found missing events or failed is recorded (stripe_webhook_runs).
func (o *Operator) ReconcileEvery(ctx context.Context, every time.Duration, accounts ...string) error {
	switch {
	case o.tooFewConns():
		return errTooFewConns("reconciliation")
	case every <= 0:
		return fmt.Errorf("%w: the interval must be more than 0", ErrRefused)
	case o.config.APIKey == "":
		return ErrNoAPIKey
	case o.config.Applier == nil:
		return ErrNoApplier
	}
	b := &background{Operator: o, every: every, accounts: append([]string{""}, accounts...)}
	b.failures = &failedRuns{Operator: o, kind: RunReconcile, arguments: map[string]any{"every": every.String()}}
	o.repeat(ctx, repetition{every: every, afterFailure: min(every, retryInterval), what: "reconcile", failures: b.failures}, &o.stats.runCounts, b.run)
	return nil
}

// background is the state of ReconcileEvery between runs.
type background struct {
	*Operator
	every    time.Duration
	accounts []string
	// from is how far back the next run goes. It advances when a run completes. Zero: not known yet.
	from time.Time

	failures *failedRuns
}

// run reconciles unless another process does.
func (b *background) run(ctx context.Context) (ran bool, err error) {
	start := time.Now()
	if b.config.SoleReceiver {
		if others, err := b.OtherReceivers(ctx); err != nil || len(others) > 0 {
			return false, errors.Join(err, errOthers(others))
		}
	}
	if b.from.IsZero() { // before the lock: deliveries that arrive meanwhile must not hide a gap before them
		newest, err := b.queries.StripeWebhookEventNewest(ctx, b.pool)
		if err != nil {
			return false, err
		}
		b.from = time.Now().Add(-max(time.Since(newest)+overlap, firstSince))
	}
	return b.alone(ctx, string(RunReconcile), func() error {
		for _, account := range b.accounts {
			if err := b.reconcile(ctx, account); err != nil {
				return err
			}
		}
		b.from = start.Add(-overlap)
		return nil
	})
}

// reconcile reconciles one account. It fails if an event could not be applied because the receiver was unavailable: such
// an event has no failure record, so the next run must find it again.
func (b *background) reconcile(ctx context.Context, account string) error {
	young := time.Now().Add(-min(b.every, grace))
	since := min(time.Since(b.from), EventRetention)
	var unavailable error
	sum, err := b.Reconcile(ctx, ReconcileOptions{Since: since, Account: account, Each: func(m MissingEvent) {
		if m.CreatedAt.Before(young) {
			b.stats.missing.Add(1)
		}
		if errors.Is(m.Err, webhooks.ErrUnavailable) {
			unavailable = m.Err
		}
		if m.Err != nil {
			b.stats.failedEvents.Add(1)
			b.config.Logger.ErrorContext(ctx, "could not apply a missing event", "event_id", m.EventID, "event_type", m.EventType, "error", m.Err)
			return
		}
		b.stats.applied.Add(1)
		b.config.Logger.WarnContext(ctx, "applied a missing event", "event_id", m.EventID, "event_type", m.EventType, "outcome", m.Outcome)
	}})
	b.failures.own = sum.Missing > 0
	if err != nil {
		return err
	}
	b.config.Logger.InfoContext(ctx, "reconciled", "account_id", account, "since", since.Round(time.Second), "listed", sum.Listed,
		"missing", sum.Missing, "applied", sum.Applied, "failed", sum.Failed, "waiting", sum.Waiting)
	return unavailable
}

// maxReceiversLookedAt is how many of the newest rows of the ledger Receivers reads.
const maxReceiversLookedAt = 100_000

// Receivers returns the names of the receivers that recorded any of the newest 100,000 events of the ledger, sorted.
func (o *Operator) Receivers(ctx context.Context) ([]string, error) {
	names, err := o.queries.StripeWebhookEventReceivers(ctx, o.pool, maxReceiversLookedAt)
	if err != nil {
		return nil, fmt.Errorf("list the receivers of the newest events: %w", err)
	}
	return names, nil
}

// OtherReceivers returns those of Receivers that are not the Applier. It is empty if the Applier is no Receiver.
func (o *Operator) OtherReceivers(ctx context.Context) ([]string, error) {
	here, ok := o.config.Applier.(interface{ Name() string })
	if !ok {
		return nil, nil
	}
	names, err := o.Receivers(ctx)
	return slices.DeleteFunc(names, func(name string) bool { return name == here.Name() }), err
}

func errOthers(others []string) error {
	if len(others) == 0 {
		return nil
	}
	return fmt.Errorf("%w: the ledger has events of the receiver %q, whose handlers this one lacks: reconcile in its application, or unset Config.SoleReceiver (--reconcile-others)", ErrRefused, others[0])
}
