package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pook/stripeonce/internal/erasure"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/webhooks"
)

// The objects of customers whose data was erased (operations.Erase) have no rows. They are not compared and not imported.

// errErased reports that an object's customer was erased after the object was read.
var errErased = errors.New("its customer's data was erased meanwhile")

// erased returns what is known of readings as those of erased customers. An import notes those that are new.
func (v *verification[T]) erased(ctx context.Context, db pgpipe.DBTX, readings ...*reading[T]) ([]erasure.State, error) {
	subjects := make([]erasure.Subject, len(readings))
	for i, r := range readings {
		subjects[i] = erasure.Subject{
			Account: r.head.Account, OwnAccount: r.head.Account == v.config.AccountID, Livemode: r.head.Livemode,
			ID: r.head.ID, IDs: erasure.IDs(r.head.Object),
		}
	}
	states, _, err := erasure.Find(ctx, db, subjects)
	for i := range states {
		if err == nil && states[i].Unnoted && v.config.Fix != nil {
			err = erasure.Note(ctx, db, &subjects[i], states[i])
		}
	}
	return states, err
}

// refuseErased returns errErased if a reading is of an erased customer. The transaction holds the object's lock.
func (v *verification[T]) refuseErased(ctx context.Context, tx pgpipe.DBTX, r *reading[T]) error {
	states, err := v.erased(ctx, tx, r)
	if err == nil && states[0].Erased {
		err = errErased
	}
	return err
}

// withoutErased returns the readings that are not of erased customers.
func (v *verification[T]) withoutErased(ctx context.Context, readings []*reading[T]) ([]*reading[T], error) {
	states, err := v.erased(ctx, v.pool, readings...)
	if err != nil {
		return nil, err
	}
	var rest []*reading[T]
	for i, r := range readings {
		if states[i].Erased {
			v.left[r.key.ID] = true
			continue
		}
		rest = append(rest, r)
	}
	return rest, nil
}

// ownersWithoutErased returns the customers that are not erased.
func (w *walk[T]) ownersWithoutErased(ctx context.Context, owners []Key) ([]Key, error) {
	subjects := make([]erasure.Subject, len(owners))
	for i, owner := range owners {
		subjects[i] = erasure.Subject{Account: owner.Account, OwnAccount: owner.Account == w.config.AccountID, Livemode: owner.Livemode, IDs: []string{owner.ID}}
	}
	states, _, err := erasure.Find(ctx, w.pool, subjects)
	if err != nil {
		return nil, err
	}
	var rest []Key
	for i, owner := range owners {
		if states[i].Erased {
			w.left[owner.ID] = true
			continue
		}
		rest = append(rest, owner)
	}
	return rest, nil
}

// lastKept returns the id of the last reading that is not of an erased customer; "": there is none. Only such an id is recorded.
func (w *walk[T]) lastKept(readings []*reading[T]) string {
	for _, r := range slices.Backward(readings) {
		if !w.left[r.key.ID] {
			return r.key.ID
		}
	}
	return ""
}

// whyNoRow says why there is no row that OnChange could be called with.
func (e *Engine[T]) whyNoRow(ctx context.Context, tx pgpipe.DBTX, ev *webhooks.Event, key Key) error {
	subject := erasure.Subject{Account: ev.Account, OwnAccount: ev.OwnAccount(), Livemode: ev.Livemode, IDs: append(erasure.IDs(ev.Object), key.ID)}
	states, _, err := erasure.Find(ctx, tx, []erasure.Subject{subject})
	switch {
	case err != nil:
		return err
	case states[0].Erased:
		return fmt.Errorf("%s %s has no row to call OnChange with: the data of its customer was erased", e.rules.noun(), key.ID)
	}
	return fmt.Errorf("%s %s has no row to call OnChange with: import it first (verify --fix --only ID)", e.rules.noun(), key.ID)
}
