package operations

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/erasure"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/webhooks"
)

// ErrNoCustomer reports that nothing is stored of a customer who is to be erased.
var ErrNoCustomer = errors.New("no data is stored of the customer")

// DefaultEraseBatchSize is how many events Erase changes in one transaction.
const DefaultEraseBatchSize = 500

// eraseLocks is how many objects are locked and deleted in one transaction at most.
const eraseLocks = 100

// drainLimit is how long Erase waits for the transactions that were in progress when it noted the customer.
const drainLimit = time.Minute

// EraseOptions configures Erase.
type EraseOptions struct {
	// Customer is the id of the customer (cus_…). Required.
	Customer string
	// Account is the connected account that the customer belongs to. Empty: the receiver's own.
	Account string
	// DryRun only counts and lists what would be removed.
	DryRun bool
	// BatchSize is the number of events in one transaction. Objects are deleted 100 at a time, or BatchSize if that is less. Defaults to
	// DefaultEraseBatchSize, 500.
	BatchSize int
	// Progress is called with the numbers so far after each batch. Optional.
	Progress func(EraseResult)
	// Waiting is called, with the duration of the wait, before the first erasure in a database waits for the receivers. Optional.
	Waiting func(time.Duration)
}

// EraseResult counts the rows from which something was removed, or in a dry run would be. The JSON names are those of the tables.
type EraseResult struct {
	Subscriptions int64 `json:"subscriptions"`           // deleted
	Items         int64 `json:"subscription_items"`      // deleted
	Objects       int64 `json:"stripe_objects"`          // deleted
	Events        int64 `json:"stripe_webhook_events"`   // that lost the object's id
	Payloads      int64 `json:"stripe_webhook_payloads"` // deleted
	Failures      int64 `json:"stripe_webhook_failures"` // that lost payload and texts
	Runs          int64 `json:"stripe_webhook_runs"`     // in which the customer's id was replaced
	// List has the deleted objects, the subscriptions first.
	List []ErasedObject `json:"-"`
}

// Rows returns the number of rows of all tables.
func (e *EraseResult) Rows() int64 {
	return e.Subscriptions + e.Items + e.Objects + e.Events + e.Payloads + e.Failures + e.Runs
}

// Empty reports whether there was nothing to remove.
func (e *EraseResult) Empty() bool { return e.Rows() == 0 }

// ErasedObject is a deleted row of a table of objects. The JSON names are the columns'.
type ErasedObject struct {
	Table    string `json:"table"`
	Type     string `json:"object_type"`
	ID       string `json:"id"`
	Account  string `json:"account_id"` // empty: the receiver's own
	Livemode bool   `json:"livemode"`
}

// Erase removes the data of a customer, in both modes: the rows of the customer's subscriptions and mirrored objects and of the
// payments', the kept payloads and the failures' payloads and texts of the events about them, and the ids of these objects in the
// ledger. What says that an event took effect stays, so that a redelivery is still a duplicate.
//
// What is erased stays erased: the customer and the objects are noted in stripe_erasures, by the hashes of their ids. Deliveries and
// imports about them store nothing, and OnChange is not called; handlers registered with webhooks.On run. The first erasure in a
// database waits for a minute, until all receivers look for erased customers.
//
// Erase works in small transactions under the locks of the objects, the customer's first. It may be interrupted, and repeated.
// Config.Reason is required, and a run is recorded, without the customer's id. The error wraps ErrNoCustomer if nothing is stored of
// the customer, and ErrRefused for options that are not valid.
func (o *Operator) Erase(ctx context.Context, options EraseOptions) (EraseResult, error) {
	e, err := o.eraser(&options)
	if err != nil {
		return EraseResult{}, err
	}
	if err := e.checkPermitted(ctx); err != nil {
		return EraseResult{}, fmt.Errorf("erase the customer: %w", err)
	}
	if err := e.find(ctx); err != nil {
		return EraseResult{}, err
	}
	switch known, err := e.isKnown(ctx); {
	case err != nil:
		return EraseResult{}, err
	case !known:
		return EraseResult{}, fmt.Errorf("%w %s of %s, and the customer was not erased before: check the id, and name the connected account (--account) if it has one",
			ErrNoCustomer, options.Customer, accountText(e.accounts[0]))
	case options.DryRun:
		return e.count(ctx)
	}
	started := time.Now()
	err = e.erase(ctx)
	if !e.sum.Empty() || err != nil {
		o.RecordRun(ctx, &RunRecord{Kind: RunErase, Arguments: map[string]any{"customer_sha256": e.hash, "account": options.Account}, Counts: e.sum, Started: started, Err: err})
	}
	return e.sum, err
}

func accountText(account string) string {
	if account == "" {
		return "the receiver's own account"
	}
	return "account " + account
}

// eraser is one run of Erase.
type eraser struct {
	*Operator
	EraseOptions
	hash     string   // of the customer's id
	accounts []string // as rows have them, and first as erasures have it
	found
	sum EraseResult
}

func (o *Operator) eraser(options *EraseOptions) (*eraser, error) {
	e := &eraser{Operator: o, EraseOptions: *options, hash: erasure.Hash(options.Customer), accounts: []string{cmp.Or(options.Account, o.config.AccountID)}}
	if own := o.config.AccountID; own != "" && e.accounts[0] == own {
		e.accounts = append(e.accounts, "") // rows of the time before it was set
	}
	e.BatchSize = cmp.Or(e.BatchSize, DefaultEraseBatchSize)
	switch reason := strings.TrimSpace(o.config.Reason); {
	case strings.TrimSpace(e.Customer) != e.Customer || e.Customer == "" || len(e.Customer) > 255 || strings.ContainsRune(e.Customer, 0):
		return nil, fmt.Errorf("%w: EraseOptions.Customer is %.40q, not a customer's id (cus_…)", ErrRefused, e.Customer)
	case e.BatchSize < 0:
		return nil, fmt.Errorf("%w: EraseOptions.BatchSize is %d", ErrRefused, e.BatchSize)
	case e.DryRun:
	case reason == "":
		return nil, fmt.Errorf("%w: Config.Reason is empty: say why the customer is erased", ErrRefused)
	case strings.Contains(reason, e.Customer):
		return nil, fmt.Errorf("%w: the reason contains the customer's id: leave it out, since the reason is kept", ErrRefused)
	}
	return e, nil
}

// checkPermitted returns an error that names the first privilege that is missing.
func (e *eraser) checkPermitted(ctx context.Context) error {
	needs := map[string][]string{
		"stripe_webhook_events": {"SELECT", "UPDATE"}, "stripe_webhook_failures": {"SELECT", "UPDATE"}, "stripe_webhook_runs": {"SELECT", "UPDATE"},
		"stripe_webhook_payloads": {"SELECT", "DELETE"}, "subscriptions": {"SELECT", "DELETE"}, "subscription_items": {"SELECT", "DELETE"},
		"stripe_objects": {"SELECT", "DELETE"}, "stripe_erasures": {"SELECT", "INSERT"},
	}
	var tables, privileges []string
	for table, of := range needs {
		if e.DryRun {
			of = of[:1]
		}
		for _, privilege := range of {
			tables, privileges = append(tables, table), append(privileges, privilege)
		}
	}
	missing, err := e.queries.ServerMissingPrivileges(ctx, e.pool, tables, privileges)
	switch {
	case err != nil || len(missing) == 0:
		return err
	case missing[0].ByPolicy:
		return fmt.Errorf("%w: no policy allows %s on %s", webhooks.ErrRowSecurity, missing[0].Privilege, missing[0].TableName)
	}
	return fmt.Errorf("%w: it lacks %s on %s (deploy/roles.sql grants it to the operator)", webhooks.ErrNotPermitted, missing[0].Privilege, missing[0].TableName)
}

// erase notes the customer and the objects, so that no receiver stores anything of them from then on, and then removes what there is.
// An object that came meanwhile is found when everything is looked for again.
func (e *eraser) erase(ctx context.Context) error {
	known, err := e.queries.ErasureOlder(ctx, e.pool, erasure.Lease.Seconds())
	if err != nil {
		return fmt.Errorf("look for erasures: %w", err)
	}
	if err := e.noteCustomer(ctx); err != nil {
		return err
	}
	for noted := -1; noted < len(e.ids); {
		noted = len(e.ids)
		if err := e.noteObjects(ctx); err != nil {
			return err
		}
		if !known { // by receivers
			known = true
			if err := e.awaitReceivers(ctx); err != nil {
				return err
			}
		}
		if err := e.drain(ctx); err != nil {
			return err
		}
		if err := e.find(ctx); err != nil {
			return err
		}
	}
	return e.remove(ctx)
}

// awaitReceivers waits until no receiver relies any more on that there are no erasures.
func (e *eraser) awaitReceivers(ctx context.Context) error {
	wait := erasure.Lease + erasure.Lease/12
	if e.Waiting != nil {
		e.Waiting(wait)
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drain waits for the transactions in progress, which may not have seen what was noted.
func (e *eraser) drain(ctx context.Context) error {
	open, err := e.queries.ErasureTransactions(ctx, e.pool)
	for deadline := time.Now().Add(drainLimit); err == nil && len(open) > 0; {
		if time.Now().After(deadline) {
			return fmt.Errorf("a transaction that began before the erasure is still in progress after %v (virtualtransaction %s in pg_locks): end it, and erase again",
				drainLimit, open[0])
		}
		select {
		case <-time.After(lockPause / 4):
		case <-ctx.Done():
			return ctx.Err()
		}
		var now []string
		now, err = e.queries.ErasureTransactions(ctx, e.pool)
		open = slices.DeleteFunc(open, func(id string) bool { return !slices.Contains(now, id) })
	}
	if err != nil {
		return fmt.Errorf("look for transactions in progress: %w", err)
	}
	return nil
}

// noteCustomer notes that the customer is erased, in both modes.
func (e *eraser) noteCustomer(ctx context.Context) error {
	account := e.accounts[0]
	_, err := e.queries.ErasureInsert(ctx, e.pool, db.ErasureInsertParams{
		IDHashes: []string{e.hash, e.hash}, AccountIds: []string{account, account}, Livemodes: []bool{true, false}, CustomerHash: e.hash,
		Operator: engine.NilIfEmpty(cmp.Or(e.config.Operator, userName())), Reason: &e.config.Reason,
	})
	if err != nil {
		return fmt.Errorf("record the erasure: %w", err)
	}
	return nil
}

// noteObjects notes that the objects are erased.
func (e *eraser) noteObjects(ctx context.Context) error {
	for batch := range slices.Chunk(e.sortedIDs(), e.BatchSize) {
		params := db.ErasureInsertParams{CustomerHash: e.hash}
		for _, of := range batch {
			params.IDHashes, params.Livemodes = append(params.IDHashes, erasure.Hash(of.id)), append(params.Livemodes, of.livemode)
			params.AccountIds = append(params.AccountIds, e.accounts[0])
		}
		if _, err := e.queries.ErasureInsert(ctx, e.pool, params); err != nil {
			return fmt.Errorf("record the erased objects: %w", err)
		}
	}
	return nil
}

// eraseAttempts is how often a transaction is tried that PostgreSQL ends since it is in the way of another one.
const eraseAttempts = 5

// inTx runs fn in a transaction that holds the locks of the customer and of objects, in the order of all transactions.
func (e *eraser) inTx(ctx context.Context, objects []string, fn func(tx pgx.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := pgx.BeginTxFunc(ctx, e.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			for _, id := range append([]string{e.Customer}, slices.Sorted(slices.Values(objects))...) {
				if err := webhooks.LockObject(ctx, tx, id); err != nil {
					return err
				}
			}
			return fn(tx)
		})
		var refused *pgconn.PgError
		if !errors.As(err, &refused) {
			return err
		}
		switch refused.Code {
		case fault.SerializationFailure, fault.DeadlockDetected, fault.LockNotAvailable:
			if attempt < eraseAttempts && ctx.Err() == nil {
				continue
			}
		case "23503":
			return fmt.Errorf("another table references the customer's objects (constraint %s): delete its rows of the customer first: %w", refused.ConstraintName, err)
		}
		return err
	}
}
