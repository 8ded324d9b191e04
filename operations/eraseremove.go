package operations

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/erasure"
)

// remove removes what was found: the objects after their events, and those that name the customer after those that are found by
// them. So a run that was interrupted finds the rest again.
func (e *eraser) remove(ctx context.Context) error {
	for batch := range slices.Chunk(e.events, e.BatchSize) {
		if err := e.scrubEvents(ctx, batch); err != nil {
			return fmt.Errorf("erase events: %w", err)
		}
	}
	for batch := range slices.Chunk(slices.Concat(e.linked, e.objects), min(e.BatchSize, eraseLocks)) {
		if err := e.deleteObjects(ctx, batch); err != nil {
			return fmt.Errorf("erase objects: %w", err)
		}
	}
	for batch := range slices.Chunk(e.subs, min(e.BatchSize, eraseLocks)) {
		if err := e.deleteSubscriptions(ctx, batch); err != nil {
			return fmt.Errorf("erase subscriptions: %w", err)
		}
	}
	e.found = found{ids: e.ids}
	if err := e.findOwned(ctx); err != nil {
		return err
	}
	if e.owned {
		return fmt.Errorf("erase objects: %w", errKept)
	}
	rows, err := e.queries.ErasureRunScrub(ctx, e.pool, e.Customer, e.replacement())
	if err != nil {
		return fmt.Errorf("erase the customer's id in the records of runs: %w", err)
	}
	e.sum.Runs = rows
	return nil
}

// replacement stands for the customer's id in what operators and runs have recorded.
func (e *eraser) replacement() string { return "sha256:" + e.hash }

// errKept reports that rows are left, without an error of PostgreSQL's.
var errKept = errors.New("rows were not deleted: a policy, trigger or rule of the database keeps them")

// progress adds the numbers of a batch.
func (e *eraser) progress(of EraseResult) {
	e.sum.Subscriptions += of.Subscriptions
	e.sum.Items += of.Items
	e.sum.Objects += of.Objects
	e.sum.Events += of.Events
	e.sum.Payloads += of.Payloads
	e.sum.Failures += of.Failures
	e.sum.List = append(e.sum.List, of.List...)
	if e.Progress != nil {
		e.Progress(e.sum)
	}
}

// scrubEvents removes the payloads, texts and object ids of events. The tables are written in the order in which a delivery does.
func (e *eraser) scrubEvents(ctx context.Context, ids []string) error {
	var done EraseResult
	err := e.inTx(ctx, nil, func(tx pgx.Tx) (err error) {
		if done.Failures, err = e.queries.ErasureFailureScrub(ctx, tx, erasure.Text, ids); err != nil {
			return err
		}
		if done.Payloads, err = e.queries.ErasurePayloadDelete(ctx, tx, ids); err != nil {
			return err
		}
		done.Events, err = e.queries.ErasureEventScrub(ctx, tx, db.ErasureEventScrubParams{CustomerID: e.Customer, Replacement: e.replacement(), EventIds: ids})
		if err != nil {
			return err
		}
		left, err := e.queries.ErasureCount(ctx, tx, ids, erasure.Text)
		if err == nil && left != (db.ErasureCountRow{}) {
			err = errKept
		}
		return err
	})
	if err == nil {
		e.progress(done)
	}
	return err
}

// deleteObjects deletes rows of stripe_objects.
func (e *eraser) deleteObjects(ctx context.Context, objects []ErasedObject) error {
	type kind struct {
		account, object string
		livemode        bool
	}
	ids := map[kind][]string{}
	locks := make([]string, len(objects))
	for i, o := range objects {
		of := kind{o.Account, o.Type, o.Livemode}
		ids[of], locks[i] = append(ids[of], o.ID), o.ID
	}
	var deleted int64
	err := e.inTx(ctx, locks, func(tx pgx.Tx) error {
		deleted = 0
		for of, list := range ids {
			rows, err := e.queries.ErasureObjectDelete(ctx, tx, db.ErasureObjectDeleteParams{
				AccountID: of.account, Livemode: of.livemode, ObjectType: of.object, Ids: list,
			})
			if err != nil {
				return err
			}
			deleted += rows
		}
		return nil
	})
	if err == nil {
		e.progress(EraseResult{Objects: deleted, List: objects})
	}
	return err
}

// deleteSubscriptions deletes subscriptions with their items.
func (e *eraser) deleteSubscriptions(ctx context.Context, subs []ErasedObject) error {
	ids := make([]string, len(subs))
	for i := range subs {
		ids[i] = subs[i].ID
	}
	var deleted db.ErasureSubscriptionDeleteRow
	err := e.inTx(ctx, ids, func(tx pgx.Tx) (err error) {
		deleted, err = e.queries.ErasureSubscriptionDelete(ctx, tx, ids)
		return err
	})
	if err == nil {
		e.progress(EraseResult{Subscriptions: deleted.Subscriptions, Items: deleted.Items, List: subs})
	}
	return err
}
