package operations

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/webhooks"
)

// The defaults of RetryOptions.
const (
	DefaultRetryEvery       = time.Minute
	DefaultRetryRate        = 5
	DefaultRetryMaxInterval = 24 * time.Hour
	// retrySpread is the time over which the first retries after a deploy are spread.
	retrySpread = 5 * time.Minute
	// settleTime is how long after its start a retrier schedules the failing events of another build for its own: a replica of the build
	// before, which a rolling deploy has not stopped yet, may have retried them with the handlers of that.
	settleTime = 15 * time.Minute
)

// RetryOptions configures RetryFailed. The zero value is fine.
type RetryOptions struct {
	// Every is how often RetryFailed looks for events that are due. Defaults to DefaultRetryEvery, a minute.
	Every time.Duration
	// Rate is the maximum number of retries a second. Defaults to DefaultRetryRate, 5.
	Rate int
	// MaxInterval is the longest time between two retries of an event. Defaults to DefaultRetryMaxInterval, 24 hours.
	MaxInterval time.Duration
	// Build names the build of the program. With a new one, each event that failed before the start is retried once, within five minutes:
	// the deploy may have fixed it. Defaults to a digest of the executable.
	Build string
}

// RetryStats are the counts of RetryFailed. Package metrics exports them to Prometheus.
type RetryStats struct {
	RunStats
	Applied     uint64 // events that were applied
	FailedAgain uint64 // retries that failed again
}

type retryCounts struct {
	runCounts
	applied, failedAgain atomic.Uint64
}

// RetryStats returns the counts of RetryFailed since New.
func (o *Operator) RetryStats() RetryStats {
	return RetryStats{o.retried.load(), o.retried.applied.Load(), o.retried.failedAgain.Load()}
}

// retryRunCounts are the counts of the record of one run of RetryFailed.
type retryRunCounts struct {
	Retried int `json:"retried"`
	Applied int `json:"applied"`
	Failed  int `json:"failed"`
}

// RetryFailed retries failing events until ctx ends, since Stripe stops after three days. It takes only events that failed in a
// receiver of the Applier's name (webhooks.Config.Name), whose handlers are the Applier's, and leaves parked and dismissed events.
// The first retry is about 15 minutes after the first failure (webhooks.FirstRetry). Each wait is twice the one before, up to
// RetryOptions.MaxInterval.
//
// The time of the next retry is written before each retry, so that a handler that ends the process does not do so at each start. Only
// one process per database and name retries at a time, and takes one event after the other. It holds one connection of the pool, so the pool
// must have at least two. Each run that retried something or failed is recorded (stripe_webhook_runs).
func (o *Operator) RetryFailed(ctx context.Context, options RetryOptions) error {
	named, ok := o.config.Applier.(interface{ Name() string })
	switch {
	case o.config.Applier == nil:
		return ErrNoApplier
	case !ok:
		return fmt.Errorf("%w: retries run handlers in this process: set Config.Applier to a Receiver", ErrRefused)
	case o.tooFewConns():
		return errTooFewConns("the retrier")
	case options.Every < 0 || options.Rate < 0 || options.MaxInterval < 0:
		return fmt.Errorf("%w: Every, Rate and MaxInterval must not be negative", ErrRefused)
	}
	r := &retrier{Operator: o, name: named.Name(), options: options, started: time.Now()}
	r.options.setDefaults()
	r.limiter = rate.NewLimiter(rate.Limit(r.options.Rate), 1)
	o.config.Logger.InfoContext(ctx, "retrying failed events", "receiver", r.name, "interval", r.options.Every, "rate", r.options.Rate, "max_delay", r.options.MaxInterval)
	r.failures = &failedRuns{Operator: o, kind: RunRetry, receiver: r.name, arguments: map[string]any{"receiver": r.name}}
	every := repetition{every: r.options.Every, afterFailure: r.options.Every, what: "retry", failures: r.failures}
	o.repeat(ctx, every, &o.retried.runCounts, r.run)
	ended, cancel := ofEnd(ctx)
	defer cancel()
	if err := r.schedule(ended); err != nil { // what failed in the last minute is not of another build after a restart
		o.config.Logger.WarnContext(ended, "could not schedule the retries of the newest failures: they are retried once more after the next start", "error", err)
	}
	return nil
}

func (options *RetryOptions) setDefaults() {
	if options.Every == 0 {
		options.Every = DefaultRetryEvery
	}
	if options.Rate == 0 {
		options.Rate = DefaultRetryRate
	}
	if options.MaxInterval == 0 {
		options.MaxInterval = DefaultRetryMaxInterval
	}
	if options.Build == "" {
		options.Build = digestOfProgram()
	}
}

// digestOfProgram returns a digest of the executable, or "unknown".
func digestOfProgram() string {
	path, err := os.Executable()
	if err != nil {
		return "unknown"
	}
	file, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer file.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		return "unknown"
	}
	return hex.EncodeToString(digest.Sum(nil)[:16])
}

// retrier is the state of RetryFailed between runs.
type retrier struct {
	*Operator
	name    string
	options RetryOptions
	limiter *rate.Limiter
	started time.Time

	failures *failedRuns
}

// run retries what is due, unless another process does.
func (r *retrier) run(ctx context.Context) (ran bool, err error) {
	return r.alone(ctx, string(RunRetry)+" "+r.name, func() error {
		if err := r.schedule(ctx); err != nil {
			return err
		}
		var sum retryRunCounts
		record := r.StartRun(RunRetry, map[string]any{"receiver": r.name})
		err := r.due(ctx, &sum, record)
		if sum.Retried > 0 {
			record.Finish(ctx, sum, err)
			r.failures.own = true
		}
		return err
	})
}

// schedule has each failing event of another build be retried soon after a deploy, and leaves out those that have been applied.
func (r *retrier) schedule(ctx context.Context) error {
	age := time.Since(r.started)
	_, err := r.queries.StripeWebhookFailureRetryOnce(ctx, r.pool, db.StripeWebhookFailureRetryOnceParams{
		Receiver: r.name, Build: r.options.Build, WithinSeconds: retrySpread.Seconds(), AgeSeconds: age.Seconds(), Settling: age < settleTime,
	})
	if err != nil {
		return fmt.Errorf("schedule the retries after a deploy: %w", err)
	}
	if err := r.queries.StripeWebhookFailureSettleDue(ctx, r.pool, r.name); err != nil {
		return fmt.Errorf("leave applied events out of the retries: %w", err)
	}
	return nil
}

// due retries one event after the other until none is due.
func (r *retrier) due(ctx context.Context, sum *retryRunCounts, record *RunRecording) error {
	for {
		if err := r.limiter.Wait(ctx); err != nil {
			return err
		}
		claimed, err := r.queries.StripeWebhookFailureClaim(ctx, r.pool, db.StripeWebhookFailureClaimParams{
			Receiver: r.name, Build: r.options.Build, FirstSeconds: webhooks.FirstRetry.Seconds(), MostSeconds: r.options.MaxInterval.Seconds(),
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("take the next event to retry: %w", err)
		}
		if err := r.retry(ctx, &claimed, sum); err != nil {
			return err
		}
		record.Progress(ctx, *sum, 0)
	}
}

// retry retries one event. If that did not take place, since the receiver is unavailable or ctx has ended, it is due again soon.
func (r *retrier) retry(ctx context.Context, claimed *db.StripeWebhookFailureClaimRow, sum *retryRunCounts) error {
	result := r.replayBy(ctx, claimed.EventID, "", false)
	log := r.config.Logger.With("event_id", claimed.EventID, "event_type", claimed.EventType, "retries", claimed.Retries)
	switch {
	case errors.Is(result.Err, webhooks.ErrUnavailable), ctx.Err() != nil && result.Err != nil:
		after, cancel := ofEnd(ctx)
		defer cancel()
		err := r.queries.StripeWebhookFailurePostpone(after, r.pool, r.options.Every.Seconds(), claimed.EventID)
		return errors.Join(result.Err, err)
	case result.Err != nil:
		sum.Retried++
		sum.Failed++
		r.retried.failedAgain.Add(1)
		log.WarnContext(ctx, "retry of a failed event failed", "next_retry_at", claimed.NextRetryAt, "error", result.Err)
		return nil
	}
	if result.Outcome != webhooks.OutcomeDuplicate { // else it was applied, parked or dismissed meanwhile
		sum.Retried++
		sum.Applied++
		r.retried.applied.Add(1)
		log.InfoContext(ctx, "retry of a failed event succeeded", "outcome", result.Outcome)
	}
	if err := r.queries.StripeWebhookFailureRetried(ctx, r.pool, claimed.EventID); err != nil {
		return fmt.Errorf("end the retries of %s: %w", claimed.EventID, err)
	}
	return nil
}
