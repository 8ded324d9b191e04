package operations

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// VerifyStats are the counts of VerifyEvery. Package metrics exports them to Prometheus.
type VerifyStats struct {
	Runs          uint64 // completed runs
	Failed        uint64 // runs with an error; what could be compared was
	Skipped       uint64 // runs skipped because another process was comparing
	Checked       uint64 // objects
	Drifted       uint64 // objects that differed from their rows, or that one side did not have
	Fixed         uint64 // drifted objects that were stored
	LastCompleted time.Time
}

type verifyStats struct {
	runs, failed, skipped, checked, drifted, fixed atomic.Uint64
	lastCompleted                                  atomic.Int64 // Unix seconds
}

// VerifyStats returns the counts of VerifyEvery since New.
func (o *Operator) VerifyStats() VerifyStats {
	s := VerifyStats{
		Runs: o.verified.runs.Load(), Failed: o.verified.failed.Load(), Skipped: o.verified.skipped.Load(),
		Checked: o.verified.checked.Load(), Drifted: o.verified.drifted.Load(), Fixed: o.verified.fixed.Load(),
	}
	if at := o.verified.lastCompleted.Load(); at > 0 {
		s.LastCompleted = time.Unix(at, 0).UTC()
	}
	return s
}

// VerifyEvery compares the objects of some types with Stripe at each interval, stores those that differ, and calls their OnChange,
// until ctx ends: for changes of which Stripe sends no event, such as those of entitlements by the product catalog. A run that found a
// difference is recorded (stripe_webhook_runs), and logged as a warning.
//
// The first run begins after a random part of the interval, so that processes that start together, or often, spread their runs. Only
// one process per database compares at a time. Each process with VerifyEvery compares once an interval: call it in one of them, or
// choose a longer interval. A run holds one connection of the pool, so the pool must have at least two.
func (o *Operator) VerifyEvery(ctx context.Context, every time.Duration, jobs ...Job) error {
	switch {
	case o.pool.Config().MaxConns < 2:
		return fmt.Errorf("%w: the pool must have at least 2 connections, since a comparison holds one", ErrRefused)
	case every <= 0:
		return fmt.Errorf("%w: the interval must be more than 0", ErrRefused)
	case len(jobs) == 0:
		return fmt.Errorf("%w: VerifyEvery has no jobs", ErrRefused)
	}
	for wait := rand.N(every); ; wait = every {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		switch ran, err := o.verifyAlone(ctx, jobs); {
		case err != nil && ctx.Err() != nil: // stopped by the caller
		case err != nil:
			o.verified.failed.Add(1)
			o.config.Logger.ErrorContext(ctx, "comparing rows with Stripe failed", "error", err)
		case ran:
			o.verified.runs.Add(1)
			o.verified.lastCompleted.Store(time.Now().Unix())
		default:
			o.verified.skipped.Add(1)
		}
	}
}

// verifyAlone compares unless another process does. The lock belongs to a transaction that does nothing else.
func (o *Operator) verifyAlone(ctx context.Context, jobs []Job) (ran bool, err error) {
	tx, err := o.pool.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it holds nothing but the lock
	if mine, err := o.queries.VerifyLockTry(ctx, tx); err != nil || !mine {
		return false, err
	}
	started := time.Now().UTC()
	var sum Counts
	var types []string
	var failed []error
	for _, job := range jobs {
		of, err := job.Verify(ctx)
		sum = Counts{sum.Checked + of.Checked, sum.Drifted + of.Drifted, sum.Fixed + of.Fixed, sum.Unknown + of.Unknown}
		types = append(types, job.Type)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", job.Type, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	o.verified.checked.Add(uint64(sum.Checked))
	o.verified.drifted.Add(uint64(sum.Drifted))
	o.verified.fixed.Add(uint64(sum.Fixed))
	err = errors.Join(failed...)
	if sum.Drifted > 0 {
		o.config.Logger.WarnContext(ctx, "rows differed from Stripe", "types", types, "checked", sum.Checked, "drifted", sum.Drifted, "fixed", sum.Fixed)
		o.RecordRun(ctx, &RunRecord{Kind: RunVerify, Arguments: map[string]any{"types": types}, Counts: sum, Started: started, Err: err})
	}
	return true, err
}
