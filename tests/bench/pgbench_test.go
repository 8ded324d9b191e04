package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// benchValues has a value for each parameter of the queries that pgbench runs, so that a new column shows here and not when
// somebody measures.
func TestBenchValues(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile(`@\w+|sqlc\.narg\('\w+'\)`)
	queries := map[string]string{}
	for _, file := range []string{"stripe_webhook_events", "subscriptions", "subscription_items"} {
		text, err := os.ReadFile("../../queries/" + file + ".sql")
		if err != nil {
			t.Fatal(err)
		}
		for _, query := range strings.Split(string(text), "-- name: ")[1:] {
			name, rest, _ := strings.Cut(query, " ")
			var sql []string
			for line := range strings.Lines(rest) {
				if !strings.HasPrefix(line, "--") {
					sql = append(sql, line)
				}
			}
			queries[name] = strings.Join(sql, "")
		}
	}
	for name, values := range benchValues {
		parameters := map[string]bool{}
		for _, parameter := range named.FindAllString(queries[name], -1) {
			parameters[parameter] = true
		}
		if len(parameters) != len(values) {
			t.Errorf("%s has %d parameters, and benchValues %d", name, len(parameters), len(values))
		}
	}
}
