package operations

import (
	"context"
	"errors"
	"fmt"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/operationid"
)

// DismissGroupOptions configures DismissGroup.
type DismissGroupOptions struct {
	Reason string // why the events need not be applied; required, as in Dismiss
	// Each is called after each event: with nil, or with the error because of which the event was not dismissed. Optional.
	Each func(id string, err error)
	// Run records the run. Nil: DismissGroup starts a recording, which writes nothing if the group has no event.
	Run *RunRecording
	// Total is how many events there are, for the share of the run that is done. 0: not known.
	Total int
}

// DismissGroupResult counts the events of a call of DismissGroup.
type DismissGroupResult struct {
	Dismissed int `json:"dismissed"`
	// Skipped are events that are no longer failing for this reason: they took effect, were dismissed, or failed for another reason in
	// the meantime.
	Skipped int `json:"skipped"`
	// Failed are events whose record or ledger row a delivery held too long.
	Failed int `json:"failed"`
}

func (d DismissGroupResult) seen() int { return d.Dismissed + d.Skipped + d.Failed }

// DismissGroup dismisses the events of a FailureGroup, as Dismiss does: each in a transaction of its own, the newest first failure first.
// The filter needs Group. Its other members, such as State, Account and Until, select among the group's events; Limit is not used. The
// failure records are read in batches, all of them unless the filter has MaxScanned.
//
// It continues after an event that has taken effect or that a delivery holds, and counts it. Events that fail after it began are left. It
// is recorded as a run (stripe_webhook_runs). If it is interrupted, the events so far are dismissed: call it again for the others.
//
// The error wraps ErrRefused, and nothing has changed, if there is no group or no reason.
func (o *Operator) DismissGroup(ctx context.Context, f FailureFilter, options DismissGroupOptions) (DismissGroupResult, error) {
	var sum DismissGroupResult
	reason, err := checkReason(options.Reason, "the events of the group")
	switch {
	case err != nil:
		return sum, err
	case f.Group == "":
		return sum, fmt.Errorf("%w: FailureFilter.Group is empty: name the key of a group that FailureGroups lists", ErrRefused)
	case f.State == StateDismissed:
		return sum, fmt.Errorf("%w: events of the state %s are dismissed already", ErrRefused, f.State)
	}
	if f.MaxScanned == 0 {
		f.MaxScanned = allRecords
	}
	run := options.Run
	if run == nil {
		run = o.StartRun(RunDismiss, map[string]any{"group": f.Group, "state": f.State, "account": f.Account})
		run.recorder.reason = reason
	}
	var stopped error
	_, err = o.walkFailures(ctx, f, func(one *brief) bool {
		failed := o.dismissOfGroup(ctx, f, one.EventID, reason, &sum)
		if options.Each != nil && ctx.Err() == nil {
			options.Each(one.EventID, failed)
		}
		if failed != nil && !errors.Is(failed, ErrRefused) && !isHeld(failed) {
			stopped = failed
			return false
		}
		run.Progress(ctx, sum, shareDone(sum.seen(), options.Total))
		return true
	})
	err = errors.Join(err, stopped)
	if err == nil && sum.Failed > 0 {
		err = fmt.Errorf("deliveries hold %d of the events, which were not dismissed: run it again", sum.Failed)
	}
	if sum.seen() > 0 || err != nil || options.Run != nil {
		run.Finish(ctx, sum, err)
	}
	return sum, err
}

// dismissOfGroup dismisses an event that still is what the filter selects, and counts it.
func (o *Operator) dismissOfGroup(ctx context.Context, f FailureFilter, id, reason string, sum *DismissGroupResult) error {
	err := o.dismissIf(ctx, id, reason, func(now *db.StripeWebhookFailure) error {
		state := FailureState(now.State)
		switch {
		case state == StateDismissed:
			return fmt.Errorf("%w: %s was dismissed in the meantime", ErrRefused, id)
		case f.State != "" && f.State != state, operationid.GroupKey(now.EventType, normalized(now.EventType, now.LastError)) != f.Group:
			return fmt.Errorf("%w: %s failed for another reason in the meantime", ErrRefused, id)
		}
		return nil
	})
	switch {
	case err == nil:
		sum.Dismissed++
	case errors.Is(err, ErrRefused):
		sum.Skipped++
	case isHeld(err):
		sum.Failed++
	}
	return err
}

// isHeld reports whether an event was not dismissed since a delivery of it was in progress.
func isHeld(err error) bool {
	return errors.Is(err, errChanged) || fault.Code(err) == fault.LockNotAvailable
}

// shareDone returns how much is done, or 0 if the total is not known.
func shareDone(done, total int) float64 {
	if total == 0 {
		return 0
	}
	return min(float64(done)/float64(total), 1)
}
