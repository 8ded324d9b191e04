package operations

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/operationid"
)

// FailureGroup is a group of failures that probably have one cause: events of one type whose errors differ only in ids, numbers and the
// like.
type FailureGroup struct {
	// Key is a hash of the type and the error. It is the same in every process and at every time: FailureFilter.Group and
	// ReplayFilter.Group take it.
	Key       string `json:"key"`
	EventType string `json:"event_type"`
	// Error is the last error, with placeholders for what differs between events: "no customer cus_…".
	Error         string    `json:"error"`
	Count         int       `json:"count"`
	Parked        int       `json:"parked"` // how many of these are parked: only Replay applies them
	FirstFailedAt time.Time `json:"first_failed_at"`
	LastFailedAt  time.Time `json:"last_failed_at"`
	EventID       string    `json:"event_id"`   // an example: the event that failed last
	LastError     string    `json:"last_error"` // of that event, as it was returned
	// EventIDs are the group's events, the newest first failure first, up to MaxGroupEvents. FailureFilter.Group lists all of them.
	EventIDs []string `json:"event_ids"`
	// Receivers is how many of them failed last in each receiver, by its name.
	Receivers map[string]int `json:"receivers"`
}

// MaxGroupEvents is how many events FailureGroup.EventIDs has.
const MaxGroupEvents = 50

// FailureGroups are the groups of a listing.
type FailureGroups struct {
	Groups []FailureGroup // the one that failed last is first
	More   int            // how many further groups there are beyond the filter's Limit
	// Truncated reports that older failures were not read, since the filter's MaxScanned was reached. The counts are then those of the
	// newest failures.
	Truncated bool
}

// FailureGroups groups the failures that the filter selects by type and error. Limit bounds the number of groups.
func (o *Operator) FailureGroups(ctx context.Context, f FailureFilter) (FailureGroups, error) {
	groups := map[string]*FailureGroup{}
	cut, err := o.walkFailures(ctx, f, func(one *brief) bool {
		text := normalized(one.EventType, one.LastError)
		key := operationid.GroupKey(one.EventType, text)
		group := groups[key]
		if group == nil {
			group = &FailureGroup{Key: key, EventType: one.EventType, Error: text, FirstFailedAt: one.FirstFailedAt.UTC(), Receivers: map[string]int{}}
			groups[key] = group
		}
		group.add(one)
		return true
	})
	if err != nil {
		return FailureGroups{}, err
	}
	list := FailureGroups{Groups: make([]FailureGroup, 0, len(groups)), Truncated: cut}
	for _, group := range groups {
		list.Groups = append(list.Groups, *group)
	}
	slices.SortFunc(list.Groups, func(a, b FailureGroup) int {
		return cmp.Or(b.LastFailedAt.Compare(a.LastFailedAt), strings.Compare(a.Key, b.Key))
	})
	shown := min(len(list.Groups), int(limit(f.Limit)))
	list.Groups, list.More = list.Groups[:shown], len(list.Groups)-shown
	return list, nil
}

func (g *FailureGroup) add(one *brief) {
	g.Count++
	g.Receivers[one.Receiver]++
	if len(g.EventIDs) < MaxGroupEvents {
		g.EventIDs = append(g.EventIDs, one.EventID)
	}
	if one.State == string(StateParked) {
		g.Parked++
	}
	if one.FirstFailedAt.Before(g.FirstFailedAt) {
		g.FirstFailedAt = one.FirstFailedAt.UTC()
	}
	if g.EventID == "" || one.LastFailedAt.After(g.LastFailedAt) {
		g.LastFailedAt, g.EventID, g.LastError = one.LastFailedAt.UTC(), one.EventID, one.LastError
	}
}

// normalized returns the error of an event of a type as its group has it.
func normalized(eventType, lastError string) string {
	return normalize(strings.TrimPrefix(lastError, "handler of "+eventType+": "))
}

// group returns the key of a failure's group.
func (b *brief) group() string {
	return operationid.GroupKey(b.EventType, normalized(b.EventType, b.LastError))
}
