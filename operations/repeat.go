package operations

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// RunStats counts the runs of what is done at each interval.
type RunStats struct {
	Runs          uint64    // completed runs
	Failed        uint64    // failed runs
	Skipped       uint64    // runs skipped because another process was doing the same
	LastCompleted time.Time // zero: none yet
}

type runCounts struct {
	completed, failed, skipped atomic.Uint64
	lastCompleted              atomic.Int64 // Unix seconds
}

func (c *runCounts) load() RunStats {
	s := RunStats{Runs: c.completed.Load(), Failed: c.failed.Load(), Skipped: c.skipped.Load()}
	if at := c.lastCompleted.Load(); at > 0 {
		s.LastCompleted = time.Unix(at, 0).UTC()
	}
	return s
}

// repetition says how something is repeated.
type repetition struct {
	first        time.Duration // until the first run
	every        time.Duration
	afterFailure time.Duration
	what         string      // in the log
	failures     *failedRuns // records the failed runs; nil: they are logged and counted alone
}

// repeat calls run at each interval until ctx ends, and counts how that ended. Its errors are logged.
func (o *Operator) repeat(ctx context.Context, r repetition, counts *runCounts, run func(context.Context) (ran bool, err error)) {
	for wait := r.first; ; {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = r.every
		if r.failures != nil {
			r.failures.own = false
		}
		switch ran, err := run(ctx); {
		case err != nil && ctx.Err() != nil: // stopped by the caller
		case err != nil:
			counts.failed.Add(1)
			o.config.Logger.ErrorContext(ctx, r.what+" failed", "error", err)
			if r.failures != nil {
				r.failures.failed(ctx, err)
			}
			wait = r.afterFailure
		case ran:
			counts.completed.Add(1)
			counts.lastCompleted.Store(time.Now().Unix())
			if r.failures != nil {
				r.failures.completed(ctx)
			}
		default:
			counts.skipped.Add(1)
		}
	}
}

// tooFewConns reports whether the pool has no connection left for work while another one holds its lock (alone).
func (o *Operator) tooFewConns() bool { return o.pool.Config().MaxConns < 2 }

func errTooFewConns(holder string) error {
	return fmt.Errorf("%w: the pool must have at least 2 connections (pool_max_conns), since %s holds one", ErrRefused, holder)
}

// alone calls work unless another process does work of the same kind, a RunKind or more. The lock belongs to a transaction that
// does nothing else. If its connection is lost, the work continues, and another process may begin the same, which is harmless.
func (o *Operator) alone(ctx context.Context, kind string, work func() error) (ran bool, err error) {
	tx, err := o.pool.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it holds nothing but the lock
	if mine, err := o.queries.ServerWorkLockTry(ctx, tx, kind); err != nil || !mine {
		return false, err
	}
	return true, work()
}
