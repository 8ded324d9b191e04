package webhooks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
)

// transaction is one transaction of an event's work. Its statements travel together as far as one does not
// need another's answer: BEGIN with the lookup in the ledger and what the projections read, the record with
// what is left to be written and COMMIT.
type transaction struct {
	receiver *Receiver
	work     *work
	conn     *pgx.Conn
	tx       pgx.Tx
	trips    []Trips // of each of the work's handlers
	later    Later
	patience time.Duration // bounds each wait for a lock beside the receiver's own limit; 0: it alone does
	locked   bool          // the first handler's lock was free
	known    bool          // the event was in the ledger: nothing has been done
}

var isolation = pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL READ COMMITTED"}

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

// isKnown says whether what the ledger has of the event is all that is to come of it, and remembers it if it is final.
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
	if t.tx, err = t.conn.BeginTx(ctx, isolation); err != nil {
		return "", err
	}
	if err := t.limitLocks(ctx, t.tx); err != nil {
		return "", err
	}
	if _, err := call(ctx, t.tx, t.work.plain, t.work.delivered); err != nil {
		return "", err
	}
	t.work.committing.Store(true)
	return OutcomeProcessed, commit(t.conn, t.receiver.config.CommitTimeout)
}

// known is what the ledger says of an event before it is processed.
type known struct {
	final       bool // it has been applied, under its own id or its twin's
	here        bool // there is a row under the id that it is recorded under
	underThinID bool // there is a provisional row under its thin id, which is another
}

// check begins the transaction and looks the event up in the ledger, with what its projections read.
func (t *transaction) check(ctx context.Context, ev *Event) (k known, err error) {
	t.prepare(ev)
	t.tx, err = t.receiver.beginWith(ctx, t.conn, t.firstTrip(&k))
	t.later.tx = t.tx
	return k, err
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
		return tx, r.ledgerError("begin", err)
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

// begin is what comes first: it bounds each wait for a lock, and takes the first handler's lock if it is free.
func (t *transaction) begin(ctx context.Context, db db.DBTX) error {
	if len(t.trips) == 0 || t.trips[0].Lock == "" {
		return t.limitLocks(ctx, db)
	}
	row, err := t.receiver.queries.ObjectLockTry(ctx, db, milliseconds(t.lockTimeout(ctx)), t.trips[0].Lock)
	t.locked = row.Locked
	return lockError(t.trips[0].Lock, err)
}

// waitForLocks waits for the locks that the first trip has not brought, and looks again at what was read without
// them. Who had one may have applied a copy of the event.
func (t *transaction) waitForLocks(ctx context.Context, k *known) error {
	for i, trips := range t.trips {
		if trips.Lock == "" || i == 0 && t.locked {
			continue
		}
		wait := func(ctx context.Context, db db.DBTX) error { return LockObject(ctx, db, trips.Lock) }
		statements := append([]Statement{wait, t.receiver.lookup(t.work, k)}, trips.Read...)
		batch := &pgx.Batch{}
		note(ctx, (*noted)(batch), statements)
		if err := read(ctx, t.tx.SendBatch(ctx, batch), statements); err != nil {
			return err
		}
	}
	return nil
}

// lookup looks an event up: a thin one under its own id and under its snapshot event's.
func (r *Receiver) lookup(w *work, k *known) Statement {
	id, delivered := w.subject().ID, w.delivered.ID
	if id == delivered {
		return func(ctx context.Context, db db.DBTX) error {
			outcome, err := r.queries.StripeWebhookEventOutcome(ctx, db, id)
			switch {
			case err == nil:
				k.here, k.final = true, Outcome(outcome) != OutcomeIgnored
			case errors.Is(err, pgx.ErrNoRows):
				return nil
			}
			return r.ledgerError("look up the event", err)
		}
	}
	return func(ctx context.Context, db db.DBTX) error {
		rows, err := r.queries.StripeWebhookEventOutcomes(ctx, db, []string{id, delivered})
		for _, row := range rows {
			k.final = k.final || Outcome(row.Outcome) != OutcomeIgnored
			k.here = k.here || row.EventID == id
			k.underThinID = k.underThinID || row.EventID == delivered
		}
		return r.ledgerError("look up the event and its twin", err)
	}
}

// eventFor is the event as one of its functions sees it.
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
		if w.lacksObject() && !h.projection {
			continue
		}
		changed, err := call(ctx, t.tx, t.runner(i, h), t.eventFor(ev, i))
		if err != nil {
			return "", askedBy(i, err)
		}
		if changed {
			outcome = OutcomeProcessed
		}
	}
	if w.lacksObject() {
		return "", &askError{handler: nobody}
	}
	return outcome, ctx.Err()
}

// runner is what one of the functions does. A function may look at what those before it have written.
func (t *transaction) runner(i int, h handler) run {
	if h.trips != nil {
		return func(ctx context.Context, tx pgx.Tx, _ *Event) (bool, error) {
			return t.trips[i].Apply(ctx, tx, &t.later)
		}
	}
	return func(ctx context.Context, tx pgx.Tx, ev *Event) (bool, error) {
		if err := t.later.Flush(ctx); err != nil {
			return false, err
		}
		return h.run(ctx, tx, ev)
	}
}

// record writes the event's row and commits.
func (t *transaction) record(ctx context.Context, ev *Event, known known, outcome Outcome) error {
	r := t.receiver
	if known.here || known.underThinID || !r.prepares {
		return t.recordFirst(ctx, ev, known, outcome)
	}
	limit := r.lockTimeout(ctx) + r.config.CommitTimeout
	t.later.Add(t.insert(ev, outcome))
	t.work.committing.Store(true)
	return lastTrip(ctx, t.conn, t.later.list, limit)
}

// recordFirst is for what needs an answer before COMMIT, and for connections without prepared statements.
func (t *transaction) recordFirst(ctx context.Context, ev *Event, known known, outcome Outcome) error {
	if known.underThinID {
		t.later.Add(t.removeIgnored())
	}
	if known.here {
		t.later.Add(t.settleIgnored(ev, outcome))
	} else {
		t.later.Add(t.insert(ev, outcome))
	}
	if err := t.later.Flush(ctx); err != nil {
		return err
	}
	t.work.committing.Store(true)
	return commit(t.conn, t.receiver.config.CommitTimeout)
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
			return errDuplicate
		}
		return t.receiver.ledgerError("record the event", err)
	}
}

func (t *transaction) settleIgnored(ev *Event, outcome Outcome) Statement {
	params := db.StripeWebhookEventUpdateIgnoredParams{Outcome: string(outcome), EventType: ev.Type, EventID: ev.ID}
	return func(ctx context.Context, db db.DBTX) error {
		rows, err := t.receiver.queries.StripeWebhookEventUpdateIgnored(ctx, db, params)
		if err == nil && rows == 0 {
			return errDuplicate
		}
		return t.receiver.ledgerError("record the event", err)
	}
}

// removeIgnored removes a thin event's provisional row.
func (t *transaction) removeIgnored() Statement {
	return func(ctx context.Context, db db.DBTX) error {
		err := t.receiver.queries.StripeWebhookEventDeleteIgnored(ctx, db, t.work.delivered.ID)
		return t.receiver.ledgerError("remove the thin event's provisional row", err)
	}
}

// ledgerError wraps an error of one of our own statements.
func (r *Receiver) ledgerError(doing string, err error) error {
	switch {
	case err == nil, errors.Is(err, ErrNoted):
		return err
	case LacksMigration(err):
		r.ready.Store(false)
		return notMigrated(err)
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}
