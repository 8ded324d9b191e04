package operations

import (
	"context"
	"time"
)

// failedRunsEach is how long one row of stripe_webhook_runs stands for failures in a row.
const failedRunsEach = time.Hour

// failedRuns records the failed runs of what is repeated, which had nothing to do and leave no record of their own: the failures in a row
// of an hour in one row, with their number and the last error. Once a run completes, the row says so.
type failedRuns struct {
	*Operator
	kind      RunKind
	arguments any

	own    bool // the last run has a record of its own
	record *RunRecording
	since  time.Time
	sum    failedCounts
}

type failedCounts struct {
	Failures  int  `json:"failures"`
	Recovered bool `json:"recovered"` // a later run completed

	last error
}

// failed records that a run failed.
func (f *failedRuns) failed(ctx context.Context, err error) {
	if f.own {
		return
	}
	if f.record == nil || time.Since(f.since) > failedRunsEach {
		f.record, f.since, f.sum = f.StartRun(f.kind, f.arguments), time.Now(), failedCounts{}
	}
	f.sum.Failures++
	f.record.Finish(ctx, f.sum, err)
	f.sum.last = err
}

// completed records that a run completed after failures.
func (f *failedRuns) completed(ctx context.Context) {
	if f.record != nil {
		f.sum.Recovered = true
		f.record.Finish(ctx, f.sum, f.sum.last)
		f.record = nil
	}
}
