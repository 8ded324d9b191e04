package operations

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/stripeapi"
)

// The default rates of a backfill, in requests a second. They are four fifths of the reads that Stripe permits, 100 a second in live
// mode and 25 in a sandbox (https://docs.stripe.com/rate-limits), and leave the rest to the application. The job has the rate:
// mirror.VerifyConfig.Rate, subscriptions.VerifyConfig.Rate.
const (
	BackfillRateLive    = 80
	BackfillRateSandbox = 20
)

const (
	// maxResume is how long an interrupted backfill can be resumed after its last page.
	maxResume = 7 * 24 * time.Hour
	// finishPage is how long a page may go on after the context of Backfill has ended.
	finishPage = 5 * time.Second
	// The lock of a process that was killed is free as soon as PostgreSQL notices.
	lockAttempts = 10
	lockPause    = 100 * time.Millisecond
)

// Job imports and compares the objects of one type. [github.com/pook/stripeonce/subscriptions.NewJob] returns the one of subscriptions,
// and [github.com/pook/stripeonce/mirror.Jobs] those of other types. Pass them to [Operator.Backfill] and [Operator.VerifyEvery]. Its
// field Type is the type, such as "invoice"; the other fields are for this package alone.
type Job = engine.Job

// BackfillOptions configures Backfill.
type BackfillOptions struct {
	// Jobs are the types to import, one after another. Required.
	Jobs []Job
	// Since limits the import to objects that Stripe created within this time before now. 0: all objects.
	Since time.Duration
	// Arguments are further settings that distinguish one backfill from another, such as the connected accounts. The types, Since,
	// Config.AccountID and the mode of Config.APIKey always do. A run is resumed only with the same settings. Optional.
	Arguments map[string]any
	// Restart begins anew, even if there is an unfinished run to resume.
	Restart bool
	// Resumed is called with the run that is resumed, before it continues. Optional.
	Resumed func(Run, ComparisonCounts)
	// Progress is called after each page of Stripe's lists. Optional.
	Progress func(BackfillProgress)
}

// ComparisonCounts count the objects of a backfill or of another comparison with Stripe.
type ComparisonCounts struct {
	Checked int `json:"checked"` // objects of Stripe's lists and of the tables
	Drifted int `json:"drifted"` // checked objects that were missing here, differed, or are unknown to Stripe
	Fixed   int `json:"fixed"`   // drifted objects that now match Stripe's
	// Unknown is how many of the drifted ones Stripe does not have.
	Unknown int `json:"-"`
}

// plus adds the counts of one type.
func (c ComparisonCounts) plus(of engine.Verified) ComparisonCounts {
	return ComparisonCounts{c.Checked + of.Checked, c.Drifted + of.Drifted, c.Fixed + of.Fixed, c.Unknown + of.Unknown}
}

// BackfillProgress is the progress of a backfill after a page of one of Stripe's lists.
type BackfillProgress struct {
	ComparisonCounts
	Type string // of the job
	// Created is when Stripe created the last object of the page. The lists go from the newest to the oldest.
	Created time.Time
	Since   time.Time // how far the lists go back; zero: to their ends
}

// backfillPosition is the column position of a run.
type backfillPosition struct {
	Type string `json:"type"`
	engine.Position
}

// Backfill imports the objects that exist at Stripe: it stores each object that is missing here or differs, unless a delivery brought a
// newer state. It goes through each job's lists a page at a time, and records after each page how far it is (stripe_webhook_runs). So if it
// was interrupted, even by a crash, it continues behind the last page when it is called again with the same arguments, within seven
// days. The counts are those of the whole run. A run that finds nothing to store leaves no row.
//
// Only one process per database backfills at a time: another call returns ErrRefused. It holds one connection of the pool, which must
// have at least two. When ctx ends, it stops after the current page, or five seconds later.
//
// Where Stripe refuses a type, Backfill continues with the next one, and returns the error at the end. After any other error it stops,
// and can be resumed.
func (o *Operator) Backfill(ctx context.Context, options BackfillOptions) (ComparisonCounts, error) {
	switch {
	case len(options.Jobs) == 0:
		return ComparisonCounts{}, errors.New("BackfillOptions.Jobs is empty")
	case o.tooFewConns():
		return ComparisonCounts{}, errTooFewConns("a backfill")
	}
	b := &backfill{recorder: recorder{Operator: o, kind: RunBackfill, started: time.Now().UTC()}, options: options}
	var err error
	if b.identity, err = o.backfillArguments(&options); err != nil {
		return ComparisonCounts{}, err
	}
	b.arguments = b.identity
	if b.lock, err = o.backfillLock(ctx); err != nil {
		return ComparisonCounts{}, err
	}
	defer b.lock.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it holds nothing but the lock
	if err := b.resume(ctx); err != nil {
		return ComparisonCounts{}, err
	}
	err = b.end(ctx, b.run(ctx))
	return b.sum, err
}

// backfillArguments returns what tells one backfill from another.
func (o *Operator) backfillArguments(options *BackfillOptions) (json.RawMessage, error) {
	types := make([]string, len(options.Jobs))
	for i, job := range options.Jobs {
		types[i] = job.Type
	}
	arguments := map[string]any{"types": types, "account_id": o.config.AccountID}
	if livemode, known := stripeapi.Mode(o.config.APIKey); known {
		arguments["livemode"] = livemode
	}
	if options.Since > 0 {
		arguments["since"] = options.Since.String()
	}
	maps.Copy(arguments, options.Arguments)
	return json.Marshal(arguments)
}

// backfillLock returns a transaction that holds the lock of backfills.
func (o *Operator) backfillLock(ctx context.Context) (pgx.Tx, error) {
	tx, err := o.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		mine, err := o.queries.ServerWorkLockTry(ctx, tx, string(RunBackfill))
		if err == nil && mine {
			return tx, nil
		}
		if err == nil && attempt == lockAttempts {
			err = o.alreadyRunning(ctx)
		}
		if err == nil {
			select {
			case <-time.After(lockPause):
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		_ = tx.Rollback(context.WithoutCancel(ctx))
		return nil, err
	}
}

// alreadyRunning returns an error that says which backfill is running.
func (o *Operator) alreadyRunning(ctx context.Context) error {
	const wait = "wait for its end, or stop it and run this one again"
	row, err := o.queries.StripeWebhookRunUnfinished(ctx, o.pool, string(RunBackfill), nil)
	if err != nil { // it has not completed a page yet
		return fmt.Errorf("%w: a backfill is already running on this database: %s", ErrRefused, wait)
	}
	return fmt.Errorf("%w: a backfill is already running on this database: run %s of %s on %s, since %s, whose last page was %s ago: %s", ErrRefused, row.ID,
		cmp.Or(engine.OrZero(row.Operator), "somebody"), cmp.Or(engine.OrZero(row.Host), "another host"), row.StartedAt.Local().Format(time.DateTime),
		time.Since(row.UpdatedAt).Round(time.Second), wait)
}

// backfill is one run of Backfill.
type backfill struct {
	recorder
	options  BackfillOptions
	identity json.RawMessage // the arguments, which tell the run from another
	lock     pgx.Tx
	from     backfillPosition // where an interrupted run is resumed
	sum      ComparisonCounts
}

// resume finds the interrupted run of these arguments, or ends it if it is not to be resumed.
func (b *backfill) resume(ctx context.Context) error {
	row, err := b.queries.StripeWebhookRunUnfinished(ctx, b.pool, string(b.kind), b.identity)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look for a run to resume: %w", err)
	case b.options.Restart || time.Since(row.UpdatedAt) > maxResume:
		return b.queries.StripeWebhookRunAbandon(ctx, b.pool, db.StripeWebhookRunAbandonParams{
			Kind: row.Kind, Arguments: b.identity, Error: runError(errors.New("it was interrupted, and begun anew")),
		})
	}
	if err := cmp.Or(json.Unmarshal(row.Position, &b.from), json.Unmarshal(row.Counts, &b.sum)); err != nil {
		return fmt.Errorf("the position of run %s: %w; begin anew with Restart (--restart)", row.ID, err)
	}
	b.id, b.started, b.inserted = row.ID, row.StartedAt.UTC(), true
	if b.options.Resumed != nil {
		b.options.Resumed(runOf(&row), b.sum)
	}
	return nil
}

// since returns how far the lists go back: as far as when the run was started.
func (b *backfill) since() time.Time {
	if b.options.Since == 0 {
		return time.Time{}
	}
	return b.started.Add(-b.options.Since).Truncate(time.Second)
}

// run runs the jobs that the interrupted run has not completed.
func (b *backfill) run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-time.After(finishPage):
			cancel()
		case <-work.Done():
		}
	})()
	first := max(0, slices.IndexFunc(b.options.Jobs, func(job Job) bool { return job.Type == b.from.Type }))
	var failed []error
	for _, job := range b.options.Jobs[first:] {
		if b.inserted && b.from.Type != job.Type {
			b.from = backfillPosition{Type: job.Type}
			if err := b.progress(work, b.sum, b.from, 0); err != nil {
				return err
			}
		}
		completed, err := b.job(ctx, work, job)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !completed && !stripeapi.OnlyRefusals(err):
			return errors.Join(append(failed, fmt.Errorf("%s: %w", job.Type, err))...)
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", job.Type, err))
		}
	}
	if len(failed) > 0 {
		return &incompleteError{errors.Join(failed...)}
	}
	return nil
}

// share returns how much of the run is done: of each job the part of the time back to Since. 0: not known.
func (b *backfill) share(job Job, created time.Time) float64 {
	since := b.since()
	if since.IsZero() || created.IsZero() {
		return 0
	}
	before := slices.IndexFunc(b.options.Jobs, func(one Job) bool { return one.Type == job.Type })
	return (float64(before) + min(1, time.Since(created).Seconds()/time.Since(since).Seconds())) / float64(len(b.options.Jobs))
}

// incompleteError is the error of a run that went to its end, and left out what Stripe refused and what cannot be read.
type incompleteError struct{ error }

func (e *incompleteError) Unwrap() error { return e.error }

// job imports the objects of one type. It stops after a page if ctx has ended.
func (b *backfill) job(ctx, work context.Context, job Job) (completed bool, err error) {
	before, since := b.sum, b.since()
	sum, err := job.Import(work, since, b.from.Position, func(page context.Context, sum engine.Verified) error {
		b.sum = before.plus(sum)
		if _, err := b.queries.ServerWorkLockTry(page, b.lock, string(RunBackfill)); err != nil {
			return fmt.Errorf("the connection that holds the lock of backfills is lost: %w", err)
		}
		b.from = backfillPosition{job.Type, sum.Position}
		if err := b.progress(page, b.sum, b.from, b.share(job, sum.Position.Created)); err != nil {
			return err
		}
		if b.options.Progress != nil {
			b.options.Progress(BackfillProgress{b.sum, job.Type, sum.Position.Created, since})
		}
		return ctx.Err()
	})
	b.sum = before.plus(sum)
	return sum.Completed, err
}

// end records the end of the run, and returns its error.
func (b *backfill) end(ctx context.Context, failure error) error {
	var err error
	switch {
	case failure != nil && !errors.As(failure, new(*incompleteError)):
		err = b.interrupt(ctx, failure)
	case failure == nil && b.sum.Drifted == 0:
		err = b.remove(ctx)
	default:
		err = b.finish(ctx, b.sum, failure)
	}
	if err != nil {
		err = fmt.Errorf("record the end of the run: %w", err)
	}
	return errors.Join(failure, err)
}
