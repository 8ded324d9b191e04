package webhooks

import (
	"context"
	"errors"
	"slices"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
)

// A batch of events whose handlers are Batchable runs the handlers one after the other, each event under a savepoint.
//
// What an event leaves to be sent (the rest of its rows, its row of the ledger, the end of its savepoint) is carried to the
// next event, and sent with the first statement of the next handler, so that an event with one statement takes one round
// trip:
//
//	restore the settings, (rows, ledger row, RELEASE) of the event before, SAVEPOINT, rows, the handler's statement
//
// An event without a statement needs no savepoint: until something is sent, there is nothing to undo.
//
// The ledger's row of an event is written before the first statement of the next handler. If that handler ends the
// transaction with a COMMIT of its own, what is committed of the events before it has its rows in the ledger, and they are
// duplicates when they are retried.

// processInSavepoint runs the handlers of an event. If one fails, the event leaves the batch, and nothing of it is kept. An
// error means that the transaction is lost.
func (t *transaction) processInSavepoint(ctx context.Context, i int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d := t.deliveries[i]
	d.writes.Add(t.carried...)
	d.writes.Add(pgpipe.Savepoint(i))
	// The values are of the event's own context, and the deadline of the batch's. A caller that gives up does not cancel it,
	// since that could end the connection of all.
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithDeadline(context.WithoutCancel(d.ctx), deadline)
	defer cancel()
	t.inHandler = d
	outcome, err := t.runHandlers(ctx, d)
	sent, rest := d.writes.Sent(), d.writes.Queries()
	d.writes.Drop()
	if err != nil {
		return t.leaveSavepoint(ctx, i, sent, err)
	}
	t.inHandler = nil
	d.toRecord = outcome
	if sent {
		t.carried = slices.Concat(rest, []pgpipe.Query{t.insert(d)}, t.keepPayload(d), []pgpipe.Query{pgpipe.ReleaseSavepoint(i)})
		return nil
	}
	own := rest[len(t.carried)+1:] // without the savepoint
	t.carried = slices.Concat(t.carried, own, []pgpipe.Query{t.insert(d)}, t.keepPayload(d))
	return nil
}

// leaveSavepoint undoes what an event has sent. The event is then retried in its own transaction.
func (t *transaction) leaveSavepoint(ctx context.Context, i int, sent bool, err error) error {
	d := t.deliveries[i]
	switch {
	case errors.As(err, new(*fetchError)):
		d.err = err
	case d.gaveUp() && fault.IsHandler(err): // there is no time to retry it
		d.err = fault.Classify(err, fault.Circumstances{HandlerRan: true, TimeUp: true})
	}
	if !sent {
		t.inHandler = nil
		return nil
	}
	t.carried = nil // it was sent before the savepoint
	if !fault.IsHandler(err) && d.err == nil {
		return err
	}
	if undo := t.pipe.RollbackToSavepoint(ctx, i); undo != nil { // the handler ended the transaction, or closed the connection
		return errors.Join(err, undo)
	}
	t.inHandler = nil
	t.receiver.config.Logger.DebugContext(ctx, "retrying an event outside its batch: its handler failed", "event_id", d.effective.ID, "error", safeError(err))
	return nil
}
