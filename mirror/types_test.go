package mirror

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/eventtypes"
)

// Every rule is consistent: its patterns match types of events that Stripe sends, and no prefix of ids is the beginning of another.
func TestRules(t *testing.T) {
	t.Parallel()
	all := map[string]string{}
	for object, r := range rules {
		for _, pattern := range r.events {
			if !eventtypes.Matches(pattern) {
				t.Errorf("%s: no known type of events matches %s", object, pattern)
			}
		}
		if r.object != object || !strings.HasPrefix(r.path, "/v1/") {
			t.Errorf("%s: %+v", object, r)
		}
		for _, prefix := range r.prefixes {
			for other, owner := range all {
				if strings.HasPrefix(prefix, other) || strings.HasPrefix(other, prefix) {
					t.Errorf("%s of %s and %s of %s", prefix, object, other, owner)
				}
			}
			all[prefix] = object
		}
	}
	for id, want := range map[string]string{"in_1": "invoice", "inpay_1": "invoice_payment", "sub_sched_1": "subscription_schedule", "sub_1": "", "gold": ""} {
		if got := typeOfID(id); got != want {
			t.Errorf("%s is %q, want %q", id, got, want)
		}
	}
	for _, object := range append(Billing, All...) {
		if rules[object] == nil {
			t.Errorf("%s has no rule", object)
		}
	}
}

// The table of the types in docs/types.md is that of the code.
func TestTypesInDocuments(t *testing.T) {
	t.Parallel()
	var files [2]string
	for i, name := range []string{"../docs/types.md", "../schema/stripe_views.sql"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = string(text)
	}
	_, table, _ := strings.Cut(files[0], "\n| type | events | final | in Stripe's API | lists completed | view | dj-stripe | Supabase's | Stripe's |\n")
	rows := strings.Split(table, "\n")[1:]
	code := func(list ...string) string {
		if len(list) == 0 || list[0] == "" {
			return ""
		}
		return "`" + strings.Join(list, "`, `") + "`"
	}
	for i, object := range All {
		r, final, view := rules[object], "its deletion", "stripe_"+strings.ReplaceAll(object, ".", "_")+"s"
		if r.reusable {
			final = "nothing"
		}
		if object == summaryType {
			view = "stripe_entitlements"
		}
		if !strings.Contains(files[1], "CREATE TABLE "+view+" (") {
			view = ""
		}
		path := code(r.path)
		switch {
		case r.unlisted && (r.collects != "" || r.ofCustomer != nil):
			path += ", by customer"
		case r.unlisted:
			path += ", in no list"
		}
		want := fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s |", object, code(r.events...), final, path, code(r.lists...), code(view))
		if want = regexp.MustCompile(` +\|`).ReplaceAllString(want, " |"); i >= len(rows) || !strings.HasPrefix(rows[i], want) {
			t.Errorf("row %d of docs/types.md is not\n%s", i, want)
		}
	}
}
