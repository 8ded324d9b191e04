package engine

import (
	"bytes"
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/webhooks"
)

// Try stores the objects of made-up events of one object, each as the next version of the one before, and reads them back. It
// returns fault.ErrNotReadBack where a row is not as it was written, or not whole. It does not call OnChange.
func Try[T any](ctx context.Context, tx pgx.Tx, store Store[T], whole func(*T) bool, events ...*webhooks.Event) error {
	var stored *Row[T]
	for _, ev := range events {
		incoming, err := store.Decode(ev)
		if err != nil {
			return err
		}
		next := FromEvent(ev, incoming)
		queries, err := store.Write(stored, next, nil)
		if err != nil {
			return err
		}
		for _, query := range queries {
			if err := query(ctx, tx); err != nil {
				return err
			}
		}
		key := store.Key(ev.Account, ev.Livemode, store.Head(incoming).ID)
		if stored, err = store.Load(ctx, tx, key, AnyEvent); err != nil {
			return err
		}
		// A trigger of the host's may change the row. An equal digest then shows that values are read back as written.
		if stored == nil || !whole(stored.State) || store.Same(stored.State, next.State) && !bytes.Equal(next.Digest, stored.Digest) {
			return fault.ErrNotReadBack
		}
	}
	return nil
}
