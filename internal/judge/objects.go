package judge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/stripesim"
)

// CheckObjects is the check of mirrored objects.
const CheckObjects = "each mirrored object is stored once and matches the truth"

// Views are the views that have a row for each object of a type.
var Views = map[string]string{
	"customer": "stripe_customers", "product": "stripe_products", "price": "stripe_prices", "invoice": "stripe_invoices",
	"charge": "stripe_charges", "payment_intent": "stripe_payment_intents", "refund": "stripe_refunds", "dispute": "stripe_disputes",
	"payment_method": "stripe_payment_methods", "checkout.session": "stripe_checkout_sessions", "credit_note": "stripe_credit_notes",
	"subscription_schedule": "stripe_subscription_schedules", "coupon": "stripe_coupons", "promotion_code": "stripe_promotion_codes",
}

// objectsQuery selects the mirrored objects. The key is account, type and id. The last column is the object's row of its view.
func objectsQuery() string {
	var ofViews strings.Builder
	for _, object := range slices.Sorted(maps.Keys(Views)) {
		fmt.Fprintf(&ofViews, "WHEN '%s' THEN (SELECT to_jsonb(v) FROM %s AS v WHERE (v.account_id, v.livemode, v.id) = (o.account_id, o.livemode, o.id))\n",
			object, Views[object])
	}
	return `
SELECT account_id || ' ' || object_type || ' ' || id, object_type, coalesce(api_version, ''), object, jsonb_build_object(
	'deleted', deleted, 'customer_id', coalesce(customer_id, ''), 'subscription_id', coalesce(subscription_id, ''), 'lists_complete', lists_complete),
	coalesce(CASE object_type ` + ofViews.String() + ` END, '{}')
FROM stripe_objects AS o`
}

// mirrored is a row of stripe_objects.
type mirrored struct {
	kind, version         string
	object, columns, view json.RawMessage
}

// Objects compares the mirrored objects of some types with the account's. Of a deleted object, only the deletion is compared.
func Objects(ctx context.Context, pool *pgxpool.Pool, account *stripesim.Account, types ...string) ([]Finding, error) {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CheckObjects, err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	// On partitions the query has a plan of each view for each of them, which takes minutes to compile.
	if _, err := tx.Exec(ctx, "SET LOCAL jit = off"); err != nil {
		return nil, fmt.Errorf("%s: %w", CheckObjects, err)
	}
	rows, err := tx.Query(ctx, objectsQuery())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CheckObjects, err)
	}
	defer rows.Close()
	stored := map[string]mirrored{}
	for rows.Next() {
		var key string
		var m mirrored
		if err := rows.Scan(&key, &m.kind, &m.version, &m.object, &m.columns, &m.view); err != nil {
			return nil, err
		}
		if slices.Contains(types, m.kind) {
			stored[key] = m
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	var findings []Finding
	for _, o := range account.Objects() {
		if !slices.Contains(types, o.Type) {
			continue
		}
		key := o.AccountID + " " + o.Type + " " + o.ID
		findings = append(findings, judgeObject(o, strings.TrimSpace(key), stored[key])...)
		delete(stored, key)
	}
	for key := range stored {
		findings = append(findings, Finding{CheckObjects, key + ", which Stripe never made", nil, "a row"})
	}
	slices.SortFunc(findings, func(a, b Finding) int { return strings.Compare(a.What, b.What) })
	return findings, nil
}

func judgeObject(o stripesim.Object, what string, row mirrored) (findings []Finding) {
	if row.object == nil {
		return []Finding{{CheckObjects, what, "a row", nil}}
	}
	columns, want := decoded(row.columns), map[string]any{"deleted": o.Deleted}
	if !o.Deleted {
		want["lists_complete"], want["subscription_id"], want["customer_id"] = true, o.SubscriptionID, o.CustomerID
		if o.Type == "customer" {
			want["customer_id"] = o.ID
		}
	}
	for name, value := range want {
		if columns[name] != value {
			findings = append(findings, Finding{CheckObjects, what + ": " + name, value, columns[name]})
		}
	}
	view := decoded(row.view)
	if Views[o.Type] != "" && view["deleted"] != o.Deleted {
		findings = append(findings, Finding{CheckObjects, what + ": deleted, in its view", o.Deleted, view["deleted"]})
	}
	if o.Deleted {
		return findings
	}
	version := stripesim.VersionBasil
	if row.version < version {
		version = stripesim.VersionBeforeBasil
	}
	got, truth := decoded(row.object), decoded(o.Whole(version))
	delete(truth, "client_secret") // it is not kept
	for name := range truth {
		if !reflect.DeepEqual(got[name], truth[name]) {
			findings = append(findings, Finding{CheckObjects, what + ": " + name, truth[name], got[name]})
		}
		if shown, isShown := view[name]; isShown && isPlain(truth[name]) && fmt.Sprint(shown) != fmt.Sprint(truth[name]) && !isTime(shown) {
			findings = append(findings, Finding{CheckObjects, what + ": " + name + ", in its view", truth[name], shown})
		}
		delete(got, name)
	}
	for name, value := range got {
		findings = append(findings, Finding{CheckObjects, what + ": " + name, nil, value})
	}
	return findings
}

// isPlain reports whether a member is a text, a number or a truth value: a view shows it as it is, unless it is a time.
func isPlain(value any) bool {
	switch value.(type) {
	case string, json.Number, bool:
		return true
	}
	return false
}

// isTime reports whether a value of a view is a timestamp, which Stripe's objects have in seconds.
func isTime(shown any) bool {
	text, isText := shown.(string)
	_, err := time.Parse("2006-01-02T15:04:05Z07:00", text)
	return isText && err == nil
}

// decoded returns a JSON object with its numbers as they are written.
func decoded(text json.RawMessage) (members map[string]any) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&members) != nil {
		return nil
	}
	return members
}
