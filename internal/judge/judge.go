// Package judge compares a receiver's tables with the truth of a simulated Stripe account. It reads the tables with its own
// SQL and uses none of the receiver's code.
package judge

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/stripesim"
)

// Finding is one violation of a check.
type Finding struct {
	Check string // the violated check
	What  string // the event or the subscription, and the field
	Want  any
	Got   any
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: want %s, got %s", f.What, show(f.Want), show(f.Got))
}

func show(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// The checks.
const (
	CheckLedger        = "each event is in the ledger once"
	CheckEffects       = "each event took effect once"
	CheckSubscriptions = "each subscription is stored once and matches the truth"
)

// EffectsTable creates the table in which a receiver under test records its effects: a row (event_id) each time that an
// event takes effect. It has no unique constraint, so a repeated effect is found.
const EffectsTable = "CREATE TABLE effects (event_id TEXT NOT NULL)"

// Effect is the statement that records an effect. $1 is the event's id.
const Effect = "INSERT INTO effects (event_id) VALUES ($1)"

// Judge runs all checks and returns their findings in a stable order.
func Judge(ctx context.Context, pool *pgxpool.Pool, account *stripesim.Account) ([]Finding, error) {
	var findings []Finding
	for _, check := range []func(context.Context, *pgxpool.Pool, *stripesim.Account) ([]Finding, error){
		judgeLedger, judgeEffects, Subscriptions,
	} {
		found, err := check(ctx, pool, account)
		if err != nil {
			return nil, err
		}
		findings = append(findings, found...)
	}
	return findings, nil
}

func judgeLedger(ctx context.Context, pool *pgxpool.Pool, account *stripesim.Account) ([]Finding, error) {
	return counts(ctx, pool, account, CheckLedger, "rows of event ",
		`SELECT event_id, count(*)::int FROM stripe_webhook_events GROUP BY event_id`)
}

func judgeEffects(ctx context.Context, pool *pgxpool.Pool, account *stripesim.Account) ([]Finding, error) {
	return counts(ctx, pool, account, CheckEffects, "effects of event ",
		`SELECT event_id, count(*)::int FROM effects GROUP BY event_id`)
}

// counts checks that there is exactly one of each of the account's events and none of any other.
func counts(ctx context.Context, pool *pgxpool.Pool, account *stripesim.Account, check, what, query string) ([]Finding, error) {
	rows, err := pool.Query(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", check, err)
	}
	defer rows.Close()
	got := map[string]int{}
	for rows.Next() {
		var id string
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return nil, err
		}
		got[id] = n
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	unfetchable, err := Unfetchable(ctx, pool, account)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, ev := range account.Events {
		if n := got[ev.ID]; n != 1 && (n != 0 || !unfetchable[ev.ID]) {
			findings = append(findings, Finding{check, fmt.Sprintf("%s%s (%s)", what, ev.ID, ev.Type), 1, n})
		}
		delete(got, ev.ID)
		if unfetchable[ev.ID] {
			delete(got, ev.ThinID())
		}
	}
	for id, n := range got {
		findings = append(findings, Finding{check, what + id + ", which Stripe never made", 0, n})
	}
	return findings, nil
}

// Unfetchable returns the ids of the events whose thin event is recorded as ignored because Stripe no longer has their object.
// Without it, there is nothing to apply.
func Unfetchable(ctx context.Context, pool *pgxpool.Pool, account *stripesim.Account) (map[string]bool, error) {
	gone := map[string]bool{}
	for _, ev := range account.Events {
		switch ev.Type {
		case "product.deleted", "invoice.deleted", "coupon.deleted", "customer.tax_id.deleted": // a deleted customer can be retrieved
			gone[ev.AccountID+" "+ev.ObjectID] = true
		}
	}
	if len(gone) == 0 {
		return nil, nil
	}
	var ignored []string
	err := pool.QueryRow(ctx, `SELECT coalesce(array_agg(event_id), '{}') FROM stripe_webhook_events WHERE outcome = 'ignored'`).Scan(&ignored)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CheckLedger, err)
	}
	unfetchable := map[string]bool{}
	for _, ev := range account.Events {
		if gone[ev.AccountID+" "+ev.ObjectID] && slices.Contains(ignored, ev.ThinID()) {
			unfetchable[ev.ID] = true
		}
	}
	return unfetchable, nil
}

// rowsQuery selects each subscription as JSON with the names and types of stripesim.Truth.
const rowsQuery = `
SELECT id, jsonb_build_object(
	'id', id, 'customer_id', customer_id, 'status', status, 'price_id', price_id, 'quantity', quantity, 'currency', currency,
	'cancel_at_period_end', cancel_at_period_end, 'cancel_at', extract(epoch FROM cancel_at)::bigint,
	'canceled_at', extract(epoch FROM canceled_at)::bigint, 'ended_at', extract(epoch FROM ended_at)::bigint,
	'current_period_start', extract(epoch FROM current_period_start)::bigint,
	'current_period_end', extract(epoch FROM current_period_end)::bigint,
	'trial_start', extract(epoch FROM trial_start)::bigint, 'trial_end', extract(epoch FROM trial_end)::bigint,
	'collection_method', collection_method, 'latest_invoice_id', latest_invoice_id, 'metadata', metadata, 'livemode', livemode,
	'account_id', account_id, 'pause_collection', pause_collection, 'customer_account_id', customer_account_id, 'schedule_id', schedule_id,
	'default_payment_method_id', default_payment_method_id, 'billing_mode', billing_mode, 'discount_ids', discount_ids,
	'items_complete', items_complete,
	'items', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', i.id, 'price_id', i.price_id, 'product_id', i.product_id,
		'quantity', i.quantity, 'current_period_start', extract(epoch FROM i.current_period_start)::bigint,
		'current_period_end', extract(epoch FROM i.current_period_end)::bigint) ORDER BY i.id), '[]')
		FROM subscription_items AS i WHERE i.subscription_id = subscriptions.id))
FROM subscriptions`

// Subscriptions compares the tables of subscriptions with the truth.
func Subscriptions(ctx context.Context, pool *pgxpool.Pool, account *stripesim.Account) ([]Finding, error) {
	rows, err := pool.Query(ctx, rowsQuery)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CheckSubscriptions, err)
	}
	defer rows.Close()
	stored := map[string]map[string]any{}
	var findings []Finding
	for rows.Next() {
		var id string
		var row map[string]any
		if err := rows.Scan(&id, &row); err != nil {
			return nil, err
		}
		if stored[id] != nil {
			findings = append(findings, Finding{CheckSubscriptions, "rows of subscription " + id, 1, 2})
		}
		stored[id] = row
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for _, sub := range account.Subscriptions {
		findings = append(findings, differences(sub, stored[sub.ID()])...)
		delete(stored, sub.ID())
	}
	for id := range stored {
		findings = append(findings, Finding{CheckSubscriptions, "rows of subscription " + id + ", which Stripe does not have", 0, 1})
	}
	return findings, nil
}

// differences returns a finding for each field of a row that differs from the truth.
func differences(sub *stripesim.Subscription, row map[string]any) []Finding {
	if row == nil {
		return []Finding{{CheckSubscriptions, "rows of subscription " + sub.ID(), 1, 0}}
	}
	truth := sub.Truth()
	slices.SortFunc(truth.Items, func(a, b stripesim.TruthItem) int { return strings.Compare(a.ID, b.ID) })
	text, err := json.Marshal(truth)
	if err != nil {
		panic(err) // a struct of plain values
	}
	var want map[string]any
	if err := json.Unmarshal(text, &want); err != nil {
		panic(err)
	}
	findings := compare("subscription "+sub.ID()+", ", "", want, row)
	sort.Slice(findings, func(i, j int) bool { return findings[i].What < findings[j].What })
	return findings
}

// compare descends into objects and arrays of equal length, so that each finding is about one value.
func compare(what, path string, want, got any) []Finding {
	if reflect.DeepEqual(want, got) {
		return nil
	}
	var findings []Finding
	switch want := want.(type) {
	case map[string]any:
		if got, ok := got.(map[string]any); ok {
			for key := range merged(want, got) {
				findings = append(findings, compare(what, strings.TrimPrefix(path+"."+key, "."), want[key], got[key])...)
			}
			return findings
		}
	case []any:
		if got, ok := got.([]any); ok && len(want) == len(got) {
			for i := range want {
				findings = append(findings, compare(what, fmt.Sprintf("%s[%d]", path, i), want[i], got[i])...)
			}
			return findings
		}
		if got, ok := got.([]any); ok {
			return []Finding{{CheckSubscriptions, what + "number of " + path, len(want), len(got)}}
		}
	}
	return []Finding{{CheckSubscriptions, what + path, want, got}}
}

func merged(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
