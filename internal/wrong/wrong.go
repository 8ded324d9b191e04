// Package wrong has incorrect receivers, each with one typical mistake of handwritten receivers. The judge must find each
// mistake: otherwise it would prove nothing about stripeonce.
package wrong

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/judge"
)

// receivers has the function of each receiver that applies an event.
var receivers = map[string]func(context.Context, *pgxpool.Pool, *event) error{
	"check-then-act":    checkThenAct,
	"last-writer-wins":  lastWriterWins,
	"record-first":      recordFirst,
	"forgets-the-items": forgetsTheItems,
}

// Names lists the receivers.
func Names() []string {
	return []string{"check-then-act", "last-writer-wins", "record-first", "forgets-the-items"}
}

// Handler returns the receiver with a name. It verifies no signature, and fails the first delivery of about every twentieth
// event, as real handlers fail now and then.
func Handler(name string, pool *pgxpool.Pool) (http.Handler, error) {
	act, ok := receivers[name]
	if !ok {
		return nil, fmt.Errorf("--receiver %q: use one of %s", name, strings.Join(Names(), ", "))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
		if err != nil {
			http.Error(w, "cannot read", http.StatusBadRequest)
			return
		}
		ev := &event{}
		if err := json.Unmarshal(body, ev); err != nil {
			http.Error(w, "cannot parse", http.StatusBadRequest)
			return
		}
		if err := act(req.Context(), pool, ev); err != nil {
			http.Error(w, "failed", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"event_id":%q,"outcome":"processed"}`, ev.ID)
	}), nil
}

type event struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Created int64  `json:"created"`
	Data    struct {
		Object json.RawMessage `json:"object"`
	} `json:"data"`
}

const (
	known  = `SELECT EXISTS (SELECT FROM stripe_webhook_events WHERE event_id = $1)`
	record = `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ($1, $2, 'processed', false)`
)

var errFlaky = errors.New("a handler's failure")

// flaky fails the first attempt of about every twentieth event.
func flaky(ctx context.Context, pool *pgxpool.Pool, ev *event) error {
	if len(ev.ID) == 0 || ev.ID[len(ev.ID)-1] > '3' {
		return nil
	}
	tag, err := pool.Exec(ctx, `INSERT INTO seen_to_fail (event_id) VALUES ($1) ON CONFLICT DO NOTHING`, ev.ID)
	if err == nil && tag.RowsAffected() == 1 {
		return errFlaky
	}
	return err
}

// Tables creates the tables that the receivers need in addition to stripeonce's.
const Tables = judge.EffectsTable + `; CREATE TABLE seen_to_fail (event_id TEXT PRIMARY KEY)`

func isDuplicate(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23505"
}

// checkThenAct has a ledger with a unique index, but runs each step in its own transaction.
func checkThenAct(ctx context.Context, pool *pgxpool.Pool, ev *event) error {
	var seen bool
	if err := pool.QueryRow(ctx, known, ev.ID).Scan(&seen); err != nil || seen {
		return err
	}
	if err := flaky(ctx, pool, ev); err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, judge.Effect, ev.ID); err != nil {
		return err
	}
	if err := store(ctx, pool, ev, true, true); err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, record, ev.ID, ev.Type); err != nil && !isDuplicate(err) {
		return err
	}
	return nil
}

// lastWriterWins does everything in one transaction, but lets an older event overwrite a newer row.
func lastWriterWins(ctx context.Context, pool *pgxpool.Pool, ev *event) error {
	return inTransaction(ctx, pool, ev, func(tx pgx.Tx) error { return store(ctx, tx, ev, false, true) })
}

// forgetsTheItems keeps the rows correct, but never updates their items.
func forgetsTheItems(ctx context.Context, pool *pgxpool.Pool, ev *event) error {
	return inTransaction(ctx, pool, ev, func(tx pgx.Tx) error { return store(ctx, tx, ev, true, false) })
}

// recordFirst commits the record before it acts, so a failed event is never applied.
func recordFirst(ctx context.Context, pool *pgxpool.Pool, ev *event) error {
	if _, err := pool.Exec(ctx, record, ev.ID, ev.Type); err != nil {
		if isDuplicate(err) {
			return nil
		}
		return err
	}
	if err := flaky(ctx, pool, ev); err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, judge.Effect, ev.ID); err != nil {
		return err
	}
	return store(ctx, pool, ev, true, true)
}

func inTransaction(ctx context.Context, pool *pgxpool.Pool, ev *event, act func(pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, record, ev.ID, ev.Type); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, judge.Effect, ev.ID); err != nil {
			return err
		}
		return act(tx)
	})
	if isDuplicate(err) {
		return nil
	}
	return err
}

type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

type subscription struct {
	ID                 string            `json:"id"`
	Object             string            `json:"object"`
	Customer           string            `json:"customer"`
	Status             string            `json:"status"`
	CancelAtPeriodEnd  bool              `json:"cancel_at_period_end"`
	CancelAt           *int64            `json:"cancel_at"`
	CanceledAt         *int64            `json:"canceled_at"`
	EndedAt            *int64            `json:"ended_at"`
	TrialStart         *int64            `json:"trial_start"`
	TrialEnd           *int64            `json:"trial_end"`
	LatestInvoice      string            `json:"latest_invoice"`
	Metadata           map[string]string `json:"metadata"`
	CurrentPeriodStart int64             `json:"current_period_start"`
	CurrentPeriodEnd   int64             `json:"current_period_end"`
	Items              struct {
		Data []item `json:"data"`
	} `json:"items"`
}

type item struct {
	ID      string `json:"id"`
	Created int64  `json:"created"`
	Price   struct {
		ID      string `json:"id"`
		Product string `json:"product"`
	} `json:"price"`
	Quantity           int64 `json:"quantity"`
	CurrentPeriodStart int64 `json:"current_period_start"`
	CurrentPeriodEnd   int64 `json:"current_period_end"`
}

const upsert = `INSERT INTO subscriptions (id, customer_id, status, price_id, quantity, currency, cancel_at_period_end, cancel_at,
	canceled_at, ended_at, current_period_start, current_period_end, trial_start, trial_end, collection_method,
	latest_invoice_id, metadata, livemode, object, last_event_id, last_event_created_at,
	pause_collection, schedule_id, default_payment_method_id, billing_mode, discount_ids)
	VALUES ($1, $2, $3, $4, $5, 'usd', $6, $7, $8, $9, $10, $11, $12, $13, 'charge_automatically', $14, $15, false, $16, $17, $18,
	NULLIF($16::jsonb -> 'pause_collection', 'null'), $16::jsonb ->> 'schedule', $16::jsonb ->> 'default_payment_method',
	$16::jsonb #>> '{billing_mode,type}', ARRAY(SELECT jsonb_array_elements_text($16::jsonb -> 'discounts')))
	ON CONFLICT (id) DO UPDATE SET status = excluded.status, price_id = excluded.price_id, quantity = excluded.quantity,
	cancel_at_period_end = excluded.cancel_at_period_end, cancel_at = excluded.cancel_at, canceled_at = excluded.canceled_at,
	ended_at = excluded.ended_at, current_period_start = excluded.current_period_start,
	current_period_end = excluded.current_period_end, trial_start = excluded.trial_start, trial_end = excluded.trial_end,
	latest_invoice_id = excluded.latest_invoice_id, metadata = excluded.metadata, object = excluded.object,
	last_event_id = excluded.last_event_id, last_event_created_at = excluded.last_event_created_at,
	pause_collection = excluded.pause_collection, schedule_id = excluded.schedule_id, billing_mode = excluded.billing_mode,
	default_payment_method_id = excluded.default_payment_method_id, discount_ids = excluded.discount_ids`

const newer = ` WHERE subscriptions.last_event_created_at <= excluded.last_event_created_at`

// store writes the subscription. order refuses an older event, and items also updates the items.
func store(ctx context.Context, conn execer, ev *event, order, items bool) error {
	var s subscription
	if err := json.Unmarshal(ev.Data.Object, &s); err != nil {
		return err
	}
	if s.Object != "subscription" || len(s.Items.Data) == 0 {
		return nil
	}
	oldest := slices.MinFunc(s.Items.Data, func(a, b item) int { return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID)) })
	if s.CurrentPeriodStart == 0 {
		s.CurrentPeriodStart, s.CurrentPeriodEnd = oldest.CurrentPeriodStart, oldest.CurrentPeriodEnd
	}
	statement := upsert
	if order {
		statement += newer
	}
	tag, err := conn.Exec(ctx, statement, s.ID, s.Customer, s.Status, oldest.Price.ID, oldest.Quantity, s.CancelAtPeriodEnd,
		at(s.CancelAt), at(s.CanceledAt), at(s.EndedAt), at(&s.CurrentPeriodStart), at(&s.CurrentPeriodEnd),
		at(s.TrialStart), at(s.TrialEnd), s.LatestInvoice, s.Metadata, ev.Data.Object, ev.ID, at(&ev.Created))
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	if !items {
		return nil
	}
	if _, err := conn.Exec(ctx, `DELETE FROM subscription_items WHERE subscription_id = $1`, s.ID); err != nil {
		return err
	}
	for i, item := range s.Items.Data {
		_, err := conn.Exec(ctx, `INSERT INTO subscription_items (subscription_id, id, position, price_id, product_id, quantity,
			current_period_start, current_period_end, metadata) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '{}')`, s.ID, item.ID, i,
			item.Price.ID, item.Price.Product, item.Quantity, at(&s.CurrentPeriodStart), at(&s.CurrentPeriodEnd))
		if err != nil {
			return err
		}
	}
	return nil
}

func at(seconds *int64) *time.Time {
	if seconds == nil {
		return nil
	}
	t := time.Unix(*seconds, 0)
	return &t
}
