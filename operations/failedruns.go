package operations

import (
	"context"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/operationid"
)

// failedRunsEach is how long one row of stripe_webhook_runs stands for failures in a row.
const failedRunsEach = time.Hour

// failedRuns records the failed runs of what is repeated, which had nothing to do and leave no record of their own: the failures in a row
// of an hour in one row, with their number and the last error. Once a run completes, the rows say so, also those of other processes.
type failedRuns struct {
	*Operator
	kind      RunKind
	arguments any
	receiver  string // in the arguments, if the kind has one

	own    bool // the last run has a record of its own
	record *RunRecording
	since  time.Time
	sum    failedCounts
}

type failedCounts struct {
	Failures  int  `json:"failures"`
	Recovered bool `json:"recovered"` // a later run completed
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
}

// recoverySpan is how old the records of failures may be that are noted as recovered.
const recoverySpan = 3 * 24 * time.Hour

// completed records that a run completed. It runs its statement each time, since another process may have failed before.
func (f *failedRuns) completed(ctx context.Context) {
	f.record = nil
	err := f.queries.StripeWebhookRunRecovered(ctx, f.pool, db.StripeWebhookRunRecoveredParams{
		SinceID: operationid.FirstRun(time.Now().Add(-recoverySpan)), Kind: string(f.kind), Receiver: f.receiver,
	})
	if err != nil {
		f.config.Logger.WarnContext(ctx, "could not record that runs succeed again", "kind", f.kind, "error", err)
	}
}
