package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/pgtest"
)

// sqlOf is a database that keeps the text of the query that it is asked.
type sqlOf struct{ text string }

var errKept = errors.New("the query's text is kept")

func (s *sqlOf) Exec(_ context.Context, sql string, _ ...any) (pgconn.CommandTag, error) {
	s.text = sql
	return pgconn.CommandTag{}, errKept
}

func (s *sqlOf) Query(_ context.Context, sql string, _ ...any) (pgx.Rows, error) {
	s.text = sql
	return nil, errKept
}

func (s *sqlOf) QueryRow(_ context.Context, sql string, _ ...any) pgx.Row {
	s.text = sql
	return s
}

func (s *sqlOf) Scan(...any) error { return errKept }

// A connection plans each query once. Where it does so while the table is empty, PostgreSQL takes all indexes for equally good
// that have the query's columns, and would keep a wrong one until the table is analyzed. So each query can use one index only,
// of each partition where there are some.
func TestPlansOfAnEmptyTable(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), db.New()
	conn, err := pgx.Connect(ctx, pgtest.NewURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.Exec(ctx, "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off"); err != nil {
		t.Fatal(err)
	}
	const pkey, created, customer = "stripe_objects_pkey", "stripe_objects_stripe_created_at_idx", "stripe_objects_customer_id_idx"
	for name, c := range map[string]struct {
		index string
		ask   func(s *sqlOf) error
	}{
		"ObjectGet":          {pkey, func(s *sqlOf) error { _, err := q.ObjectGet(ctx, s, db.ObjectGetParams{}); return err }},
		"ObjectOrdering":     {pkey, func(s *sqlOf) error { _, err := q.ObjectOrdering(ctx, s, db.ObjectOrderingParams{}); return err }},
		"ObjectListByKey":    {pkey, func(s *sqlOf) error { _, err := q.ObjectListByKey(ctx, s, db.ObjectListByKeyParams{}); return err }},
		"ObjectList":         {created, func(s *sqlOf) error { _, err := q.ObjectList(ctx, s, db.ObjectListParams{}); return err }},
		"ObjectKeyList":      {created, func(s *sqlOf) error { _, err := q.ObjectKeyList(ctx, s, db.ObjectKeyListParams{}); return err }},
		"ObjectVersion":      {created, func(s *sqlOf) error { _, err := q.ObjectVersion(ctx, s, db.ObjectVersionParams{}); return err }},
		"ConsoleAccountList": {pkey, func(s *sqlOf) error { _, err := q.ConsoleAccountList(ctx, s, 1); return err }},
		"ConsoleTypeList":    {pkey, func(s *sqlOf) error { _, err := q.ConsoleTypeList(ctx, s, "", 1); return err }},
		"ConsoleObjectFind":  {pkey, func(s *sqlOf) error { _, err := q.ConsoleObjectFind(ctx, s, db.ConsoleObjectFindParams{}); return err }},
		"ConsoleObjectList":  {created, func(s *sqlOf) error { _, err := q.ConsoleObjectList(ctx, s, db.ConsoleObjectListParams{}); return err }},
		"ConsoleObjectListEnd": {created, func(s *sqlOf) error {
			_, err := q.ConsoleObjectListEnd(ctx, s, db.ConsoleObjectListEndParams{})
			return err
		}},
		"ConsolePaymentObjectList": {created, func(s *sqlOf) error {
			_, err := q.ConsolePaymentObjectList(ctx, s, db.ConsolePaymentObjectListParams{})
			return err
		}},
		"EntitlementFind":       {customer, func(s *sqlOf) error { _, err := q.EntitlementFind(ctx, s, "", ""); return err }},
		"EntitlementSummaryGet": {customer, func(s *sqlOf) error { _, err := q.EntitlementSummaryGet(ctx, s, ""); return err }},
		"stripe_entitlements": {customer, func(s *sqlOf) error {
			s.text = `SELECT id FROM stripe_entitlements WHERE customer_id = $1 AND lookup_key = $2`
			return errKept
		}},
		"ConsoleCustomerKeyList": {customer, func(s *sqlOf) error { _, err := q.ConsoleCustomerKeyList(ctx, s, ""); return err }},
		"ConsoleCustomerObjectList": {customer, func(s *sqlOf) error {
			_, err := q.ConsoleCustomerObjectList(ctx, s, db.ConsoleCustomerObjectListParams{})
			return err
		}},
		"ObjectListByCustomer": {customer, func(s *sqlOf) error {
			_, err := q.ObjectListByCustomer(ctx, s, db.ObjectListByCustomerParams{})
			return err
		}},
		"ObjectListBySubscription": {"stripe_objects_subscription_id_idx", func(s *sqlOf) error {
			_, err := q.ObjectListBySubscription(ctx, s, db.ObjectListBySubscriptionParams{})
			return err
		}},
		"ObjectKeyListUndated": {"stripe_objects_undated_idx", func(s *sqlOf) error {
			_, err := q.ObjectKeyListUndated(ctx, s, db.ObjectKeyListUndatedParams{})
			return err
		}},
		"ObjectListUndated": {"stripe_objects_undated_idx", func(s *sqlOf) error {
			_, err := q.ObjectListUndated(ctx, s, db.ObjectListUndatedParams{})
			return err
		}},
		"ObjectIncompleteList": {"stripe_objects_incomplete_idx", func(s *sqlOf) error {
			_, err := q.ObjectIncompleteList(ctx, s, db.ObjectIncompleteListParams{})
			return err
		}},
	} {
		var sql sqlOf
		if err := c.ask(&sql); !errors.Is(err, errKept) {
			t.Fatal(err)
		}
		plan := genericPlan(t, conn, name, sql.text)
		used := slices.Compact(slices.Sorted(slices.Values(regexp.MustCompile(`stripe_objects_\w*(?:key|idx)\b`).FindAllString(plan, -1))))
		if !slices.Equal(used, []string{c.index}) {
			t.Errorf("%s uses %v, want %s:\n%s", name, used, c.index, plan)
		}
	}
}

// genericPlan returns the plan of a query, for any values. The indexes of partitions have the names of the whole.
func genericPlan(t *testing.T, conn *pgx.Conn, name, sql string) string {
	t.Helper()
	if _, err := conn.Exec(t.Context(), fmt.Sprintf("PREPARE %s AS %s", name, sql), pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	var values string
	err := conn.QueryRow(t.Context(), `SELECT string_agg(CASE
			WHEN type::text = 'boolean' THEN 'TRUE' WHEN type::text = 'timestamp with time zone' THEN 'now()' WHEN type::text IN ('integer', 'bigint') THEN '1'
			WHEN type::text LIKE '%[]' THEN quote_literal('{}') ELSE quote_literal('x') END, ', ')
		FROM pg_prepared_statements, unnest(parameter_types) AS type WHERE name = $1`, strings.ToLower(name)).Scan(&values)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), fmt.Sprintf("EXPLAIN EXECUTE %s (%s)", name, values), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return pgtest.OfWhole(strings.Join(lines, "\n"))
}
