package operations

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/pook/stripeonce/db"
)

// FailureFilter selects the failures to list. The zero value selects the newest 50.
type FailureFilter struct {
	// Before is an event's id: only events whose first failure was before its are listed. Empty: start with the newest.
	Before string
	Limit  int          // 0: DefaultLimit
	State  FailureState // empty: StateFailing and StateParked
	// Account is the id of an account. Empty: any, and events without an account.
	Account string
	// Type is an event type, or a pattern that ends in ".*". Empty: every type.
	Type  string
	Since time.Time // the earliest time of an event's first failure; zero: any
	Until time.Time // events first failed before this time; zero: any
	// Customer is the id of a customer (cus_…): only events whose payload names it, or is about an object of CustomerObjects. A
	// failure without a payload is not found. Empty: any.
	Customer string
	// Group is the key of a FailureGroup: only its events, among the newest MaxFailuresScanned records. Empty: any.
	Group string
	// MaxScanned is the maximum number of failure records to read, newest first. Records of events that were applied since stay until
	// they are pruned, and are read and skipped. 0: no maximum; for FailureGroups, MaxFailuresScanned.
	MaxScanned int
}

const (
	// MaxFailureCount is the largest result of CountFailing and CountParked.
	MaxFailureCount = 1000
	// MaxFailuresScanned is how many failure records CountFailing, CountParked and FailureGroups read, newest first.
	MaxFailuresScanned = 100_000

	// allRecords is the MaxFailuresScanned of a walk without a bound.
	allRecords = math.MaxInt
	// walkPage is how many records a walk reads at a time, and maxOfCustomer how many of a customer's.
	walkPage      = 5000
	maxOfCustomer = 10_000
)

// CountFailing counts the failing events, up to MaxFailureCount, among the newest MaxFailuresScanned failure records. Parked and dismissed
// events do not count.
func (o *Operator) CountFailing(ctx context.Context) (int64, error) {
	return o.queries.LedgerFailing(ctx, o.pool, MaxFailuresScanned, MaxFailureCount)
}

// CountParked returns the number of parked events, counted up to MaxFailureCount among the newest MaxFailuresScanned events that ever failed.
func (o *Operator) CountParked(ctx context.Context) (int64, error) {
	return o.queries.LedgerParked(ctx, o.pool, MaxFailuresScanned, MaxFailureCount)
}

// Failures lists the parked events, and the events whose last attempt failed and that have not been applied since. The
// newest failure is first.
func (o *Operator) Failures(ctx context.Context, f FailureFilter) ([]Failure, error) {
	if f.Group != "" || f.Customer != "" {
		return o.failuresByWalk(ctx, f)
	}
	params := db.StripeWebhookFailureListParams{MaxRows: limit(f.Limit), State: string(f.State), AccountID: f.Account, Since: f.Since}
	params.EventType, params.TypePrefix = typeAndPrefix(f.Type)
	var err error
	if params.Before, params.BeforeEventID, err = o.startOf(ctx, f); err != nil {
		return nil, err
	}
	if f.MaxScanned > 0 {
		most := int64(f.MaxScanned)
		params.MaxLookedAt = &most
	}
	rows, err := o.queries.StripeWebhookFailureList(ctx, o.pool, params)
	if err == nil && len(rows) == 0 && f == (FailureFilter{Limit: f.Limit}) {
		err = o.checkSeesRows(ctx)
	}
	return failuresOf(rows, err)
}

func failuresOf(rows []db.StripeWebhookFailure, err error) ([]Failure, error) {
	if err != nil {
		return nil, fmt.Errorf("list the failures: %w", err)
	}
	failures := make([]Failure, len(rows))
	for i := range rows {
		one, err := failureOf(&rows[i])
		if err != nil {
			return nil, err
		}
		failures[i] = *one
	}
	return failures, nil
}

// startOf returns where a listing begins: before the first failure of the event Before, or before Until. Without either, nil.
func (o *Operator) startOf(ctx context.Context, f FailureFilter) (*time.Time, string, error) {
	switch {
	case f.Before == "" && f.Until.IsZero():
		return nil, "", nil
	case f.Before == "":
		return &f.Until, "", nil
	}
	row, err := o.failure(ctx, f.Before)
	if err != nil {
		return nil, "", err
	}
	if !f.Until.IsZero() && f.Until.Before(row.FirstFailedAt) {
		return &f.Until, "", nil
	}
	return &row.FirstFailedAt, row.EventID, nil
}

// failuresByWalk lists the failures of a group or a customer.
func (o *Operator) failuresByWalk(ctx context.Context, f FailureFilter) ([]Failure, error) {
	var ids []string
	_, err := o.walkFailures(ctx, f, func(one *brief) bool {
		ids = append(ids, one.EventID)
		return len(ids) < int(limit(f.Limit))
	})
	if err != nil {
		return nil, err
	}
	return failuresOf(o.queries.StripeWebhookFailureListByID(ctx, o.pool, ids))
}

// brief is what a walk needs of a failure.
type brief struct {
	EventID       string
	EventType     string
	State         string
	FirstFailedAt time.Time
	LastFailedAt  time.Time
	LastError     string
	Receiver      string
}

// walkFailures calls each with the failures that the filter selects, the newest first, until each returns false. It reports whether
// it left out older ones.
func (o *Operator) walkFailures(ctx context.Context, f FailureFilter, each func(*brief) bool) (cut bool, err error) {
	ofGroup := func(one *brief) bool {
		return f.Group != "" && one.group() != f.Group || each(one)
	}
	if f.Customer != "" {
		return o.walkCustomer(ctx, f, ofGroup)
	}
	page := db.StripeWebhookFailureWalkParams{State: string(f.State), AccountID: f.Account, Since: f.Since}
	page.EventType, page.TypePrefix = typeAndPrefix(f.Type)
	if page.Before, page.BeforeEventID, err = o.startOf(ctx, f); err != nil {
		return false, err
	}
	left := MaxFailuresScanned
	if f.MaxScanned > 0 {
		left = f.MaxScanned
	}
	for left > 0 {
		page.MaxRows = int32(min(left, walkPage))
		rows, err := o.queries.StripeWebhookFailureWalk(ctx, o.pool, page)
		if err != nil {
			return false, fmt.Errorf("list the failures: %w", err)
		}
		for i := range rows {
			row := &rows[i]
			if row.Listed && !ofGroup(&brief{row.EventID, row.EventType, row.State, row.FirstFailedAt, row.LastFailedAt, row.LastError, row.Receiver}) {
				return false, nil
			}
		}
		if len(rows) < int(page.MaxRows) {
			return false, nil
		}
		last := &rows[len(rows)-1]
		page.Before, page.BeforeEventID, left = &last.FirstFailedAt, last.EventID, left-len(rows)
	}
	return true, nil
}

// walkCustomer is walkFailures for a customer's.
func (o *Operator) walkCustomer(ctx context.Context, f FailureFilter, each func(*brief) bool) (cut bool, err error) {
	objects, err := o.CustomerObjects(ctx, EventFilter{Customer: f.Customer, Account: f.Account})
	if err != nil {
		return false, err
	}
	params := db.StripeWebhookFailureListByCustomerParams{
		ObjectIds: objects.IDs, CustomerID: f.Customer, State: string(f.State), AccountID: f.Account, Since: f.Since, MaxRows: maxOfCustomer,
	}
	params.EventType, params.TypePrefix = typeAndPrefix(f.Type)
	if params.Before, params.BeforeEventID, err = o.startOf(ctx, f); err != nil {
		return false, err
	}
	rows, err := o.queries.StripeWebhookFailureListByCustomer(ctx, o.pool, params)
	if err != nil {
		return false, fmt.Errorf("list the failures of %s: %w", f.Customer, err)
	}
	for i := range rows {
		one := brief(rows[i])
		if !each(&one) {
			return false, nil
		}
	}
	return len(rows) == maxOfCustomer, nil
}
