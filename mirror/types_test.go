package mirror

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/objecttypes"
)

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
	if err := objecttypes.Comparable(append(Billing, All...)); err != nil {
		t.Error(err)
	}
	for i, object := range All {
		r, final, view := ruleOf(object), "its deletion", "stripe_"+strings.ReplaceAll(object, ".", "_")+"s"
		if r.Reusable {
			final = "nothing"
		}
		if object == summaryType {
			view = "stripe_entitlements"
		}
		if !strings.Contains(files[1], "CREATE TABLE "+view+" (") {
			view = ""
		}
		path := code(r.Path)
		switch {
		case r.Unlisted && (r.Collects != "" || r.OfCustomer != nil):
			path += ", by customer"
		case r.Unlisted:
			path += ", in no list"
		}
		want := fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s |", object, code(r.Events...), final, path, code(r.Lists...), code(view))
		if want = regexp.MustCompile(` +\|`).ReplaceAllString(want, " |"); i >= len(rows) || !strings.HasPrefix(rows[i], want) {
			t.Errorf("row %d of docs/types.md is not\n%s", i, want)
		}
	}
}
