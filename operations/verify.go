package operations

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/pook/stripeonce/internal/engine"
)

// VerifyStats are the counts of VerifyEvery. Package metrics exports them to Prometheus. A failed run has compared what it could.
type VerifyStats struct {
	RunStats
	Checked uint64 // objects
	Drifted uint64 // objects that differed from their rows, or that one side did not have
	Fixed   uint64 // drifted objects that were stored
}

type verifyStats struct {
	runCounts
	checked, drifted, fixed atomic.Uint64
}

// VerifyStats returns the counts of VerifyEvery since New.
func (o *Operator) VerifyStats() VerifyStats {
	return VerifyStats{o.verified.load(), o.verified.checked.Load(), o.verified.drifted.Load(), o.verified.fixed.Load()}
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
	case o.tooFewConns():
		return errTooFewConns("a comparison")
	case every <= 0:
		return fmt.Errorf("%w: the interval must be more than 0", ErrRefused)
	case len(jobs) == 0:
		return fmt.Errorf("%w: VerifyEvery has no jobs", ErrRefused)
	}
	once := repetition{first: rand.N(every), every: every, afterFailure: every, what: "comparing rows with Stripe"}
	o.repeat(ctx, once, &o.verified.runCounts, func(ctx context.Context) (bool, error) {
		return o.alone(ctx, string(RunVerify), func() error { return o.verifyAll(ctx, jobs) })
	})
	return nil
}

// verifyAll compares the objects of all jobs. It continues after one that fails.
func (o *Operator) verifyAll(ctx context.Context, jobs []Job) error {
	var types []string
	for _, job := range jobs {
		types = append(types, job.Type)
	}
	run := o.StartRun(RunVerify, map[string]any{"types": types})
	var sum ComparisonCounts
	var failed []error
	for _, job := range jobs {
		of, err := job.Verify(ctx, func(ctx context.Context, of engine.Verified) error {
			run.VerifyProgress(ctx, sum.plus(of))
			return nil
		})
		sum = sum.plus(of)
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
	err := errors.Join(failed...)
	if sum.Drifted > 0 {
		o.config.Logger.WarnContext(ctx, "rows differed from Stripe", "object_types", types, "checked", sum.Checked, "drifted", sum.Drifted, "fixed", sum.Fixed)
		run.Finish(ctx, sum, err)
		return err
	}
	run.Discard(ctx)
	return err
}
