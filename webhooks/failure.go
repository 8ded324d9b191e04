package webhooks

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/erasure"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/storable"
)

// failureTimeout bounds each try to write a failure's record. It is a short transaction of its own, after the
// rollback: the failed one keeps nothing.
const failureTimeout = 2 * time.Second

// The states of a failure's record.
const (
	stateFailing = "failing"
	stateParked  = "parked"
)

// recordFailure records that an event failed, so that it can be seen and applied again. Infrastructure failures leave no record,
// unless Stripe does not let the API key see a thin event's object: that does not pass by itself. If it cannot be written with
// the payload, it is written without; if it cannot be written at all, Stats.UnrecordedFailures counts it and the log has it. It returns how
// often the event has failed; 0: there is no record.
func (r *Receiver) recordFailure(ctx context.Context, d *delivery, failure error) (attempts int32) {
	if d.reprocess != nil { // it took effect before, and the operator has the error
		return 0
	}
	if fault.IsInfrastructure(failure) && !errors.Is(failure, errForbidden) {
		return 0
	}
	attempts = r.writeRecord(ctx, d, failure)
	r.onFailure.notify(r.noticeOf(ctx, d, failure, attempts))
	return attempts
}

// writeRecord writes the record of a failure, and returns how often the event has failed; 0: it could not be written.
func (r *Receiver) writeRecord(ctx context.Context, d *delivery, failure error) int32 {
	attempts, err := r.writeFailure(ctx, r.failureParams(ctx, d, failure, stateFailing))
	if err == nil {
		return attempts
	}
	params := r.failureParams(ctx, d, failure, stateFailing)
	params.Payload = nil
	if attempts, without := r.writeFailure(ctx, params); without == nil {
		r.config.Logger.WarnContext(ctx, "could not record the payload of a failed event", "event_id", d.effective.ID, "error", err)
		return attempts
	}
	r.stats.unrecorded.Add(1)
	r.config.Logger.ErrorContext(ctx, "could not record a failed event: lists of failures do not show it",
		"event_id", d.effective.ID, "event_type", d.effective.Type, "failure", errorText(failure), "error", err)
	return 0
}

func (r *Receiver) writeFailure(ctx context.Context, params db.StripeWebhookFailureUpsertParams) (attempts int32, err error) {
	defer func() { // of a hook of the pool
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), failureTimeout)
	defer cancel()
	err = r.pool.Do(ctx, func(conn *pgxpool.Conn) (err error) {
		attempts, err = r.upsertFailure(ctx, conn, params)
		return err
	})
	return attempts, err
}

// jittered returns a duration that differs from d by up to a fifth, so that events that failed together are not retried together.
func jittered(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5) }

// parkedQuery records a parked event, in the event's own transaction.
func (r *Receiver) parkedQuery(d *delivery) pgpipe.Query {
	params := r.failureParams(d.ctx, d, d.parked, stateParked)
	return func(ctx context.Context, db pgpipe.DBTX) (err error) {
		d.parkings, err = r.upsertFailure(ctx, db, params)
		return pgpipe.Wrap("record the parked event", err)
	}
}

// errDropped reports that PostgreSQL wrote no row and no error either.
var errDropped = errors.New("the row was not written: a trigger or rule on the table drops it, or another account has an event with the same id")

func (r *Receiver) upsertFailure(ctx context.Context, dbtx db.DBTX, params db.StripeWebhookFailureUpsertParams) (attempts int32, err error) {
	attempts, err = r.queries.StripeWebhookFailureUpsert(ctx, dbtx, params)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errDropped
	}
	return attempts, err
}

func (r *Receiver) failureParams(ctx context.Context, d *delivery, failure error, state string) db.StripeWebhookFailureUpsertParams {
	params := db.StripeWebhookFailureUpsertParams{
		EventID: d.effective.ID, EventType: d.effective.Type, AccountID: nilIfZero(d.effective.Account), State: state,
		Receiver: r.config.Name, RetryAfterSeconds: jittered(FirstRetry).Seconds(),
		ErasedText: erasure.Text,
	}
	of := d.erasureSubject()
	params.IDHashes, params.Livemode, params.ErasureAccounts = of.Hashes(), of.Livemode, of.Accounts()
	if raw := d.received.raw; raw != nil && !r.config.DropPayloads {
		// A payload that jsonb cannot hold is left out; Stripe has it.
		if payload, err := storable.JSON(raw); err == nil {
			params.Payload = payload
		}
	}
	if trace := r.traceContext(ctx); trace.Sampled {
		params.TraceID, params.SpanID = nilIfZero(trace.TraceID), nilIfZero(trace.SpanID)
	}
	params.LastError = errorText(failure)
	if state == stateParked {
		params.LastError = parkedText(d, params.LastError, params.Payload != nil)
	}
	return params
}

// errorText is an error's text as the column holds it: valid, without NUL, and cut to MaxErrorLength.
func errorText(err error) string {
	text := strings.ToValidUTF8(strings.ReplaceAll(safeError(err), "\x00", ""), string(utf8.RuneError))
	for i := range text {
		if i >= MaxErrorLength {
			return text[:i] + "…"
		}
	}
	return text
}

// safeError is err.Error() of an error that may panic.
func safeError(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = "an error whose Error method panics"
		}
	}()
	return err.Error()
}
