package operations

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/webhooks"
)

const (
	// maxReason is how many characters the reason of a dismissal may have.
	maxReason = 1000
	// dismissLockTimeout bounds each wait for a delivery of the event that is about to commit, in milliseconds.
	dismissLockTimeout = "5000"
)

// errChanged reports that the ledger's row changed between two statements.
var errChanged = errors.New("a delivery is recording the event: run the command again")

// Dismiss records that a failed event need not be applied, and why. In one transaction the ledger gets a row with the outcome parked,
// and the failure's record the state dismissed. Deliveries of the event are duplicates from then on, and Reconcile, ReplayAll and the
// retrier leave it. It no longer counts as failing. Replay still applies it. A dismissed event may be dismissed again, with another
// reason.
//
// The error wraps ErrRefused, and nothing has changed, if the event has no failure record, if it has taken effect (also if a
// concurrent delivery is applying it), or if reason is empty or longer than 1,000 characters. A dismissal is recorded as a run, with its
// operator and reason (stripe_webhook_runs): the failure's record has the reason of the last one.
func (o *Operator) Dismiss(ctx context.Context, id, reason string) error {
	reason, err := checkReason(reason, id)
	if err != nil {
		return err
	}
	run := o.StartRun(RunDismiss, map[string]any{"events": []string{id}})
	run.recorder.reason = reason
	if err := o.dismissIf(ctx, id, reason, nil); err != nil {
		return err
	}
	run.Finish(ctx, map[string]int{"dismissed": 1}, nil)
	return nil
}

// checkReason returns a reason as PostgreSQL can store it. It refuses none, and a long one.
func checkReason(reason, what string) (string, error) {
	reason = strings.TrimSpace(strings.ToValidUTF8(strings.ReplaceAll(reason, "\x00", ""), string(utf8.RuneError)))
	switch n := utf8.RuneCountInString(reason); {
	case n == 0:
		return "", fmt.Errorf("%w: the reason is empty: say why %s need not be applied", ErrRefused, what)
	case n > maxReason:
		return "", fmt.Errorf("%w: the reason has %d characters: use at most %d", ErrRefused, n, maxReason)
	}
	return reason, nil
}

// dismissIf dismisses an event in a transaction of its own, unless check returns an error of its failure's record.
func (o *Operator) dismissIf(ctx context.Context, id, reason string, check func(*db.StripeWebhookFailure) error) error {
	err := pgx.BeginTxFunc(ctx, o.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error { return o.dismiss(ctx, tx, id, reason, check) })
	if err != nil && !errors.Is(err, ErrRefused) {
		return fmt.Errorf("dismiss %s: %w", id, err)
	}
	return err
}

// dismiss locks the failure's record before the ledger's row, as a delivery that parks does.
func (o *Operator) dismiss(ctx context.Context, tx pgx.Tx, id, reason string, check func(*db.StripeWebhookFailure) error) error {
	if err := o.queries.ServerLockTimeout(ctx, tx, dismissLockTimeout); err != nil {
		return err
	}
	failure, err := o.queries.StripeWebhookFailureLock(ctx, tx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return o.notFailed(ctx, tx, id)
	}
	if err != nil {
		return err
	}
	if check != nil {
		if err := check(&failure); err != nil {
			return err
		}
	}
	if err := o.park(ctx, tx, &failure); err != nil {
		return err
	}
	return o.queries.StripeWebhookFailureDismiss(ctx, tx, reason, id)
}

// notFailed returns the refusal to dismiss an event without a failure record.
func (o *Operator) notFailed(ctx context.Context, tx pgx.Tx, id string) error {
	row, err := o.queries.StripeWebhookEventOutcome(ctx, tx, id)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%w: %s has no failure record, and is not in the ledger: only an event that failed can be dismissed", ErrRefused, id)
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: %s has no failure record: only an event that failed can be dismissed, and the ledger has it as %s", ErrRefused, id, row.Outcome)
}

// park makes the ledger have the event of a failure as parked. It refuses an event that has taken effect. A row that another statement
// writes meanwhile is read again.
func (o *Operator) park(ctx context.Context, tx pgx.Tx, failure *db.StripeWebhookFailure) error {
	for range 3 {
		written := int64(0)
		row, err := o.queries.StripeWebhookEventOutcome(ctx, tx, failure.EventID)
		switch outcome := webhooks.Outcome(row.Outcome); {
		case errors.Is(err, pgx.ErrNoRows):
			written, err = o.queries.StripeWebhookEventInsertParked(ctx, tx, parkedRow(failure))
		case err != nil:
		case outcome == webhooks.OutcomeParked, ofAnother(row.AccountID, failure.AccountID): // another account's event of the same id keeps its row
			return nil
		case outcome == webhooks.OutcomeIgnored:
			written, err = o.queries.StripeWebhookEventUpdateProvisional(ctx, tx, db.StripeWebhookEventUpdateProvisionalParams{
				EventID: failure.EventID, Outcome: string(webhooks.OutcomeParked), EventType: failure.EventType, Receiver: failure.Receiver,
			})
		default:
			return fmt.Errorf("%w: %s has taken effect (%s): there is nothing to dismiss", ErrRefused, failure.EventID, outcome)
		}
		if err != nil || written > 0 {
			return err
		}
	}
	return errChanged
}

// ofAnother reports whether a row's account is not the failure's.
func ofAnother(row, failure *string) bool { return row != nil && failure != nil && *row != *failure }

// parkedRow returns the ledger's row for a failed event, as its delivery would have recorded it. Without a payload the time of its
// creation, its API version and its object are not known, and its mode is test.
func parkedRow(failure *db.StripeWebhookFailure) db.StripeWebhookEventInsertParkedParams {
	row := db.StripeWebhookEventInsertParkedParams{
		EventID: failure.EventID, EventType: failure.EventType, AccountID: failure.AccountID, Receiver: failure.Receiver,
	}
	ev, err := webhooks.ParseEvent(failure.Payload)
	if err != nil {
		return row
	}
	if !ev.Created.IsZero() {
		row.EventCreatedAt = &ev.Created
	}
	row.Livemode = ev.Livemode
	for column, value := range map[**string]string{
		&row.AccountID: ev.Account, &row.ApiVersion: ev.APIVersion, &row.ObjectID: cmp.Or(ev.ObjectID(), ev.CustomerID()),
	} {
		if *column == nil && value != "" {
			*column = &value
		}
	}
	return row
}
