package operations

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
)

// RunKind is what a run did.
type RunKind string

// The kinds of runs.
const (
	RunReconcile RunKind = "reconcile"
	RunVerify    RunKind = "verify"
	RunBackfill  RunKind = "backfill"
	RunReplay    RunKind = "replay"
	RunPrune     RunKind = "prune"
)

// recordTimeout bounds the recording of a run's end, which has its own context: the run's may have ended.
const recordTimeout = 5 * time.Second

// maxRunError is how much of an error is kept.
const maxRunError = 2000

// Run is one row of stripe_webhook_runs. The JSON names are the columns'.
type Run struct {
	ID        string          `json:"id"` // run_…, which sorts by the time of the start
	Kind      RunKind         `json:"kind"`
	Arguments json.RawMessage `json:"arguments"`
	Operator  string          `json:"operator"` // empty: not known, as Reason and Host
	Reason    string          `json:"reason"`
	Host      string          `json:"host"`
	StartedAt time.Time       `json:"started_at"`
	UpdatedAt time.Time       `json:"updated_at"` // the last progress
	// FinishedAt is nil while the run is in progress, and after it was interrupted.
	FinishedAt *time.Time      `json:"finished_at"`
	Counts     json.RawMessage `json:"counts"`
	Error      string          `json:"error"`
}

// Runs lists the runs of reconcile, verify, backfill, replay and prune that had something to do, the newest first, at most limit (0:
// 50). In ReconcileEvery such a run is one that found missing events.
func (o *Operator) Runs(ctx context.Context, max int) ([]Run, error) {
	rows, err := o.queries.StripeWebhookRunList(ctx, o.pool, limit(max))
	if err != nil {
		return nil, fmt.Errorf("list the runs: %w", err)
	}
	runs := make([]Run, len(rows))
	for i := range rows {
		runs[i] = runOf(&rows[i])
	}
	return runs, nil
}

func runOf(row *db.StripeWebhookRun) Run {
	return Run{
		ID: row.ID, Kind: RunKind(row.Kind), Arguments: row.Arguments, Operator: engine.OrZero(row.Operator), Reason: engine.OrZero(row.Reason),
		Host: engine.OrZero(row.Host), StartedAt: row.StartedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(), FinishedAt: engine.UTC(row.FinishedAt),
		Counts: row.Counts, Error: engine.OrZero(row.Error),
	}
}

// RunRecord describes a run that has ended.
type RunRecord struct {
	Kind      RunKind
	Arguments any // encoded as JSON
	Counts    any // encoded as JSON
	Started   time.Time
	Err       error
}

// RecordRun records a run that had something to do. That it cannot be recorded is logged as an error, and does not fail the run.
func (o *Operator) RecordRun(ctx context.Context, run *RunRecord) {
	r := &recorder{Operator: o, kind: run.Kind, started: run.Started}
	var err error
	if r.arguments, err = json.Marshal(run.Arguments); err == nil {
		err = r.finish(ctx, run.Counts, run.Err)
	}
	if err != nil {
		o.config.Logger.ErrorContext(ctx, "could not record a run", "kind", run.Kind, "error", err)
	}
}

// recorder records one run.
type recorder struct {
	*Operator
	kind      RunKind
	arguments json.RawMessage
	started   time.Time
	id        string // empty: it has no row yet
}

// progress records how far the run is, with a new row or in its own.
func (r *recorder) progress(ctx context.Context, counts, position any) error {
	texts, err := marshal(counts, position)
	if err != nil {
		return err
	}
	if r.id == "" {
		return r.insert(ctx, db.StripeWebhookRunInsertParams{Counts: texts[0], Position: texts[1]})
	}
	rows, err := r.queries.StripeWebhookRunProgress(ctx, r.pool, db.StripeWebhookRunProgressParams{ID: r.id, Counts: texts[0], Position: texts[1], Host: hostname()})
	switch {
	case err != nil:
		return fmt.Errorf("record the progress of run %s: %w", r.id, err)
	case rows == 0:
		return fmt.Errorf("run %s was ended by somebody else", r.id)
	}
	return nil
}

func (r *recorder) insert(ctx context.Context, params db.StripeWebhookRunInsertParams) error {
	params.ID = fmt.Sprintf("run_%011x%s", r.started.UnixMilli(), strings.ToLower(rand.Text()[:8]))
	params.Kind, params.Arguments, params.StartedAt, params.Host = string(r.kind), r.arguments, r.started, hostname()
	params.Operator, params.Reason = engine.NilIfEmpty(cmp.Or(r.config.Operator, userName())), engine.NilIfEmpty(r.config.Reason)
	if err := r.queries.StripeWebhookRunInsert(ctx, r.pool, params); err != nil {
		return fmt.Errorf("record the run: %w", err)
	}
	r.id = params.ID
	return nil
}

// interrupt records why a run stopped that can be resumed.
func (r *recorder) interrupt(ctx context.Context, reason error) error {
	if r.id == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	return r.queries.StripeWebhookRunInterrupt(ctx, r.pool, runError(reason), r.id)
}

// finish records the end of a run.
func (r *recorder) finish(ctx context.Context, counts any, failure error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	texts, err := marshal(counts)
	if err != nil {
		return err
	}
	if r.id != "" {
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
	return r.queries.StripeWebhookRunRemove(ctx, r.pool, r.id)
}

func marshal(values ...any) (texts []json.RawMessage, err error) {
	for _, value := range values {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
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
	text := strings.ToValidUTF8(strings.ReplaceAll(err.Error(), "\x00", ""), "")
	if len(text) > maxRunError {
		text = strings.ToValidUTF8(text[:maxRunError], "") + "…"
	}
	return &text
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
