package readiness

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/admission"
	"github.com/pook/stripeonce/internal/erasure"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
)

// trial writes to some tables as a delivery does, with rows of random ids.
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

var errTrialInProgress = errors.New("a trial delivery is in progress")

// trialKey is the one key of the trials' single flight.
const trialKey = ""

// awaitTrial joins the trial in progress or starts one. A trial needs about forty round trips and is bounded by
// Config.Timeout, not by ctx: if a short probe gives up, the next probe finds the result.
func (c *Checker) awaitTrial(ctx context.Context) error {
	call, leads := c.trials.Join(trialKey)
	if leads {
		go c.runTrial(context.WithoutCancel(ctx), call)
	}
	select {
	case <-call.Done():
		return call.Result()
	case <-ctx.Done():
		return fault.Unavailable(fmt.Errorf("%w: %w", errTrialInProgress, ctx.Err()))
	}
}

func (c *Checker) runTrial(ctx context.Context, call *admission.Call[error]) {
	err := fault.Unavailable(errors.New("the trial delivery did not finish: a hook of the pool called runtime.Goexit"))
	defer func() {
		if value := recover(); value != nil { // of a hook of the pool
			err = fault.Unavailable(&fault.PanicError{Value: value, Stack: debug.Stack()})
		}
		c.trials.Finish(trialKey, call, err)
	}()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	err = c.onConn(ctx, c.Pool.AcquireTimeout, c.checkTrial)
}

// warnIfExposed tells, once, of tables that Supabase serves to anybody: its roles anon and authenticated had all rights on new
// tables of the schema public by default. The migrations revoke them, and somebody may have granted them again.
func (c *Checker) warnIfExposed(ctx context.Context, conn *pgxpool.Conn) {
	exposed, err := c.queries.ServerExposed(ctx, conn, c.tables())
	if err == nil && exposed != "" && !c.exposed.Swap(true) {
		c.Logger.WarnContext(ctx, "the roles anon and authenticated have privileges on stripeonce's tables: anyone with the project's "+
			"public key can read or change them", "tables", exposed, "fix", "REVOKE ALL ON these tables FROM PUBLIC, anon, authenticated")
	}
}

// checkTrial tries a delivery: every statement that writes, on the pool's connection and in its query exec mode. Nothing
// of it stays. Each table has a savepoint of its own, so that one that a constraint of the host's refuses does not keep
// the others from being tried.
func (c *Checker) checkTrial(ctx context.Context, conn *pgxpool.Conn) error {
	c.warnIfExposed(ctx, conn)
	tx, err := conn.BeginTx(ctx, pgpipe.Isolation)
	if err != nil {
		return err
	}
	defer pgpipe.Rollback(ctx, tx, rollbackTimeout)
	server, err := c.queries.ServerState(ctx, tx)
	if err == nil {
		err = c.queries.ServerLockTimeout(ctx, tx, strconv.FormatInt(c.LockTimeout.Milliseconds(), 10))
	}
	if err != nil {
		return err
	}
	for _, t := range c.listTrials() {
		if err := c.tryInSavepoint(ctx, tx, t); err != nil {
			if ctx.Err() == nil && !conn.Conn().IsClosed() && !fault.IsPassing(err) {
				c.Doubt() // it is no passing trouble, so deliveries wait until a trial has passed
			}
			return fmt.Errorf("a trial write to %s failed: %w", strings.Join(t.tables, " and "), explain(err, &server))
		}
	}
	if err := c.selfTest(ctx, conn, tx); err != nil {
		return err
	}
	c.trialState.Store(trialPassed)
	return nil
}

// selfTest ends the trial's transaction and tests the round trips of a delivery's on the same connection.
func (c *Checker) selfTest(ctx context.Context, conn *pgxpool.Conn, trial pgx.Tx) error {
	if err := trial.Rollback(ctx); err != nil {
		return err
	}
	err := pgpipe.SelfTest(ctx, conn.Conn(), c.Timeout)
	if errors.Is(err, fault.ErrUnsuitable) {
		c.Doubt()
	}
	return err
}

func (c *Checker) listTrials() []trial {
	trials := []trial{
		{[]string{"stripe_webhook_events"}, c.tryLedger}, {[]string{"stripe_webhook_failures"}, c.tryFailure}, {[]string{"stripe_erasures"}, c.tryErasure},
	}
	if c.KeepsPayloads {
		trials = append(trials, trial{[]string{"stripe_webhook_payloads"}, c.tryPayload})
	}
	for _, p := range c.Projections {
		if p.Trial == nil {
			continue
		}
		var tables []string
		for _, table := range p.Tables {
			tables = append(tables, table.Name)
		}
		trials = append(trials, trial{tables, p.Trial})
	}
	return trials
}

func (c *Checker) tryInSavepoint(ctx context.Context, tx pgx.Tx, t trial) error {
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	err = t.run(ctx, savepoint)
	if errors.Is(err, fault.ErrNotReadBack) {
		err = c.unlessHidden(ctx, savepoint, t.tables, err)
	}
	if err != nil && !fault.IsRefusedByHost(err) {
		return err
	}
	return savepoint.Rollback(ctx)
}

// unlessHidden returns nil where row level security applies: its policies may hide the trial's rows, and no event's.
func (c *Checker) unlessHidden(ctx context.Context, tx pgx.Tx, tables []string, notRead error) error {
	for _, table := range tables {
		active, err := c.queries.ServerRowSecurity(ctx, tx, table)
		if err != nil || active {
			return err
		}
	}
	return notRead
}

// explain adds what to do where a session's setting is the cause: pgx reads text in PostgreSQL's default forms only.
func explain(err error, server *db.ServerStateRow) error {
	const advice = "%w: %s is %q, but pgx reads only %s in this query exec mode: add %[2]s=%[4]s to the database URL: %[5]w"
	switch {
	case !fault.IsUnreadable(err) && !errors.Is(err, fault.ErrNotReadBack):
		return err
	case !strings.HasPrefix(server.DateStyle, "ISO"):
		return fmt.Errorf(advice, fault.ErrUnsuitable, "DateStyle", server.DateStyle, "ISO", err)
	case server.ByteaOutput != "hex":
		return fmt.Errorf(advice, fault.ErrUnsuitable, "bytea_output", server.ByteaOutput, "hex", err)
	}
	return err
}

// tryLedger inserts an event and reads it back. Its UPDATE names an id that does not exist: PostgreSQL still checks the
// privileges, and no dead row remains for a later duplicate to have pruned, which PostgreSQL logs.
func (c *Checker) tryLedger(ctx context.Context, tx pgx.Tx) error {
	id, object, created := trialID("evt"), trialID("sub"), time.Now()
	err := c.queries.StripeWebhookEventInsert(ctx, tx, db.StripeWebhookEventInsertParams{
		EventID: id, EventType: "stripeonce.trial", Outcome: trialOutcome, EventCreatedAt: &created, ObjectID: &object,
	})
	if err != nil {
		return err
	}
	found, err := c.queries.StripeWebhookEventOutcomes(ctx, tx, []string{id})
	if err != nil {
		return err
	}
	if len(found) != 1 || found[0].Outcome != trialOutcome {
		return fault.ErrNotReadBack
	}
	_, err = c.queries.StripeWebhookEventUpdateProvisional(ctx, tx, db.StripeWebhookEventUpdateProvisionalParams{
		EventID: trialID("evt"), EventType: "stripeonce.trial", Outcome: "processed",
	})
	return err
}

// tryFailure records a failure, and the same event's second one.
func (c *Checker) tryFailure(ctx context.Context, tx pgx.Tx) error {
	params := db.StripeWebhookFailureUpsertParams{
		EventID: trialID("evt"), EventType: "stripeonce.trial", State: "failing",
		LastError: "Zoë Groß, 東京 🧾", Payload: json.RawMessage(trialPayload),
	}
	for range 2 {
		_, err := c.queries.StripeWebhookFailureUpsert(ctx, tx, params)
		if errors.Is(err, pgx.ErrNoRows) {
			return fault.ErrNotReadBack
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tryPayload stores a payload and reads it back.
func (c *Checker) tryPayload(ctx context.Context, tx pgx.Tx) error {
	id := trialID("evt")
	if err := c.queries.StripeWebhookPayloadInsert(ctx, tx, id, json.RawMessage(trialPayload)); err != nil {
		return err
	}
	_, err := c.queries.StripeWebhookPayloadGet(ctx, tx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.ErrNotReadBack
	}
	return err
}

// tryErasure notes an object as erased and reads it back.
func (c *Checker) tryErasure(ctx context.Context, tx pgx.Tx) error {
	hash := []string{erasure.Hash(trialID("cus"))}
	_, err := c.queries.ErasureInsert(ctx, tx, db.ErasureInsertParams{IDHashes: hash, AccountIds: []string{""}, Livemodes: []bool{false}, CustomerHash: hash[0]})
	if err != nil {
		return err
	}
	found, err := c.queries.ErasureLookup(ctx, tx, hash)
	if err == nil && len(found.Erased) != 1 {
		err = fault.ErrNotReadBack
	}
	return err
}

// trialOutcome is the outcome of the event that tryLedger records.
const trialOutcome = "ignored"

// trialID is an id that no object of Stripe's has.
func trialID(prefix string) string { return prefix + "_stripeonce_trial_" + rand.Text() }
