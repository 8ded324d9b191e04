package console

import (
	"fmt"
	"html/template"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/buildinfo"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// commitLength is how many characters of a revision the footer shows.
const commitLength = 12

// functions are the functions of the templates.
var functions = template.FuncMap{
	"ago":        ago,
	"exact":      func(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05 UTC") },
	"iso":        func(at time.Time) string { return at.UTC().Format(time.RFC3339) },
	"day":        func(at time.Time) string { return at.UTC().Format("2 Jan 2006 UTC") },
	"count":      count,
	"seconds":    seconds,
	"segment":    url.PathEscape,
	"text":       orEmpty,
	"pointer":    func(s string) *string { return &s },
	"lines":      func(s string) int { return strings.Count(s, "\n") + 1 },
	"isSub":      isSubscription,
	"isCustomer": isCustomer,
	"plural":     plural,
	"plural64":   func(n int, one string) string { return plural(int64(n), one) },
	"count64":    func(n int) string { return count(int64(n)) },
	"modeOf":     modeOf,
	"pieces":     pieces,
	"quantity":   quantity,
	"tone":       tone,
	"replayed":   replayed,
	"within": func(path, section string) bool {
		return path == section || section != "" && strings.HasPrefix(path, section+"/")
	},
	"dict": func(pairs ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i+1 < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return m
	},
}

func modeOf(livemode bool) string {
	if livemode {
		return "live"
	}
	return "test"
}

func quantity(n *int64) string {
	if n == nil {
		return "—"
	}
	return count(*n)
}

// isSubscription reports whether an id is a subscription's. A schedule's id also begins with sub_.
func isSubscription(id *string) bool {
	return strings.HasPrefix(orEmpty(id), "sub_") && !strings.HasPrefix(*id, "sub_sched_")
}

func isCustomer(id *string) bool { return strings.HasPrefix(orEmpty(id), "cus_") }

// plural counts something: "1 event", "1,234 events".
func plural(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + one + "s"
}

// version names the build of stripeonce: its version, and the revision of a working copy.
func version() string {
	build := buildinfo.Read()
	if build.Commit == "unknown" {
		return build.Version
	}
	return build.Version + " (commit " + build.Commit[:min(len(build.Commit), commitLength)] + ")"
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// replayed explains the outcome of a replay.
func replayed(outcome string) string {
	switch webhooks.Outcome(outcome) {
	case webhooks.OutcomeStale:
		return "The stored row is newer or has the same state, so nothing changed."
	case webhooks.OutcomeIgnored:
		return "It has no handler."
	case webhooks.OutcomeDuplicate:
		return "It had already taken effect, so nothing was done."
	default:
		return "It has taken effect."
	}
}

// tone returns the CSS class of a subscription's status.
func tone(status subscriptions.Status) string {
	switch {
	case status.Entitled():
		return "good"
	case status.Terminal():
		return "quiet"
	default:
		return "warn"
	}
}

// ago describes a past or future time relative to now.
func ago(at, now time.Time) string {
	if d := at.Sub(now); d > time.Second {
		return "in " + inWords(d)
	}
	if d := now.Sub(at); d >= time.Second {
		return inWords(d) + " ago"
	}
	return "now"
}

// inWords describes a duration in its largest unit.
func inWords(d time.Duration) string {
	const day = 24 * time.Hour
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{365 * day, "year"}, {30 * day, "month"}, {day, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := int64(d / unit.length); n == 1 {
			return "1 " + unit.name
		} else if n > 1 {
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return "a moment"
}

// seconds formats a number of seconds.
func seconds(s float64) string {
	switch d := time.Duration(s * float64(time.Second)); {
	case d < 0:
		return "0 s"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", s)
	default:
		return inWords(d)
	}
}

// count formats a number with separated thousands.
func count(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
