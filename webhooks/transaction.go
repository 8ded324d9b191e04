package webhooks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
)

// transaction is one transaction of an event's work. Its statements are batched into as few round trips as their data
// dependencies allow: BEGIN with the lookup in the ledger and what the projections read, the record with
// what is left to be written and COMMIT.
type transaction struct {
	receiver *Receiver
	work     *work
	conn     *pgx.Conn
	tx       pgx.Tx
	trips    []Trips // of each of the work's handlers
	later    Later
	patience time.Duration // bounds each wait for a lock beside the receiver's own limit; 0: it alone does
	lock     string        // the object whose lock the transaction holds when handlers run; "": none
	locked   bool          // the lock was free
	known    bool          // the event was in the ledger: nothing has been done
	session  session

	handling   bool // a handler has been called: what fails from here on is not simply tried again
	handlerRan bool // and one of them was the host's

	handlersTook time.Duration // all of the host's together
}

var isolation = pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL READ COMMITTED"}

func (r *Receiver) newTransaction(w *work, conn *pgx.Conn) *transaction {
	t := &transaction{receiver: r, work: w, conn: conn}
	t.later.send = t.sendOwn
	return t
}

func (t *transaction) run(ctx context.Context) (Outcome, error) {
	if t.work.plain != nil {
		return t.runPlain(ctx)
	}
	ev := t.work.subject()
	k, err := t.check(ctx, ev)
	if err != nil {
		return "", err
	}
	if t.known = t.isKnown(k); !t.known {
		if err := t.waitForLocks(ctx, &k); err != nil {
			return "", err
		}
		t.known = t.isKnown(k)
	}
	if t.known {
		t.receiver.warnOfOtherType(ctx, t.work, k.eventType)
		return OutcomeDuplicate, nil
	}
	outcome, err := t.process(ctx, ev)
	if err != nil {
		return "", err
	}
	if err := t.record(ctx, ev, k, outcome); err != nil {
		return "", err
	}
	t.remember(outcome != OutcomeIgnored)
	return outcome, nil
}

// isKnown says whether the ledger's outcome of the event stays as it is, and remembers the event if it is final.
func (t *transaction) isKnown(k known) bool {
	t.remember(k.final)
	return k.final || k.here && len(t.work.handlers) == 0
}

// remember notes an event whose outcome in the ledger is final. One that was ignored may be applied next time.
func (t *transaction) remember(final bool) {
	if final {
		t.receiver.recent.note(t.work.delivered.ID)
	}
}

// runPlain is the work that no event brings.
func (t *transaction) runPlain(ctx context.Context) (Outcome, error) {
	var err error
	if t.tx, err = t.receiver.beginWith(ctx, t.conn, []Statement{t.openSession}); err != nil {
		return "", err
	}
	if err := t.session.writable(); err != nil {
		return "", err
	}
	if _, err := t.callHost(ctx, t.work.plain, t.work.delivered); err != nil {
		return "", err
	}
	if !t.receiver.prepares {
		if err := t.sendOwn(ctx, nil); err != nil {
			return "", err
		}
		return OutcomeProcessed, t.commit()
	}
	return OutcomeProcessed, t.lastTrip(ctx)
}

// known is what the ledger says of an event before it is processed.
type known struct {
	final       bool   // it has been applied, under its own id or its twin's, or waits for a person
	here        bool   // there is a row under the id that it is recorded under
	underThinID bool   // there is a provisional row under its thin id, which is another
	eventType   string // that of the row
}

// note takes a row of the ledger. What is parked is final but for a person's replay.
func (k *known) note(w *work, outcome, eventType string) {
	provisional := Outcome(outcome) == OutcomeIgnored || Outcome(outcome) == OutcomeParked && w.replaysParked
	k.final = k.final || !provisional
	k.eventType = eventType
}

// check begins the transaction and looks the event up in the ledger, with what its projections read.
func (t *transaction) check(ctx context.Context, ev *Event) (k known, err error) {
	t.prepare(ev)
	if t.tx, err = t.receiver.beginWith(ctx, t.conn, t.firstTrip(&k)); err != nil {
		return k, err
	}
	return k, t.session.writable()
}

// beginWith begins a transaction, with what can be asked at once. The transaction is there with an error, too.
func (r *Receiver) beginWith(ctx context.Context, conn *pgx.Conn, statements []Statement) (pgx.Tx, error) {
	batch := &pgx.Batch{}
	batch.BeginTx(isolation)
	note(ctx, (*noted)(batch), statements)
	results := conn.SendBatch(ctx, batch)
	tx := results.Tx()
	if _, err := results.Exec(); err != nil { // BEGIN
		_ = results.Close()
		return tx, ledgerError("begin", err)
	}
	return tx, read(ctx, results, statements)
}

// prepare asks the projections what they will need.
func (t *transaction) prepare(ev *Event) {
	t.trips = make([]Trips, len(t.work.handlers))
	for i, h := range t.work.handlers {
		if h.trips != nil {
			t.trips[i] = h.trips(t.eventFor(ev, i))
		}
	}
	if len(t.work.handlers) > 0 {
		t.lock = t.work.delivered.ObjectID()
	}
}

// firstTrip is what travels with BEGIN.
func (t *transaction) firstTrip(k *known) []Statement {
	statements := []Statement{t.begin, t.receiver.lookup(t.work, k)}
	for _, trips := range t.trips {
		statements = append(statements, trips.Read...)
	}
	return statements
}

func (t *transaction) lockTimeout(ctx context.Context) time.Duration {
	limit := t.receiver.lockTimeout(ctx)
	if t.patience > 0 {
		limit = min(limit, t.patience)
	}
	return limit
}

// limitLocks bounds each wait for a lock.
func (t *transaction) limitLocks(ctx context.Context, db db.DBTX) error {
	return t.receiver.queries.ServerLockTimeout(ctx, db, milliseconds(t.lockTimeout(ctx)))
}

// begin is what comes first: it bounds each wait for a lock, and takes the lock of the event's object if it is free.
func (t *transaction) begin(ctx context.Context, db db.DBTX) error {
	if t.work.runsHost() {
		return t.openSession(ctx, db)
	}
	if t.lock == "" {
		return t.limitLocks(ctx, db)
	}
	row, err := t.receiver.queries.ObjectLockTry(ctx, db, milliseconds(t.lockTimeout(ctx)), t.lock)
	t.locked = row.Locked
	return lockError(t.lock, err)
}

// waitForLocks waits for the locks that the first trip has not brought, and looks again at what was read without
// them. Who had one may have applied a duplicate of the event.
func (t *transaction) waitForLocks(ctx context.Context, k *known) error {
	if t.lock != "" && !t.locked {
		var reads []Statement
		for _, trips := range t.trips {
			if trips.Lock == t.lock {
				reads = append(reads, trips.Read...)
			}
		}
		if err := t.waitForLock(ctx, t.lock, k, reads); err != nil {
			return err
		}
	}
	for _, trips := range t.trips {
		if trips.Lock == "" || trips.Lock == t.lock {
			continue
		}
		if err := t.waitForLock(ctx, trips.Lock, k, trips.Read); err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) waitForLock(ctx context.Context, object string, k *known, reads []Statement) error {
	wait := func(ctx context.Context, db db.DBTX) error { return LockObject(ctx, db, object) }
	statements := append([]Statement{wait, t.receiver.lookup(t.work, k)}, reads...)
	batch := &pgx.Batch{}
	note(ctx, (*noted)(batch), statements)
	return read(ctx, t.tx.SendBatch(ctx, batch), statements)
}

// lookup looks an event up: a thin one under its own id and under its snapshot event's.
func (r *Receiver) lookup(w *work, k *known) Statement {
	id, delivered := w.subject().ID, w.delivered.ID
	if id == delivered {
		return func(ctx context.Context, db db.DBTX) error {
			row, err := r.queries.StripeWebhookEventOutcome(ctx, db, id)
			switch {
			case err == nil:
				k.here = true
				k.note(w, row.Outcome, row.EventType)
			case errors.Is(err, pgx.ErrNoRows):
				return nil
			}
			return ledgerError("look up the event", err)
		}
	}
	return func(ctx context.Context, db db.DBTX) error {
		rows, err := r.queries.StripeWebhookEventOutcomes(ctx, db, []string{id, delivered})
		for _, row := range rows {
			k.note(w, row.Outcome, row.EventType)
			k.here = k.here || row.EventID == id
			k.underThinID = k.underThinID || row.EventID == delivered
		}
		return ledgerError("look up the event and its twin", err)
	}
}

// eventFor is the event as one of its handlers sees it.
func (t *transaction) eventFor(ev *Event, handler int) *Event {
	one := *ev
	one.Current = t.work.asked.current(handler)
	return &one
}

func (t *transaction) process(ctx context.Context, ev *Event) (Outcome, error) {
	w := t.work
	if len(w.handlers) == 0 {
		return OutcomeIgnored, nil
	}
	outcome := OutcomeStale
	for i, h := range w.handlers {
		if !w.runs(h) || w.lacksObject() && !h.projection {
			continue
		}
		t.handling = true
		changed, err := t.call(ctx, i, h, t.eventFor(ev, i))
		if err != nil {
			return "", ofHandler(i, h, err)
		}
		if changed {
			outcome = OutcomeProcessed
		}
	}
	if w.parked != nil {
		return OutcomeParked, ctx.Err()
	}
	if w.lacksObject() {
		return "", &askError{handler: nobody}
	}
	return outcome, ctx.Err()
}

// record writes the event's row and commits.
func (t *transaction) record(ctx context.Context, ev *Event, known known, outcome Outcome) error {
	if t.work.parked != nil { // whose record must be there: its answer is read
		t.later.Add(t.receiver.failureRecord(t.work, t.work.parked, stateParked))
	}
	if t.work.parked != nil || known.here || known.underThinID || !t.receiver.prepares {
		return t.recordFirst(ctx, ev, known, outcome)
	}
	t.later.Add(t.insert(ev, outcome))
	return t.lastTrip(ctx)
}

// lastTrip writes what is left and commits.
func (t *transaction) lastTrip(ctx context.Context) error {
	statements, err := t.restored(ctx, t.later.list, parsedOn(t.conn).byText)
	if err != nil {
		return err
	}
	limit := t.receiver.lockTimeout(ctx) + t.receiver.config.CommitTimeout
	t.work.committing.Store(true)
	return lastTrip(ctx, t.conn, statements, limit)
}

func (t *transaction) commit() error {
	t.work.committing.Store(true)
	return commit(t.conn, t.receiver.config.CommitTimeout)
}

// recordFirst is for what needs an answer before COMMIT, and for connections without prepared statements.
func (t *transaction) recordFirst(ctx context.Context, ev *Event, known known, outcome Outcome) error {
	if known.underThinID {
		t.later.Add(t.removeIgnored())
	}
	if known.here {
		t.later.Add(t.settleProvisional(ev, outcome))
	} else {
		t.later.Add(t.insert(ev, outcome))
	}
	if err := t.later.Flush(ctx); err != nil {
		return err
	}
	return t.commit()
}

func (t *transaction) insert(ev *Event, outcome Outcome) Statement {
	params := db.StripeWebhookEventInsertParams{
		EventID:        ev.ID,
		EventType:      ev.Type,
		Outcome:        string(outcome),
		EventCreatedAt: nilIfZero(ev.Created),
		Livemode:       ev.Livemode,
		AccountID:      nilIfZero(ev.Account),
		ApiVersion:     nilIfZero(ev.APIVersion),
		ObjectID:       nilIfZero(ev.ObjectID()),
	}
	return func(ctx context.Context, db db.DBTX) error {
		err := t.receiver.queries.StripeWebhookEventInsert(ctx, db, params)
		if !errors.Is(err, ErrNoted) && isLedgerViolation(err) {
			return errLostRace
		}
		return ledgerError("record the event", err)
	}
}

func (t *transaction) settleProvisional(ev *Event, outcome Outcome) Statement {
	params := db.StripeWebhookEventUpdateProvisionalParams{
		Outcome: string(outcome), EventType: ev.Type, EventID: ev.ID, ReplaysParked: t.work.replaysParked,
	}
	return func(ctx context.Context, db db.DBTX) error {
		rows, err := t.receiver.queries.StripeWebhookEventUpdateProvisional(ctx, db, params)
		if err == nil && rows == 0 {
			return errLostRace
		}
		return ledgerError("record the event", err)
	}
}

// removeIgnored removes a thin event's provisional row.
func (t *transaction) removeIgnored() Statement {
	return func(ctx context.Context, db db.DBTX) error {
		err := t.receiver.queries.StripeWebhookEventDeleteIgnored(ctx, db, t.work.delivered.ID)
		return ledgerError("remove the thin event's provisional row", err)
	}
}

// ledgerError wraps an error of one of our own statements.
func ledgerError(doing string, err error) error {
	if err == nil || errors.Is(err, ErrNoted) {
		return err
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// sameType is true if a row of the ledger can be of an event's type: a thin event's has "v1." before it.
func sameType(a, b string) bool {
	return strings.TrimPrefix(a, thinPrefix) == strings.TrimPrefix(b, thinPrefix)
}
