package operations

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"sync"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/operationid"
)

const (
	// ProgressInterval is the least time between two writes of a run's progress.
	ProgressInterval = 2 * time.Second
	// lookTime is how long a run goes on until it is recorded although it has found nothing to do.
	lookTime = 5 * time.Second
	// recordTimeout bounds each write of a run's record. That of the end has its own context: the run's may have ended.
	recordTimeout = 5 * time.Second
	// maxRunText is how many bytes are kept of an error and of a reason.
	maxRunText = 2000
)

// RunRecording records one run while it is in progress. Create it with Operator.StartRun. That a write of it fails is logged as an
// error, and does not fail the run. It is safe for concurrent use.
type RunRecording struct {
	mu       sync.Mutex
	recorder recorder
	written  time.Time // the last progress
	failed   bool      // an error of writing the progress was logged
}

// StartRun begins the record of a run (stripe_webhook_runs), by Config.Operator and for Config.Reason. arguments are encoded as JSON.
// It writes nothing: the row is inserted by the first Progress, or by Finish.
func (o *Operator) StartRun(kind RunKind, arguments any) *RunRecording {
	return &RunRecording{recorder: recorder{Operator: o, kind: kind, arguments: arguments, started: time.Now().UTC()}}
}

// ID returns the run's id, or "" while it has no row.
func (r *RunRecording) ID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.recorder.inserted {
		return ""
	}
	return r.recorder.id
}

// Progress records how far the run is, at most once in ProgressInterval: call it as soon as the run has something to do, and then as
// often as you like. counts are encoded as JSON. share is how much of the run is done, up to 1; 0 if that is not known, or is as
// before.
func (r *RunRecording) Progress(ctx context.Context, counts any, share float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.written) < ProgressInterval {
		return
	}
	r.written = time.Now()
	limited, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	if err := r.recorder.progress(limited, counts, nil, share); err != nil && ctx.Err() == nil && !r.failed {
		r.failed = true
		r.log(ctx, err)
	}
}

// VerifyProgress is Progress for a comparison with Stripe. While no object differs, it writes nothing in the run's first five seconds.
func (r *RunRecording) VerifyProgress(ctx context.Context, sum ComparisonCounts) {
	if sum.Drifted > 0 || time.Since(r.recorder.started) > lookTime {
		r.Progress(ctx, sum, 0)
	}
}

// Finish records the end of the run, with its error if it failed.
func (r *RunRecording) Finish(ctx context.Context, counts any, failure error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.recorder.finish(ctx, counts, failure); err != nil {
		r.log(ctx, err)
	}
}

// Discard ends the run without a record, since it had nothing to do.
func (r *RunRecording) Discard(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.recorder.remove(ctx); err != nil {
		r.log(ctx, err)
	}
}

func (r *RunRecording) log(ctx context.Context, err error) {
	r.recorder.config.Logger.ErrorContext(ctx, "could not record a run", "kind", r.recorder.kind, "error", err)
}

// RunRecord describes a run that has ended.
type RunRecord struct {
	Kind      RunKind
	Arguments any // encoded as JSON
	Counts    any // encoded as JSON
	Started   time.Time
	Err       error
}

// RecordRun records a run that had something to do and has ended, such as one of a single step. It is StartRun and Finish.
func (o *Operator) RecordRun(ctx context.Context, run *RunRecord) {
	r := o.StartRun(run.Kind, run.Arguments)
	r.recorder.started = run.Started
	r.Finish(ctx, run.Counts, run.Err)
}

// recorder writes the row of one run.
type recorder struct {
	*Operator
	kind      RunKind
	arguments any
	reason    string // empty: Config.Reason
	started   time.Time
	id        string // empty: no row has been written
	inserted  bool   // the row exists; otherwise it may, if the answer to its insertion was lost
}

// progress records how far the run is, with a new row or in its own.
func (r *recorder) progress(ctx context.Context, counts, position any, share float64) error {
	texts, err := marshal(object(counts), position)
	if err != nil {
		return err
	}
	if !r.inserted {
		return r.insert(ctx, db.StripeWebhookRunInsertParams{Counts: texts[0], Position: texts[1], Share: shareOf(share)})
	}
	rows, err := r.queries.StripeWebhookRunProgress(ctx, r.pool, db.StripeWebhookRunProgressParams{
		ID: r.id, Counts: texts[0], Position: texts[1], Share: shareOf(share), Host: hostname(),
	})
	switch {
	case err != nil:
		return fmt.Errorf("record the progress of run %s: %w", r.id, err)
	case rows == 0:
		return fmt.Errorf("run %s was ended by another process", r.id)
	}
	return nil
}

// shareOf returns a share as it is stored, or nil if it is not known.
func shareOf(share float64) *float64 {
	if share <= 0 {
		return nil
	}
	share = min(share, 1)
	return &share
}

// insert writes the row. It may be called again after an error, which does not say that there is no row.
func (r *recorder) insert(ctx context.Context, params db.StripeWebhookRunInsertParams) error {
	texts, err := marshal(object(r.arguments))
	if err != nil {
		return err
	}
	if r.id == "" {
		r.id = operationid.NewRun(r.started)
	}
	params.ID = r.id
	params.Kind, params.Arguments, params.StartedAt, params.Host = string(r.kind), texts[0], r.started, hostname()
	params.Operator, params.Reason = engine.NilIfEmpty(runText(cmp.Or(r.config.Operator, userName()))), engine.NilIfEmpty(runText(cmp.Or(r.reason, r.config.Reason)))
	if err := r.queries.StripeWebhookRunInsert(ctx, r.pool, params); err != nil {
		return fmt.Errorf("record the run: %w", err)
	}
	r.inserted = true
	return nil
}

// interrupt records why a run stopped that can be resumed.
func (r *recorder) interrupt(ctx context.Context, reason error) error {
	if r.id == "" {
		return nil
	}
	ctx, cancel := ofEnd(ctx)
	defer cancel()
	return r.queries.StripeWebhookRunInterrupt(ctx, r.pool, runError(reason), r.id)
}

// finish records the end of a run.
func (r *recorder) finish(ctx context.Context, counts any, failure error) error {
	if cause := context.Cause(ctx); failure != nil && cause != nil {
		failure = cause // such as that the time is over
	}
	ctx, cancel := ofEnd(ctx)
	defer cancel()
	texts, err := marshal(object(counts))
	if err != nil {
		return err
	}
	if r.inserted {
		return r.queries.StripeWebhookRunFinish(ctx, r.pool, db.StripeWebhookRunFinishParams{ID: r.id, Counts: texts[0], Error: runError(failure)})
	}
	now := time.Now()
	return r.insert(ctx, db.StripeWebhookRunInsertParams{Counts: texts[0], FinishedAt: &now, Error: runError(failure)})
}

// remove removes the row of a run that had nothing to do, if it has one.
func (r *recorder) remove(ctx context.Context) error {
	if r.id == "" {
		return nil
	}
	ctx, cancel := ofEnd(ctx)
	defer cancel()
	return r.queries.StripeWebhookRunRemove(ctx, r.pool, r.id)
}

// ofEnd returns the context of recording a run's end.
func ofEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
}

// object returns a value, or an empty one in place of nil.
func object(value any) any {
	if value == nil {
		return struct{}{}
	}
	return value
}

// marshal encodes values as JSON. Nil is NULL.
func marshal(values ...any) ([]json.RawMessage, error) {
	texts := make([]json.RawMessage, len(values))
	for i, value := range values {
		if value == nil {
			continue
		}
		var err error
		if texts[i], err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// runError returns the beginning of an error's text, as PostgreSQL can store it.
func runError(err error) *string {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	text := runText(err.Error())
	return &text
}

// runText returns the beginning of a text, as PostgreSQL can store it.
func runText(text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "")
	if len(text) > maxRunText {
		text = strings.ToValidUTF8(text[:maxRunText], "") + "…"
	}
	return text
}

func hostname() *string {
	name, _ := os.Hostname()
	return engine.NilIfEmpty(name)
}

// userName returns the name of the user who runs the process, or "".
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}
