package migrate_test

import (
	"slices"
	"testing"

	"github.com/pook/stripeonce/schema/migrate"
)

func TestIdentifiers(t *testing.T) {
	for list, want := range map[string][]string{
		``:                     nil,
		`""`:                   nil,
		`"$user", public`:      {"$user", "public"},
		`Billing , PUBLIC`:     {"billing", "public"},
		`"Bil""ling","a, b",c`: {`Bil"ling`, "a, b", "c"},
		`"unfinished`:          {"unfinished"},
		`"""", x`:              {`"`, "x"},
	} {
		if got := migrate.Identifiers(list); !slices.Equal(got, want) {
			t.Errorf("%s gives %q, want %q", list, got, want)
		}
	}
}
