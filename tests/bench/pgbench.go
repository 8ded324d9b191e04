package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/pglocal"
)

const (
	benchSubscriptions = 1000
	benchTransactions  = 1000 // of each client
	// withItem is the percentage of events that write an item, as in the simulated life cycles.
	withItem = 42
)

// benchValues are the arguments of stripeonce's statements, in their order, as pgbench's expressions.
var benchValues = map[string][]string{
	"ObjectLockTry":             {"'5000'", "'sub_'||:sub::text", "7306096"},
	"StripeWebhookEventOutcome": {"'evt_'||:event::text"},
	"SubscriptionOrdering":      {"now()", "'sub_'||:sub::text", "'evt_'||:event::text"},
	"SubscriptionUpsert": {
		"'sub_'||:sub::text", "'cus_NffrFeUfNV2Hib'", "'active'", "'price_1MowQVLkdIwHu7ix'", ":item % 10", "'usd'", "false", "NULL::timestamptz", "NULL::timestamptz",
		"NULL::timestamptz", "now()", "now()", "NULL::timestamptz", "NULL::timestamptz", "'charge_automatically'", "'in_1MowQWLkdIwHu7ix'", "'{}'", "false", "NULL",
		"'2026-01-01'", "NULL::jsonb", "NULL", "NULL", "NULL", "NULL", "'{}'::text[]", "true", ":object", "'evt_'||:event::text", "now()", "NULL::timestamptz", ":newest", "'2024-06-20'", "sha256(:event::text::bytea)", "NULL::timestamptz",
	},
	"SubscriptionItemUpsert": {
		"'sub_'||:sub::text", "'si_NcLYdDxLHxlFo7'", "0", "'price_1MowQVLkdIwHu7ix'", "'prod_NWjs8kKbJWmuuc'", ":item % 10", "now()", "now()", "'{}'",
	},
	"StripeWebhookEventInsert": {
		"'evt_'||:event::text", "'customer.subscription.updated'", "'processed'", "now()", "false", "NULL", "'2024-06-20'", "'sub_'||:sub::text", "'host'",
	},
}

// pgbench runs stripeonce's statements alone, in the same two round trips and with an object of the usual size. It returns
// the transactions per second.
func (b *stand) pgbench(list [][]byte) (float64, error) {
	url, err := b.database(ours)
	if err != nil {
		return 0, err
	}
	statements, object, err := b.statements(url, list)
	if err != nil {
		return 0, err
	}
	script, err := os.CreateTemp("", "stripeonce-bench-*.sql")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(script.Name()) }()
	text, err := benchScript(statements)
	if err != nil {
		return 0, err
	}
	if _, err := script.WriteString(text); err != nil {
		return 0, err
	}
	if err := script.Close(); err != nil {
		return 0, err
	}
	bin, err := pglocal.FindBinaries("")
	if err != nil {
		return 0, err
	}
	run := func(transactions int) ([]byte, error) {
		cmd := exec.Command(filepath.Join(bin, "pgbench"), "-n", "-M", "prepared", "-c", strconv.Itoa(*connections), "-t", strconv.Itoa(transactions),
			"-D", "object="+object, "-D", `newest=[{"id":"evt_1MowQVLkdIwHu7ixraBm864M","type":"customer.subscription.updated","previous":{"quantity":1}}]`,
			"-f", script.Name(), url)
		out, err := cmd.CombinedOutput()
		if err == nil && bytes.Contains(out, []byte("ERROR")) {
			err = errors.New("a client was aborted")
		}
		if err != nil {
			return nil, fmt.Errorf("%w\n%.2000s", err, out)
		}
		return out, nil
	}
	if _, err := run(benchTransactions / warmUp); err != nil {
		return 0, err
	}
	out, err := run(benchTransactions)
	if err != nil {
		return 0, err
	}
	rate := regexp.MustCompile(`tps = ([0-9.]+)`).FindSubmatch(out)
	if rate == nil {
		return 0, fmt.Errorf("pgbench says\n%.2000s", out)
	}
	return strconv.ParseFloat(string(rate[1]), 64)
}

// statements lets a receiver apply some events over one connection, and returns that connection's prepared statements. It
// also returns the object of median length.
func (b *stand) statements(url string, list [][]byte) (texts map[string]string, object string, err error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, "", err
	}
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(b.ctx, config)
	if err != nil {
		return nil, "", err
	}
	defer pool.Close()
	r, err := newOwn(pool, projectionOnly, false)
	if err != nil {
		return nil, "", err
	}
	events, err := eventsOf(list[:min(len(list), 200)])
	if err != nil {
		return nil, "", err
	}
	var objects []string
	for _, ev := range events {
		if _, err := r.Apply(b.ctx, ev); err != nil {
			return nil, "", err
		}
		objects = append(objects, string(ev.Object))
	}
	slices.SortFunc(objects, func(a, b string) int { return len(a) - len(b) })
	rows, err := pool.Query(b.ctx, "SELECT statement FROM pg_prepared_statements")
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	texts = map[string]string{}
	name := regexp.MustCompile(`^-- name: (\w+)`)
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, "", err
		}
		if m := name.FindStringSubmatch(text); m != nil {
			texts[m[1]] = text
		}
	}
	return texts, objects[len(objects)/2], rows.Err()
}

// benchScript returns one event's transaction as a pgbench script.
func benchScript(statements map[string]string) (string, error) {
	var script strings.Builder
	fmt.Fprintf(&script, "\\set sub random(1, %d)\n\\set event random(1, 1000000000000000)\n\\set item random(1, 100)\n", benchSubscriptions)
	add := func(lines ...string) { script.WriteString(strings.Join(lines, "\n") + "\n") }
	var broken error
	statement := func(name string) string {
		text, err := bound(statements[name], benchValues[name])
		if err != nil {
			broken = fmt.Errorf("%s: %w", name, err)
		}
		return text + ";"
	}
	add(`\startpipeline`, "BEGIN ISOLATION LEVEL READ COMMITTED;", statement("ObjectLockTry"), statement("StripeWebhookEventOutcome"), statement("SubscriptionOrdering"), `\endpipeline`, `\startpipeline`)
	add(statement("SubscriptionUpsert"), fmt.Sprintf(`\if :item <= %d`, withItem), statement("SubscriptionItemUpsert"), `\endif`)
	add(statement("StripeWebhookEventInsert"), "COMMIT;", `\endpipeline`)
	return script.String(), broken
}

var (
	comment   = regexp.MustCompile(`(?m)^--.*$`)
	parameter = regexp.MustCompile(`\$(\d+)`)
)

// bound returns a statement with values in place of its parameters.
func bound(statement string, values []string) (string, error) {
	highest := 0
	text := parameter.ReplaceAllStringFunc(comment.ReplaceAllString(statement, ""), func(p string) string {
		n, _ := strconv.Atoi(p[1:])
		if highest = max(highest, n); n > len(values) {
			return p
		}
		return "(" + values[n-1] + ")"
	})
	if highest != len(values) || statement == "" {
		return "", fmt.Errorf("the statement has %d parameters, benchValues has %d", highest, len(values))
	}
	return strings.Join(strings.Fields(text), " "), nil
}
