package engine

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/ordering"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/webhooks"
)

// importAnswers stores what Stripe's list says of objects that differ, for an import, and returns those that must be read again.
func (w *walk[T]) importAnswers(ctx context.Context, suspects []*reading[T]) (left []*reading[T], err error) {
	if !w.config.Import {
		return suspects, nil
	}
	settled := slices.DeleteFunc(slices.Clone(suspects), func(r *reading[T]) bool { return !w.settles(r) })
	stored := map[*reading[T]]bool{}
	if w.config.NoHooks || w.Engine.config.OnChange == nil {
		if stored, err = w.importTogether(ctx, settled); err != nil {
			return nil, err
		}
	}
	for _, r := range suspects {
		switch {
		case !slices.Contains(settled, r):
			left = append(left, r)
		case !stored[r]: // alone, with OnChange
			if err := w.drifted(ctx, r); err != nil {
				return nil, err
			}
		default:
			w.report(r)
			if r.head.Complete {
				w.sum.Fixed++
			}
		}
	}
	return left, nil
}

// settles reports whether an answer of Stripe's is surely newer than the row, so that it need not be read again. A row that has
// ended, or is of another API version, is compared as Verify does.
func (w *walk[T]) settles(r *reading[T]) bool {
	switch {
	case r.stripe == nil:
		return false
	case r.local == nil:
		return true
	case r.local.Ended || w.sourceOfRow(r) != w.source || !w.fixable(r):
		return false
	}
	older := func(at *time.Time) bool { return ordering.CompareAsOf(at, r.asOf) == ordering.Older }
	return older(r.local.EventCreated) && older(r.local.AsOf)
}

// importTogether stores answers in one transaction, without OnChange. It leaves out those of rows whose lock is held or that were
// written meanwhile. If a row cannot be stored, none is: each is then to be stored alone.
func (w *walk[T]) importTogether(ctx context.Context, readings []*reading[T]) (stored map[*reading[T]]bool, err error) {
	if len(readings) == 0 {
		return nil, nil
	}
	err = w.config.Fix.InTx(ctx, "import", func(ctx context.Context, tx pgx.Tx) error {
		stored = map[*reading[T]]bool{}
		return w.importLocked(ctx, tx, readings, stored)
	})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		w.config.Logger.WarnContext(ctx, "could not store the objects of a page together: storing each alone", "object_type", w.rules.Object, "error", err)
		return nil, nil
	}
	return stored, nil
}

func (w *walk[T]) importLocked(ctx context.Context, tx pgx.Tx, readings []*reading[T], stored map[*reading[T]]bool) error {
	ids, keys := make([]string, len(readings)), make([]Key, len(readings))
	for i, r := range readings {
		ids[i], keys[i] = r.key.ID, r.key
	}
	locked, err := webhooks.TryLockObjects(ctx, tx, ids)
	if err != nil {
		return err
	}
	rows, err := w.store.Rows(ctx, tx, keys)
	if err != nil {
		return err
	}
	erased, err := w.erased(ctx, tx, readings...)
	if err != nil {
		return err
	}
	now := map[Key]*Row[T]{}
	for _, row := range rows {
		now[w.store.Key(row.Account, row.Livemode, row.ID)] = row
	}
	at, err := w.store.Clock(ctx, tx)
	if err != nil {
		return err
	}
	var queries []pgpipe.Query
	for i, r := range readings {
		row := now[r.key]
		if erased[i].Erased || !slices.Contains(locked, r.key.ID) || w.mayImport(row, r) != nil {
			continue
		}
		next := r.version()
		writes, err := w.store.Write(row, next, at)
		if err != nil {
			return err
		}
		queries, stored[r] = append(queries, writes...), true
		w.warnOfMore(ctx, next.State)
	}
	if len(queries) == 0 {
		return nil
	}
	return pgpipe.Send(ctx, tx, queries)
}
