package operations

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

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
	RunReprocess RunKind = "reprocess"
	RunDismiss   RunKind = "dismiss"
	RunRetry     RunKind = "retry"
	RunPrune     RunKind = "prune"
	RunErase     RunKind = "erase"
)

// RunKinds returns all kinds of runs.
func RunKinds() []RunKind {
	return []RunKind{RunReconcile, RunVerify, RunBackfill, RunReplay, RunReprocess, RunDismiss, RunRetry, RunPrune, RunErase}
}

// RunState says whether a run is in progress, or how it ended.
type RunState string

// The states of runs.
const (
	RunRunning     RunState = "running"
	RunInterrupted RunState = "interrupted" // it has no end, and no progress for two minutes, or stopped and can be resumed
	RunFailed      RunState = "failed"      // it ended with an error, or events of it failed
	RunFinished    RunState = "finished"
)

// quietRun is how long ago the last progress of a run may be until it counts as interrupted.
const quietRun = 2 * time.Minute

// ErrNoRun reports that there is no such run.
var ErrNoRun = errors.New("no such run")

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
	// Share is how much of the run is done, up to 1. Nil: not known.
	Share *float64 `json:"share"`
	Error string   `json:"error"`
}

// State returns how the run stands.
func (r *Run) State() RunState {
	switch {
	case r.FinishedAt != nil && (r.Error != "" || r.failed() > 0):
		return RunFailed
	case r.FinishedAt != nil:
		return RunFinished
	case r.Error != "" || time.Since(r.UpdatedAt) > quietRun:
		return RunInterrupted
	}
	return RunRunning
}

// failed returns how many events of the run failed.
func (r *Run) failed() int {
	var counts struct{ Failed int }
	_ = json.Unmarshal(r.Counts, &counts) // those of another kind of run have none
	return counts.Failed
}

// RunFilter selects the runs to list. The zero value selects the newest 50.
type RunFilter struct {
	Kind RunKind // empty: every kind
	// Before is a run's id: only runs that were started before it are listed. Empty: start with the newest.
	Before string
	Limit  int // 0: DefaultLimit
}

// Runs lists the runs that have something to do or had, the newest first. In ReconcileEvery such a run is one that found missing
// events, or failed.
func (o *Operator) Runs(ctx context.Context, f RunFilter) ([]Run, error) {
	if f.Kind != "" && !slices.Contains(RunKinds(), f.Kind) {
		return nil, fmt.Errorf("%w: unknown kind of run %q", ErrRefused, f.Kind)
	}
	rows, err := o.queries.StripeWebhookRunList(ctx, o.pool, db.StripeWebhookRunListParams{
		Before: engine.NilIfEmpty(f.Before), Kind: string(f.Kind), MaxRows: limit(f.Limit),
	})
	if err != nil {
		return nil, fmt.Errorf("list the runs: %w", err)
	}
	runs := make([]Run, len(rows))
	for i := range rows {
		runs[i] = runOf(&rows[i])
	}
	return runs, nil
}

// Run returns a run. The error wraps ErrNoRun if there is none.
func (o *Operator) Run(ctx context.Context, id string) (*Run, error) {
	row, err := o.queries.StripeWebhookRunGet(ctx, o.pool, id)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("%s: %w: it had nothing to do, or was pruned", id, ErrNoRun)
	case err != nil:
		return nil, fmt.Errorf("get run %s: %w", id, err)
	}
	run := runOf(&row)
	return &run, nil
}

func runOf(row *db.StripeWebhookRun) Run {
	return Run{
		ID: row.ID, Kind: RunKind(row.Kind), Arguments: row.Arguments, Operator: engine.OrZero(row.Operator), Reason: engine.OrZero(row.Reason),
		Host: engine.OrZero(row.Host), StartedAt: row.StartedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(), FinishedAt: engine.UTC(row.FinishedAt),
		Counts: row.Counts, Share: row.Share, Error: engine.OrZero(row.Error),
	}
}

// ArgumentsText returns the arguments that are not empty in one line, such as "fix true, types invoice charge".
func (r *Run) ArgumentsText() string { return membersText(r.Arguments, true) }

// CountsText returns the counts in one line, such as "checked 12, drifted 3", without Differences.
func (r *Run) CountsText() string { return membersText(r.Counts, false) }

// Differences returns the fields in which an object differed, as type/id.field: the first of those that a comparison from the console found.
func (r *Run) Differences() []string {
	var counts struct{ Differs []string }
	_ = json.Unmarshal(r.Counts, &counts) // those of another kind of run have none
	return counts.Differs
}

// membersText returns a JSON object's members in a line, without the empty ones, and with lists if they are wanted.
func membersText(object json.RawMessage, lists bool) string {
	var members map[string]any
	decoder := json.NewDecoder(bytes.NewReader(object))
	decoder.UseNumber() // a million stays 1000000
	if decoder.Decode(&members) != nil {
		return ""
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch value := members[name].(type) {
		case nil, string:
			if value != nil && value != "" {
				parts = append(parts, fmt.Sprintf("%s %v", name, value))
			}
		case []any:
			if lists && len(value) > 0 {
				parts = append(parts, name+" "+strings.Trim(fmt.Sprint(value), "[]"))
			}
		default:
			parts = append(parts, fmt.Sprintf("%s %v", name, value))
		}
	}
	return strings.Join(parts, ", ")
}
