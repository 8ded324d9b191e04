package subscriptions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/rawjson"
	"github.com/pook/stripeonce/webhooks"
)

// isStub reports whether an object only says that Stripe does not have it any more: {"id", "object", "deleted": true}.
func isStub(object []byte) bool {
	return rawjson.IsObject(object) && string(rawjson.Get(object, "deleted")) == "true" && rawjson.Get(object, "status") == nil
}

// nextGone is nextVersion for a deletion's event whose object Stripe does not have any more.
func (a *application) nextGone() (*version, error) {
	if err := a.stored.mayBecome(a.ev); err != nil {
		return nil, err
	}
	switch fetched := a.ev.Current; {
	case fetched == nil && a.stored.covers(a.ev):
		return nil, nil
	case fetched == nil || fetched.Token != tokenOf(a.stored):
		return nil, refetch(a.ev, a.stored)
	case a.stored == nil: // so that a late event does not make it active
		return tombstone(a.id, a.ev), nil
	default:
		return goneAsOf(a.stored, a.ev, fetched.AsOf)
	}
}

// tombstone is the version of a subscription of which nothing is known but that it was deleted. OnChange is not called for it:
// there is no state that it could have changed from, and no customer.
func tombstone(id string, ev *webhooks.Event) *version {
	asOf := ev.Current.AsOf
	return &version{tombstone: true, asOf: &asOf, apiVersion: ev.Current.APIVersion, sub: &Subscription{
		ID: id, Status: StatusCanceled, EndedAt: &asOf, Metadata: map[string]string{}, ItemsComplete: true, Livemode: ev.Livemode,
		AccountID: ev.Account, Object: ev.Object, LastEventID: ev.ID, LastEventCreatedAt: createdAt(ev),
	}}
}

// goneAsOf returns the version of a row whose subscription Stripe does not have any more: canceled, and otherwise as it was.
// Nil if it has ended already. Ev is nil where no event says so.
func goneAsOf(stored *storedRow, ev *webhooks.Event, asOf time.Time) (*version, error) {
	if stored == nil || stored.Status.Terminal() {
		return nil, nil
	}
	sub := stored.clone()
	sub.Status = StatusCanceled
	if sub.CanceledAt == nil {
		sub.CanceledAt = &asOf
	}
	if sub.EndedAt == nil {
		sub.EndedAt = &asOf
	}
	sub.LastEventID, sub.LastEventCreatedAt = "", nil
	if ev != nil {
		sub.LastEventID, sub.LastEventCreatedAt = ev.ID, createdAt(ev)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(stored.Object, &members); err != nil {
		return nil, err
	}
	for name, value := range map[string]any{"status": sub.Status, "canceled_at": sub.CanceledAt.Unix(), "ended_at": sub.EndedAt.Unix()} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		members[name] = text
	}
	object, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	sub.Object = object
	return &version{sub: sub, asOf: &asOf, apiVersion: stored.apiVersion}, nil
}

// goneGrace is how long after its creation a subscription that Stripe does not have is left as it is: the part of Stripe that
// answers may lag behind.
const goneGrace = time.Hour

// maxGonePercent is the share of the subscriptions that Gone may mark without Force.
const maxGonePercent = 1

// resolveGone marks the rows as canceled whose subscription Stripe does not have any more.
func (v *verification) resolveGone(ctx context.Context) error {
	if n := len(v.gone); n*100 > v.sum.Checked*maxGonePercent && !v.config.Force {
		return fmt.Errorf("%w: Stripe does not have %d of %d subscriptions, more than %d %%: is the API key of another account or sandbox? "+
			"Nothing was marked as canceled; Force (--force) does it", ErrRefused, n, v.sum.Checked, maxGonePercent)
	}
	var failed []error
	for _, r := range v.gone {
		err := v.config.Fix.InTx(ctx, "import", func(ctx context.Context, tx pgx.Tx) error {
			return v.config.Projection.importGone(ctx, tx, r, !v.config.NoHooks)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", r.id, err))
			continue
		}
		v.sum.Fixed++
	}
	return errors.Join(failed...)
}

// importGone marks a row as canceled, unless it was written after it was compared.
func (p *Projection) importGone(ctx context.Context, tx pgx.Tx, r *reading, hooks bool) error {
	stored, err := p.lockAndLoad(ctx, tx, r.id)
	if err != nil {
		return err
	}
	if revisionOf(stored) != revisionOf(r.local) {
		return errMoved
	}
	next, err := goneAsOf(stored, nil, time.Now().UTC().Truncate(time.Second))
	if err != nil || next == nil {
		return err
	}
	return p.importVersion(ctx, tx, stored, next, hooks)
}
