package subscriptions_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/webhooks"
)

// histories are the rows of the table in docs/ordering.md. A delivery is written "type@second status", or "type@second
// before→after" for an update with previous attributes. A status may be followed by a label in brackets, which is
// metadata.
var histories = []struct{ name, deliveries, outcomes, stored string }{
	{"in order", "created@1 incomplete, updated@2 incomplete→active, deleted@3 canceled", "processed, processed, processed", "canceled"},
	{"updated before created", "updated@2 incomplete→active, created@1 incomplete", "processed, stale", "active"},
	{"updated before created, in one second", "updated@1 incomplete→active, created@1 incomplete", "processed, stale", "active"},
	{"created and updated in one second, in order", "created@1 incomplete, updated@1 incomplete→active", "processed, processed", "active"},
	{"deleted, then a late update", "deleted@3 canceled, updated@2 active→past_due", "processed, stale", "canceled"},
	{"deleted and updated in one second, the update last to arrive", "deleted@3 canceled, updated@3 active→past_due", "processed, stale", "canceled"},
	{"deleted, then an update whose clock is ahead", "deleted@3 canceled, updated@9 active→past_due", "processed, stale", "canceled"},
	{"labeled after the end", "deleted@3 canceled, updated@4 canceled→canceled[moved]", "processed, processed", "canceled[moved]"},
	{"labeled after the end, the label first to arrive", "updated@4 canceled→canceled[moved], deleted@3 canceled", "processed, stale", "canceled[moved]"},
	{"expired, then a late creation", "updated@2 incomplete→incomplete_expired, created@1 incomplete", "processed, stale", "incomplete_expired"},
	{"renewal and upgrade in one second", "updated@5 active[a]→active[b], updated@5 active[b]→active[c]", "processed, processed", "active[c]"},
	{"renewal and upgrade in one second, backwards", "updated@5 active[b]→active[c], updated@5 active[a]→active[b]", "processed, stale", "active[c]"},
	{"three changes in one second, the middle one last to arrive", "updated@5 active[c]→active[d], updated@5 active[a]→active[b], updated@5 active[b]→active[c]",
		"processed, stale, stale", "active[d]"},
	{"payment failed and recovered within a second, backwards", "updated@5 past_due→active[paid], updated@5 active→past_due", "processed, stale", "active[paid]"},
	{"two events of one change", "updated@5 incomplete→active, updated@5 incomplete→active", "processed, stale", "active"},
	{"the same state, then a late update", "updated@2 incomplete→active, updated@4 active→active, updated@3 active→past_due", "processed, stale, stale", "active"},
	{"paused, with two events", "updated@5 trialing→paused, paused@5 paused", "processed, stale", "paused"},
	{"paused, with two events, backwards", "paused@5 paused, updated@5 trialing→paused", "processed, stale", "paused"},
}

func TestHistories(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../docs/ordering.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range histories {
		row := fmt.Sprintf("| %s | %s | %s | %s |", h.name, h.deliveries, h.outcomes, h.stored)
		if !strings.Contains(string(document), row+"\n") {
			t.Errorf("docs/ordering.md lacks the row\n%s", row)
		}
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			host := newHost(t, nil)
			outcomes := strings.Split(h.outcomes, ", ")
			for i, delivery := range strings.Split(h.deliveries, ", ") {
				host.Expect(t, eventOf(t, i, delivery), 200, webhooks.Outcome(outcomes[i]))
			}
			sub := get(t, host, "sub_1")
			stored := string(sub.Status)
			if label := sub.Metadata["label"]; label != "" {
				stored += "[" + label + "]"
			}
			if stored != h.stored {
				t.Errorf("stored is %s, want %s", stored, h.stored)
			}
		})
	}
	if rows := strings.Count(string(document), "@"); rows < len(histories) {
		t.Errorf("docs/ordering.md has %d deliveries", rows)
	}
}

var deliveryForm = regexp.MustCompile(`^(\w+)@(\d+) (?:(\w+)(?:\[(\w+)\])?→)?(\w+)(?:\[(\w+)\])?$`)

// eventOf returns the event of a delivery. Earlier deliveries have greater ids.
func eventOf(t *testing.T, n int, delivery string) []byte {
	t.Helper()
	m := deliveryForm.FindStringSubmatch(delivery)
	if m == nil {
		t.Fatalf("%q is no delivery", delivery)
	}
	created, err := strconv.ParseInt(m[2], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	body := string(hooktest.Event(fmt.Sprintf("evt_%d", 9-n), "customer.subscription."+m[1], created,
		fmt.Sprintf(`{"id":"sub_1","object":"subscription","customer":"cus_1","status":%q,"metadata":{%s}}`, m[5], label(m[6], false))))
	if m[3] == "" {
		return []byte(body)
	}
	var previous []string
	if m[3] != m[5] {
		previous = append(previous, fmt.Sprintf(`"status":%q`, m[3]))
	}
	if m[4] != m[6] {
		previous = append(previous, fmt.Sprintf(`"metadata":{%s}`, label(m[4], true)))
	}
	return []byte(strings.Replace(body, `"data":{`, `"data":{"previous_attributes":{`+strings.Join(previous, ",")+`},`, 1))
}

func label(text string, null bool) string {
	switch {
	case text != "":
		return fmt.Sprintf(`"label":%q`, text)
	case null:
		return `"label":null`
	default:
		return ""
	}
}
