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

// goneAsOf returns the version of a row whose subscription Stripe does not have any more: canceled, and otherwise as it was.
// Nil if there is no row, or if it has ended already. Ev is nil where no event says so.
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
