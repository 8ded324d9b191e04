package webhooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
)

// ledgerState is the ledger's state of an event before it is processed.
type ledgerState struct {
	final     bool    // it has been applied, under its own id or its twin's, or waits for a person
	recorded  bool    // there is a row under the id that it is recorded under
	twin      bool    // there is a provisional row under the thin event's id, which is another
	outcome   Outcome // of the row
	eventType string  // of the row
	other     error   // the row is of an event of another account
}

// errOtherAccount reports that the ledger has an event id as one of another account. Stripe's ids are unique across accounts,
// so one of the two was made up by somebody who has a signing secret.
var errOtherAccount = errors.New("the ledger has the event's id for another account")

// testEventID is the id of all test events that Stripe's dashboard sends, for any account.
const testEventID = "evt_00000000000000"

// found notes a row of the ledger. A parked event is final but for a person's replay.
func (d *delivery) found(outcome, eventType string, account *string) {
	if d.received.otherThan(account) {
		d.ledger.other = fmt.Errorf("%w, %q", errOtherAccount, *account)
	}
	provisional := Outcome(outcome) == OutcomeIgnored || Outcome(outcome) == OutcomeParked && d.replay
	d.ledger.final = d.ledger.final || !provisional
	d.ledger.outcome, d.ledger.eventType = Outcome(outcome), eventType
}

// foundRow notes a row of the ledger under the event's id, or under that of its twin.
func (d *delivery) foundRow(id, outcome, eventType string, account *string) {
	d.found(outcome, eventType, account)
	d.ledger.recorded = d.ledger.recorded || id == d.id()
	d.ledger.twin = d.ledger.twin || id != d.id()
}

// otherThan reports whether a row's account is not the event's. A row of the time before Config.AccountID was set has none.
func (ev *Event) otherThan(account *string) bool {
	return ev.ID != testEventID && account != nil && ev.Account != "" && *account != ev.Account
}

// sameType reports whether a row of the ledger can be of an event's type: a thin event's begins with "v1.".
func sameType(a, b string) bool {
	return strings.TrimPrefix(a, thinPrefix) == strings.TrimPrefix(b, thinPrefix)
}

// sawFinal notes an event whose outcome in the ledger is final. One that was ignored may be applied next time.
func (r *Receiver) sawFinal(d *delivery, final bool) {
	if final && !d.inTx {
		r.seen.Add(d.received.ID)
	}
}

// openingQueries cap the waits for locks, take the locks that are free, and look the events up.
func (t *transaction) openingQueries() []pgpipe.Query {
	d := t.deliveries[0]
	switch {
	case t.hosts:
		return []pgpipe.Query{t.openSession, t.lockAll, t.lookupAll}
	case len(t.deliveries) > 1:
		return []pgpipe.Query{t.capLocks, t.lockAll, t.lookupAll}
	case d.inTx:
		return []pgpipe.Query{t.openSession}
	case d.runsHost() && d.customer == "":
		return []pgpipe.Query{t.openSession, t.receiver.lookupQuery(d)}
	case d.runsHost():
		return []pgpipe.Query{t.openSession, t.lockBoth, t.receiver.lookupQuery(d)}
	case d.customer != "":
		return []pgpipe.Query{t.capLocks, t.lockBoth, t.receiver.lookupQuery(d)}
	case d.lock == "":
		return []pgpipe.Query{t.capLocks, t.receiver.lookupQuery(d)}
	default:
		return []pgpipe.Query{t.lockOne, t.receiver.lookupQuery(d)}
	}
}

func (t *transaction) capLocks(ctx context.Context, db pgpipe.DBTX) error {
	err := t.receiver.queries.ServerLockTimeout(ctx, db, milliseconds(t.lockTimeout(ctx)))
	return pgpipe.Wrap("set lock_timeout", err)
}

func (t *transaction) lockOne(ctx context.Context, dbtx pgpipe.DBTX) error {
	d := t.deliveries[0]
	row, err := t.receiver.queries.ObjectLockTry(ctx, dbtx, db.ObjectLockTryParams{
		LockTimeout: milliseconds(t.lockTimeout(ctx)), ObjectID: d.lock, LockSeed: objectLockSeed,
	})
	d.locked = row.Locked
	return lockError(d.lock, err)
}

// lockBoth takes the locks of the event's customer and of its object.
func (t *transaction) lockBoth(ctx context.Context, dbtx pgpipe.DBTX) (err error) {
	d := t.deliveries[0]
	d.locked, err = t.receiver.queries.ObjectLockTryBoth(ctx, dbtx, db.ObjectLockTryBothParams{
		CustomerID: d.customer, ObjectID: d.lock, LockSeed: objectLockSeed,
	})
	return lockError(d.customer, err)
}

func (t *transaction) lockAll(ctx context.Context, dbtx pgpipe.DBTX) error {
	params := db.ObjectLockTryAllParams{LockSeed: objectLockSeed}
	for _, d := range t.deliveries {
		if d.lock != "" {
			params.CustomerIds, params.ObjectIds = append(params.CustomerIds, d.customer), append(params.ObjectIds, d.lock)
		}
	}
	taken, err := t.receiver.queries.ObjectLockTryAll(ctx, dbtx, params)
	for _, d := range t.deliveries {
		d.locked = d.lock != "" && slices.Contains(taken, d.lock)
	}
	return pgpipe.Wrap("lock the objects of events", err)
}

func (t *transaction) lookupAll(ctx context.Context, db pgpipe.DBTX) error {
	ids := make([]string, len(t.deliveries))
	for i, d := range t.deliveries {
		ids[i] = d.received.ID
	}
	rows, err := t.receiver.queries.StripeWebhookEventOutcomes(ctx, db, ids)
	for _, row := range rows {
		d := t.deliveries[slices.Index(ids, row.EventID)]
		d.ledger.recorded = true
		d.found(row.Outcome, row.EventType, row.AccountID)
	}
	return pgpipe.Wrap("look up events", err)
}

// lookupQuery looks an event up: a thin event under its own id and under its snapshot event's.
func (r *Receiver) lookupQuery(d *delivery) pgpipe.Query {
	id, own := d.id(), d.received.ID
	if id == own {
		return func(ctx context.Context, db pgpipe.DBTX) error {
			row, err := r.queries.StripeWebhookEventOutcome(ctx, db, id)
			switch {
			case err == nil:
				d.ledger.recorded = true
				d.found(row.Outcome, row.EventType, row.AccountID)
			case errors.Is(err, pgx.ErrNoRows):
				return nil
			}
			return pgpipe.Wrap("look up the event", err)
		}
	}
	return func(ctx context.Context, db pgpipe.DBTX) error {
		rows, err := r.queries.StripeWebhookEventOutcomes(ctx, db, []string{id, own})
		for _, row := range rows {
			d.foundRow(row.EventID, row.Outcome, row.EventType, row.AccountID)
		}
		return pgpipe.Wrap("look up the event and its twin", err)
	}
}

// ledgerQueries appends the queries that record the events. A row that is updated, or whose failure record must be there,
// needs its result before COMMIT.
func (t *transaction) ledgerQueries(queries []pgpipe.Query, writers []*delivery) (_ []pgpipe.Query, needsResult bool) {
	d := writers[0]
	if t.hosts {
		return queries, false // each has been carried with its event
	}
	if len(writers) > 1 {
		return append(append(queries, t.insertAll(writers)), t.keepPayload(writers...)...), false
	}
	if d.inTx || d.reprocess != nil {
		return queries, false
	}
	if d.ledger.twin {
		queries = append(queries, t.deleteTwin(d))
	}
	if d.learned && d.id() != d.received.ID {
		queries = append(queries, t.settleFailure(d))
	}
	if d.ledger.recorded {
		queries = append(queries, t.updateProvisional(d))
	} else {
		queries = append(queries, t.insert(d))
	}
	queries = append(queries, t.keepPayload(d)...)
	return queries, d.parked != nil || d.ledger.twin || d.ledger.recorded
}

func (t *transaction) insert(d *delivery) pgpipe.Query {
	ev := d.event()
	params := db.StripeWebhookEventInsertParams{
		EventID:        ev.ID,
		EventType:      ev.Type,
		Outcome:        string(d.toRecord),
		EventCreatedAt: nilIfZero(ev.Created),
		Livemode:       ev.Livemode,
		AccountID:      nilIfZero(ev.Account),
		ApiVersion:     nilIfZero(ev.APIVersion),
		ObjectID:       nilIfZero(d.subjectToRecord()),
		Receiver:       t.receiver.config.Name,
	}
	return func(ctx context.Context, db pgpipe.DBTX) error {
		err := t.receiver.queries.StripeWebhookEventInsert(ctx, db, params)
		if err == nil || errors.Is(err, pgpipe.ErrRecording) {
			return err
		}
		return pgpipe.Wrap("record the event", ofLedgerInsert(err))
	}
}

func (t *transaction) insertAll(writers []*delivery) pgpipe.Query {
	p := db.StripeWebhookEventInsertAllParams{Receiver: t.receiver.config.Name}
	for _, d := range writers {
		ev := d.received
		p.EventIds, p.EventTypes, p.Outcomes = append(p.EventIds, ev.ID), append(p.EventTypes, ev.Type), append(p.Outcomes, string(d.toRecord))
		p.EventCreatedAts, p.Livemodes = append(p.EventCreatedAts, ev.Created), append(p.Livemodes, ev.Livemode)
		p.AccountIds, p.ApiVersions, p.ObjectIds = append(p.AccountIds, ev.Account), append(p.ApiVersions, ev.APIVersion), append(p.ObjectIds, d.subjectToRecord())
	}
	return func(ctx context.Context, db pgpipe.DBTX) error { // a lost race needs no name: each event is retried alone
		return pgpipe.Wrap("record events", t.receiver.queries.StripeWebhookEventInsertAll(ctx, db, p))
	}
}

// updateProvisional settles an event that was ignored when it came first, or that was parked and is replayed.
func (t *transaction) updateProvisional(d *delivery) pgpipe.Query {
	params := db.StripeWebhookEventUpdateProvisionalParams{
		Outcome: string(d.toRecord), EventType: d.event().Type, EventID: d.id(), ReplaysParked: d.replay,
		Receiver: t.receiver.config.Name,
	}
	return func(ctx context.Context, db pgpipe.DBTX) error {
		rows, err := t.receiver.queries.StripeWebhookEventUpdateProvisional(ctx, db, params)
		if err == nil && rows == 0 {
			return errLostRace
		}
		return pgpipe.Wrap("record the event", err)
	}
}

// deleteTwin removes the provisional row of a thin event that takes effect under its snapshot event's id.
func (t *transaction) deleteTwin(d *delivery) pgpipe.Query {
	return func(ctx context.Context, db pgpipe.DBTX) error {
		err := t.receiver.queries.StripeWebhookEventDeleteIgnored(ctx, db, d.received.ID)
		return pgpipe.Wrap("remove the thin event's provisional row", err)
	}
}

// settleFailure settles the record of the time before the event's twin was known.
func (t *transaction) settleFailure(d *delivery) pgpipe.Query {
	return func(ctx context.Context, db pgpipe.DBTX) error {
		err := t.receiver.queries.StripeWebhookFailureSettle(ctx, db, d.id(), d.received.ID)
		return pgpipe.Wrap("settle the thin event's failure", err)
	}
}

// objectLockSeed keeps the advisory locks of Stripe objects apart from those of other programs on the database: the lock of
// an object is pg_advisory_xact_lock(hashtextextended(id, objectLockSeed)). All replicas must agree on it, so it never
// changes.
const objectLockSeed = 7306096

// LockObject waits until no other transaction holds the lock of the Stripe object id, and takes it until the transaction
// ends. The receiver holds the lock of the event's own object for every handler. Call it for another object, such as the
// customer, that handlers of several objects change. If Config.LockTimeout expires, return the error: the event fails
// (500), and Stripe retries.
func LockObject(ctx context.Context, tx db.DBTX, id string) error {
	return lockError(id, db.New().ObjectLock(ctx, tx, id, objectLockSeed))
}

// TryLockObjects is LockObject for several objects, without waiting. It returns those of which no other transaction holds the
// lock.
func TryLockObjects(ctx context.Context, tx db.DBTX, ids []string) (locked []string, err error) {
	locked, err = db.New().ObjectLockTryAll(ctx, tx, db.ObjectLockTryAllParams{ObjectIds: ids, CustomerIds: make([]string, len(ids)), LockSeed: objectLockSeed})
	if err != nil {
		return nil, fault.Unavailable(fmt.Errorf("lock %d objects: %w", len(ids), err))
	}
	return locked, nil
}

func lockError(id string, err error) error {
	if err == nil || errors.Is(err, pgpipe.ErrRecording) {
		return err
	}
	return fault.Unavailable(fmt.Errorf("lock %s: %w", id, err))
}

func nilIfZero[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}
