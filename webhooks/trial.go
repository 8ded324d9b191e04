package webhooks

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
)

// trial is a delivery's writes to some tables, with rows of random ids.
type trial struct {
	tables []string
	run    func(ctx context.Context, tx pgx.Tx) error
}

// The states of the trial: what Ready and deliveries do about it.
const (
	trialUntried int32 = iota // Ready tries; a delivery does not, so that one that is a duplicate writes nothing
	trialPassed               // nobody tries
	trialNeeded               // something cast doubt, or the last trial failed: both try
)

// trialPayload has text as Stripe sends it: characters of several scripts, as they are and as JSON's escapes.
const trialPayload = `{"object":"event","data":{"object":{"name":"Zoë Groß, 東京 🧾","escaped":"Zo\u00eb, \u6771\u4eac \ud83e\uddfe"}}}`

// trialRun is one trial, which any number of callers wait for.
type trialRun struct {
	done chan struct{}
	err  error // when done is closed
}

// awaitTrial waits for the trial that is in progress, or begins one. It takes some forty round trips and has a limit of its
// own, Config.Timeout, so that it comes to an end also where probes have little time: the next one finds the result.
func (r *Receiver) awaitTrial(ctx context.Context) error {
	r.trialMu.Lock()
	run := r.trial
	if run == nil {
		run = &trialRun{done: make(chan struct{})}
		r.trial = run
		go r.runTrial(context.WithoutCancel(ctx), run)
	}
	r.trialMu.Unlock()
	select {
	case <-run.done:
		return run.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, errTrialInProgress, ctx.Err())
	}
}

var errTrialInProgress = errors.New("a trial of a delivery is in progress")

func (r *Receiver) runTrial(ctx context.Context, run *trialRun) {
	defer func() {
		if value := recover(); value != nil { // of a hook of the pool
			run.err = fmt.Errorf("%w: %w", ErrUnavailable, &PanicError{Value: value, Stack: debug.Stack()})
		}
		r.trialMu.Lock()
		r.trial = nil
		r.trialMu.Unlock()
		close(run.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	run.err = r.checkOnFitConn(ctx, r.acquireForTrial, r.checkTrial)
}

func (r *Receiver) acquireForTrial(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := r.acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotAcquired, err)
	}
	return conn, nil
}

// warnIfExposed tells, once, of tables that Supabase serves to anybody: its roles anon and authenticated had all rights on new
// tables of the schema public by default. The migrations revoke them, and somebody may have granted them again.
func (r *Receiver) warnIfExposed(ctx context.Context, conn *pgxpool.Conn) {
	exposed, err := r.queries.ServerExposed(ctx, conn, r.tables())
	if err == nil && exposed != "" && !r.exposed.Swap(true) {
		r.config.Logger.WarnContext(ctx, "the roles anon and authenticated have rights on stripeonce's tables, so that anybody with the "+
			"project's public key may read or change them: REVOKE ALL ON these tables FROM PUBLIC, anon, authenticated", "tables", exposed)
	}
}

// checkTrial tries a delivery: every statement that writes, on the pool's connection and in its query exec mode. Nothing
// of it stays. Each table has a savepoint of its own, so that one that a constraint of the host's refuses does not keep
// the others from being tried.
func (r *Receiver) checkTrial(ctx context.Context, conn *pgxpool.Conn) error {
	r.warnIfExposed(ctx, conn)
	tx, err := conn.BeginTx(ctx, isolation)
	if err != nil {
		return err
	}
	defer rollback(ctx, tx)
	server, err := r.queries.ServerState(ctx, tx)
	if err == nil {
		err = r.queries.ServerLockTimeout(ctx, tx, milliseconds(r.config.LockTimeout))
	}
	if err != nil {
		return err
	}
	own := []trial{{[]string{"stripe_webhook_events"}, r.tryLedger}, {[]string{"stripe_webhook_failures"}, r.tryFailure}}
	for _, t := range append(own, r.handlers.trials...) {
		if err := r.tryInSavepoint(ctx, tx, t); err != nil {
			if ctx.Err() == nil && !conn.Conn().IsClosed() && !fault.IsPassing(err) {
				r.unready() // it is no passing trouble, so deliveries wait until a trial has passed
			}
			return fmt.Errorf("a trial write to %s failed: %w", strings.Join(t.tables, " and "), explain(err, &server))
		}
	}
	r.trialState.Store(trialPassed)
	return nil
}

func (r *Receiver) tryInSavepoint(ctx context.Context, tx pgx.Tx, t trial) error {
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	err = t.run(ctx, savepoint)
	if errors.Is(err, ErrNotReadBack) {
		err = r.unlessHidden(ctx, savepoint, t.tables, err)
	}
	if err != nil && !fault.IsRefusedByHost(err) {
		return err
	}
	return savepoint.Rollback(ctx)
}

// unlessHidden returns nil where row level security applies: its policies may hide the trial's rows, and no event's.
func (r *Receiver) unlessHidden(ctx context.Context, tx pgx.Tx, tables []string, notRead error) error {
	for _, table := range tables {
		active, err := r.queries.ServerRowSecurity(ctx, tx, table)
		if err != nil || active {
			return err
		}
	}
	return notRead
}

// explain adds what to do where a session's setting is the cause: pgx reads text in PostgreSQL's default forms only.
func explain(err error, server *db.ServerStateRow) error {
	const advice = "%w: %s is %q, and pgx reads nothing but %s in this query exec mode: add %[2]s=%[4]s to the database's URL: %[5]w"
	switch {
	case !fault.IsUnreadable(err) && !errors.Is(err, ErrNotReadBack):
		return err
	case !strings.HasPrefix(server.DateStyle, "ISO"):
		return fmt.Errorf(advice, ErrUnsuitable, "DateStyle", server.DateStyle, "ISO", err)
	case server.ByteaOutput != "hex":
		return fmt.Errorf(advice, ErrUnsuitable, "bytea_output", server.ByteaOutput, "hex", err)
	}
	return err
}

// tryLedger does what deliveries do in the ledger: record an event and find it. The update is of another event, which is not
// there: PostgreSQL checks the rights on its columns all the same, and no page is left with a row that is out of date, which a
// later duplicate would have PostgreSQL prune, and log that.
func (r *Receiver) tryLedger(ctx context.Context, tx pgx.Tx) error {
	id, object, created := trialID("evt"), trialID("sub"), time.Now()
	err := r.queries.StripeWebhookEventInsert(ctx, tx, db.StripeWebhookEventInsertParams{
		EventID: id, EventType: "stripeonce.trial", Outcome: string(OutcomeIgnored), EventCreatedAt: &created, ObjectID: &object,
	})
	if err != nil {
		return err
	}
	found, err := r.queries.StripeWebhookEventOutcomes(ctx, tx, []string{id})
	if err != nil {
		return err
	}
	if len(found) != 1 || found[0].Outcome != string(OutcomeIgnored) {
		return ErrNotReadBack
	}
	_, err = r.queries.StripeWebhookEventUpdateProvisional(ctx, tx, db.StripeWebhookEventUpdateProvisionalParams{
		EventID: trialID("evt"), EventType: "stripeonce.trial", Outcome: string(OutcomeProcessed),
	})
	return err
}

// tryFailure records a failure, and the same event's second one.
func (r *Receiver) tryFailure(ctx context.Context, tx pgx.Tx) error {
	params := db.StripeWebhookFailureUpsertParams{
		EventID: trialID("evt"), EventType: "stripeonce.trial", State: stateFailing,
		LastError: "Zoë Groß, 東京 🧾", Payload: json.RawMessage(trialPayload),
	}
	for range 2 {
		if err := r.upsertFailure(ctx, tx, params); err != nil {
			return err
		}
	}
	return nil
}

// trialID is an id that no object of Stripe's has.
func trialID(prefix string) string { return prefix + "_stripeonce_trial_" + rand.Text() }
