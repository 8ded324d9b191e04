package mirror_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// nested are the hashes whose members are columns, named after both.
var nested = []string{"invoice_settings", "recurring", "status_transitions", "evidence_details", "card", "current_phase", "restrictions"}

// ownColumns are those that do not come from the member of their name.
var ownColumns = map[string]bool{
	"id": true, "account_id": true, "livemode": true, "deleted": true, "customer_id": true, "subscription_id": true, "lines_complete": true, "paid": true,
	"status": true, "line_items_complete": true,
}

// Every column of the views has the value of the simulated objects' member, in both API versions.
func TestViews(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	account := stripesim.New(3, stripesim.Epoch)
	account.Billing = true
	w.api.Store(stripesim.NewAPI(account))
	account.Play(stripesim.Scenarios(), 16)
	account.Live(stripesim.Life{Subscriptions: 8, Bursts: true})
	account.AddCoupon(stripesim.VersionBasil, "WELCOME", 10).SetName("Welcome") // the mixture may have left it deleted
	if err := w.deliver(stripesim.Storm{}.Plan(1, account.Events)); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{} // by account and id
	found, err := w.host.Pool.Query(t.Context(), `SELECT account_id || ' ' || id, api_version FROM stripe_objects`)
	if err != nil {
		t.Fatal(err)
	}
	var key, version string
	if _, err := pgx.ForEachRow(found, []any{&key, &version}, func() error { versions[key] = version; return nil }); err != nil {
		t.Fatal(err)
	}
	for object, view := range judge.Views {
		rows := viewRows(t, w.host.Pool, view)
		compared := map[string]bool{}
		for _, o := range account.Objects() {
			if o.Type != object || o.Deleted {
				continue
			}
			row, found := rows[o.AccountID+" "+o.ID]
			if !found {
				t.Errorf("%s has no %s", view, o.ID)
				continue
			}
			whole := members(o.Whole(versions[o.AccountID+" "+o.ID]))
			for column, got := range row {
				want, known := memberOf(t, whole, column)
				if ownColumns[column] || !known {
					continue
				}
				compared[column] = compared[column] || want != "null"
				if got != want {
					t.Errorf("%s.%s of %s is %s, want %s", view, column, o.ID, got, want)
				}
			}
		}
		if len(rows) == 0 || len(compared) < 8 {
			t.Errorf("%s has %d rows, and %d of its columns were compared", view, len(rows), len(compared))
		}
	}
	// Of the invoices, what is not simply a member.
	for _, query := range []string{
		`SELECT count(*) = 0 FROM stripe_invoices WHERE paid IS DISTINCT FROM (status = 'paid') OR NOT lines_complete`,
		`SELECT count(*) > 0 FROM stripe_invoices WHERE subscription_id IS NOT NULL AND customer_id IS NOT NULL`,
		`SELECT count(*) = (SELECT sum(jsonb_array_length(object #> '{lines,data}')) FROM stripe_objects WHERE object_type = 'invoice') FROM stripe_invoice_lines`,
		`SELECT count(*) = 0 FROM stripe_invoice_lines WHERE amount IS NULL OR price_id IS NULL OR id = '' OR period_end IS NULL`,
		`SELECT count(*) = 0 FROM stripe_invoices AS i WHERE NOT deleted AND total <> (SELECT sum(amount) FROM stripe_invoice_lines AS l WHERE l.invoice_id = i.id AND l.account_id = i.account_id)`,
	} {
		if !pgtest.Scan[bool](t, w.host.Pool, query) {
			t.Errorf("this is not so: %s", query)
		}
	}
}

// viewRows returns the rows of a view as JSON texts by column, by account and id.
func viewRows(t *testing.T, pool *pgxpool.Pool, view string) map[string]map[string]string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT account_id || ' ' || id, to_jsonb(v) FROM `+view+` AS v`)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]string{}
	var key string
	var row json.RawMessage
	_, err = pgx.ForEachRow(rows, []any{&key, &row}, func() error {
		all[key] = map[string]string{}
		for column, value := range members(row) {
			all[key][column] = text(value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func members(object []byte) (m map[string]any) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	decoder.UseNumber()
	_ = decoder.Decode(&m)
	return m
}

func text(value any) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value)
	return strings.TrimSpace(out.String())
}

// memberOf returns the value that a column should have, as JSON, and whether the column stands for a member.
func memberOf(t *testing.T, object map[string]any, column string) (want string, known bool) {
	t.Helper()
	for _, hash := range nested {
		if inner, found := strings.CutPrefix(column, hash+"_"); found {
			object, _ = object[hash].(map[string]any)
			column = inner
		}
	}
	value, known := object[column]
	if name, isReference := strings.CutSuffix(column, "_id"); !known && isReference {
		value, known = object[name]
		if expanded, ok := value.(map[string]any); ok {
			value = expanded["id"]
		}
	}
	if number, ok := value.(json.Number); ok && isTime(column) {
		seconds, err := number.Int64()
		if err != nil {
			t.Fatal(err)
		}
		value = time.Unix(seconds, 0).UTC().Format("2006-01-02T15:04:05+00:00")
	}
	if decimal, ok := value.(string); ok && strings.HasSuffix(column, "_decimal") {
		value = json.Number(decimal)
	}
	return text(value), known
}

func isTime(column string) bool {
	return strings.HasSuffix(column, "_at") || slices.Contains([]string{"created", "updated", "due_date", "next_payment_attempt", "period_start", "period_end", "due_by", "start_date", "end_date", "redeem_by"}, column)
}

// Each column has the value of the member that it is named after. A reference is an id or an expanded object.
func TestEveryColumn(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	values := map[string][2]string{ // by the column's type: in the object, and in the view
		"text": {`"x"`, `"x"`}, "character varying": {`"x"`, `"x"`}, "bigint": {`7`, `7`}, "boolean": {`true`, `true`}, "jsonb": {`{"a": 1}`, `{"a":1}`},
		"timestamp with time zone": {`1767225600`, `"2026-01-01T00:00:00+00:00"`}, "numeric": {`"12.5"`, `12.5`},
	}
	for object, view := range judge.Views {
		types := map[string]string{}
		rows, err := pool.Query(t.Context(), `SELECT column_name::text, data_type::text FROM information_schema.columns WHERE table_name = $1`, view)
		if err != nil {
			t.Fatal(err)
		}
		var column, kind string
		if _, err := pgx.ForEachRow(rows, []any{&column, &kind}, func() error { types[column] = kind; return nil }); err != nil {
			t.Fatal(err)
		}
		for id, reference := range map[string]string{"ids": `"x"`, "expanded": `{"id": "x"}`} {
			members := map[string]any{"id": id, "object": object}
			set := func(column, value string) {
				for _, hash := range nested {
					if inner, found := strings.CutPrefix(column, hash+"_"); found {
						if members[hash] == nil {
							members[hash] = map[string]any{}
						}
						members[hash].(map[string]any)[inner] = json.RawMessage(value)
						return
					}
				}
				if members[column] == nil {
					members[column] = json.RawMessage(value)
				}
			}
			for column, kind := range types {
				switch name, isReference := strings.CutSuffix(column, "_id"); {
				case ownColumns[column] || strings.HasSuffix(column, "_complete") || slices.Contains(nested, column):
				case isReference && name != "client_reference":
					set(name, reference)
				default:
					set(column, values[kind][0])
				}
			}
			pgtest.Exec(t, pool, `INSERT INTO stripe_objects (livemode, object_type, id, object, stripe_created_at) VALUES (false, $1, $2, $3, to_timestamp(1767225600))`, object, id, text(members))
			for column, got := range viewRows(t, pool, view)[" "+id] {
				_, isHash := members[column].(map[string]any)
				if ownColumns[column] || strings.HasSuffix(column, "_complete") || isHash {
					continue
				}
				if want := values[types[column]][1]; got != want {
					t.Errorf("%s.%s (%s) is %s, want %s", view, column, id, got, want)
				}
			}
		}
	}
}

// No value of any member makes a view fail.
func TestViewsOfOddObjects(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	odd := []string{`null`, `true`, `"text"`, `""`, `"2024-01-01"`, `12345678901234567890123`, `-1`, `1.5`, `1e300`, `9223372036854775807`, `99999999999`, `[]`, `[1]`, `{}`,
		`{"id": 1}`, `{"id": null, "data": [null, 1, "x", [], {}]}`, `{"data": 7}`, `{"default_payment_method": 7}`, `{"paid_at": "x", "price_details": {"price": []}}`, `"12345678901234567890"`}
	for object, view := range judge.Views {
		columns := append(columnsOf(t, pool, view), append(nested, "lines", "product", "promotion", "coupon")...)
		for i, value := range odd {
			all := map[string]json.RawMessage{}
			for _, column := range columns {
				all[column], all[strings.TrimSuffix(column, "_id")] = json.RawMessage(value), json.RawMessage(value)
				for _, hash := range nested {
					if inner, found := strings.CutPrefix(column, hash+"_"); found && i%2 == 0 {
						all[hash] = json.RawMessage(`{"` + inner + `": ` + value + `}`)
					}
				}
			}
			pgtest.Exec(t, pool, `INSERT INTO stripe_objects (livemode, object_type, id, object) VALUES (false, $1, $2, $3)`, object, fmt.Sprint(i), text(all))
			lines := fmt.Sprintf(`{"lines": {"data": [{"id": %[1]s, "amount": %[1]s, "quantity": %[1]s, "price": %[1]s, "pricing": {"price_details": %[1]s}, "period": %[1]s, "parent": %[1]s, "subscription": %[1]s, "proration": %[1]s}]}}`, value)
			pgtest.Exec(t, pool, `INSERT INTO stripe_objects (livemode, object_type, id, object) VALUES (false, $1, $2, $3)`, object, fmt.Sprint("lines ", i), lines)
		}
		if rows := viewRows(t, pool, view); len(rows) != 2*len(odd) {
			t.Errorf("%s has %d rows", view, len(rows))
		}
	}
	if n := pgtest.Scan[int](t, pool, `SELECT count(to_jsonb(l)) FROM stripe_invoice_lines AS l`); n < len(odd) {
		t.Errorf("there are %d lines", n)
	}
}

func columnsOf(t *testing.T, pool *pgxpool.Pool, view string) (columns []string) {
	t.Helper()
	return strings.Split(pgtest.Scan[string](t, pool, `SELECT string_agg(column_name || '', ' ' ORDER BY ordinal_position) FROM information_schema.columns WHERE table_name = $1`, view), " ")
}

// What schema/stripe_views.sql tells sqlc is what the views have: the same columns of the same types, in the same order.
func TestViewsAsSQLCReadsThem(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	shapes, err := os.ReadFile("../schema/stripe_views.sql")
	if err != nil {
		t.Fatal(err)
	}
	tables := regexp.MustCompile(`(?m)^DROP VIEW \w+;\n`).ReplaceAllString(string(shapes), "")
	pgtest.Exec(t, pool, "CREATE SCHEMA shapes; SET search_path TO shapes; "+tables+"; RESET search_path")
	const columns = `SELECT string_agg(table_name || '.' || column_name || ' ' || data_type, E'\n' ORDER BY table_name, ordinal_position) FROM information_schema.columns WHERE table_schema = $1 AND table_name LIKE 'stripe\_%' AND table_name IN (SELECT viewname FROM pg_views)`
	want, got := pgtest.Scan[string](t, pool, columns, "public"), pgtest.Scan[string](t, pool, columns, "shapes")
	if got != want {
		t.Errorf("sqlc reads\n%s\nand the views have\n%s", got, want)
	}
}

// The judge of storms and of torture notices a view that shows something else than the object.
func TestViewsAreJudged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	account := stripesim.New(5, stripesim.Epoch)
	account.Billing = true
	account.AddProduct(stripesim.VersionBasil, "", "Gold").AddPrice(1000, "month")
	w.api.Store(stripesim.NewAPI(account))
	if err := w.deliver(stripesim.Storm{}.Plan(1, account.Events)); err != nil {
		t.Fatal(err)
	}
	if findings, err := judge.Objects(t.Context(), w.host.Pool, account, "price"); err != nil || len(findings) > 0 {
		t.Errorf("of the views as they are: %v, %v", findings, err)
	}
	pgtest.Exec(t, w.host.Pool, `ALTER VIEW stripe_prices RENAME COLUMN unit_amount TO other`)
	pgtest.Exec(t, w.host.Pool, `ALTER VIEW stripe_prices RENAME COLUMN billing_scheme TO unit_amount`)
	findings, err := judge.Objects(t.Context(), w.host.Pool, account, "price")
	if err != nil || len(findings) != 1 || !strings.HasSuffix(findings[0].What, "unit_amount, in its view") {
		t.Errorf("of a view with a wrong column: %v, %v", findings, err)
	}
}

// shapes are events as real accounts send them: expanded objects with secrets inside, objects of types that have no rules, deletions
// that say so in the object or in the type alone, and an id of the caller's.
var shapes = []struct{ kind, object, status string }{
	{"customer.updated", `{"id":"cus_1","object":"customer","created":1767225600,"default_source":null,"subscriptions":{"object":"list","has_more":false,"data":[{"id":"sub_1",
		"latest_invoice":{"id":"in_1","payment_intent":{"id":"pi_1","client_secret":"pi_1_secret_x"}}}]}}`, ""},
	{"invoice.finalized", `{"id":"in_1","object":"invoice","created":1767225600,"status":"open","customer":{"id":"cus_1","object":"customer"},"lines":{"object":"list","has_more":false,"data":[]}}`, "open"},
	{"payment_method.attached", `{"id":"pm_1","object":"payment_method","created":1767225600,"customer":"cus_1","card":{"brand":"visa","exp_month":1}}`, ""},
	{"account.application.authorized", `{"id":"ca_1","object":"application","name":"App"}`, ""},
	{"account.external_account.deleted", `{"id":"ba_1","object":"bank_account","deleted":true,"account":"acct_1"}`, "deleted"},
	{"account.external_account.deleted", `{"id":"card_1","object":"card","last4":"4242"}`, "deleted"},
	{"coupon.created", `{"id":"25 % off / für alle","object":"coupon","created":1767225600,"percent_off":25.5}`, ""},
}

// Objects of every such shape are stored, read back without secrets, and shown by their view.
func TestShapes(t *testing.T) {
	t.Parallel()
	for i, shape := range shapes {
		var head struct{ ID, Object string }
		if err := json.Unmarshal([]byte(shape.object), &head); err != nil {
			t.Fatal(err)
		}
		h := webhooks.NewHandlers()
		mirror.Register(h, &mirror.Config{Types: []string{head.Object}})
		host := hooktest.New(t, h, nil)
		host.Expect(t, event(fmt.Sprintf("evt_%d", i), shape.kind, 0, shape.object, ""), 200, webhooks.OutcomeProcessed)
		o, err := mirror.Get[mirror.Object](t.Context(), host.Pool, mirror.Key{Type: head.Object, ID: head.ID})
		if err != nil {
			t.Fatal(err)
		}
		if o.Deleted != (shape.status == "deleted") || !o.Deleted && o.Status != shape.status {
			t.Errorf("%s is deleted %v, of the status %q", head.ID, o.Deleted, o.Status)
		}
		got, want := members(o.Object), members([]byte(strings.ReplaceAll(shape.object, `,"client_secret":"pi_1_secret_x"`, "")))
		if text(got) != text(want) {
			t.Errorf("%s is read as %s, want %s", head.ID, text(got), text(want))
		}
		if view, hasOne := judge.Views[head.Object]; hasOne && len(viewRows(t, host.Pool, view)) != 1 {
			t.Errorf("%s does not show %s", view, head.ID)
		}
	}
}
