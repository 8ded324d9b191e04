package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/webhooks"
)

// isGone reports whether Stripe does not have the event's object any more: a thin event's object is a stub, or the event's own is
// and Stripe's response is not another object, which was created under the same id.
func (a *application[T]) isGone() bool {
	if !a.store.Stub(a.ev.Object) {
		return false
	}
	if fetched := a.ev.Current; fetched != nil {
		return fetched.Object == nil || a.store.Stub(fetched.Object)
	}
	return a.ev.Thin()
}

// nextGone is nextVersion for an event whose object Stripe does not have any more.
func (a *application[T]) nextGone() (*Version[T], error) {
	if err := a.stored.mayBecome(a.ev, a.rules.noun()); err != nil {
		return nil, err
	}
	switch fetched := a.ev.Current; {
	case fetched == nil && a.stored.covers(a.ev):
		return nil, nil
	case fetched == nil || fetched.Token != tokenOf(a.stored):
		return nil, a.refetch(a.ev, a.stored)
	case a.stored == nil: // so that a late event does not make it active
		asOf := fetched.AsOf
		return &Version[T]{State: a.store.Tombstone(a.key, a.ev, asOf), AsOf: &asOf, APIVersion: fetched.APIVersion, Tombstone: true}, nil
	default:
		return a.goneAsOf(a.stored, a.ev, fetched.AsOf)
	}
}

// goneAsOf returns the version of a row whose object Stripe does not have any more: ended, and otherwise as it was. Nil if it
// has ended already. Ev is nil where no event says so.
func (e *Engine[T]) goneAsOf(stored *Row[T], ev *webhooks.Event, asOf time.Time) (*Version[T], error) {
	if stored == nil || stored.Ended {
		return nil, nil
	}
	state, err := e.store.Gone(stored, ev, asOf)
	if err != nil {
		return nil, err
	}
	return &Version[T]{State: state, AsOf: &asOf, APIVersion: stored.APIVersion}, nil
}

// goneGrace is how long the part of Stripe that answers may lag behind: so long after its creation, an object that Stripe does not
// have is left as it is, and so long after a deletion, a response that denies it is not stored.
const goneGrace = time.Hour

// maxGonePercent is the share of the objects that Gone may mark without Force.
const maxGonePercent = 1

// resolveGone marks the rows as ended whose object Stripe does not have any more.
func (v *verification[T]) resolveGone(ctx context.Context) error {
	if n := len(v.gone); n*100 > v.sum.Checked*maxGonePercent && !v.config.Force {
		return fmt.Errorf("%w: Stripe does not have %d of %d %ss, more than %d %%: is the API key of another account or sandbox? "+
			"Nothing was marked as ended; Force (--force) does it", v.rules.Refused, n, v.sum.Checked, v.rules.noun(), maxGonePercent)
	}
	var failed []error
	for _, r := range v.gone {
		err := v.config.Fix.InTx(ctx, "import", func(ctx context.Context, tx pgx.Tx) error {
			return v.importGone(ctx, tx, r, !v.config.NoHooks)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", r.key.ID, err))
			continue
		}
		v.sum.Fixed++
	}
	return errors.Join(failed...)
}

// importGone marks a row as ended, unless it was written after it was compared.
func (e *Engine[T]) importGone(ctx context.Context, tx pgx.Tx, r *reading[T], hooks bool) error {
	stored, err := e.lockAndLoad(ctx, tx, r.key)
	if err != nil {
		return err
	}
	if RevisionOf(stored) != RevisionOf(r.local) {
		return errMoved
	}
	next, err := e.goneAsOf(stored, nil, time.Now().UTC().Truncate(time.Second))
	if err != nil || next == nil {
		return err
	}
	return e.importVersion(ctx, tx, stored, next, hooks)
}
