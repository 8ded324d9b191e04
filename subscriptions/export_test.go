package subscriptions

import (
	"encoding/json"
	"time"

	"github.com/pook/stripeonce/webhooks"
)

// Settled reports whether the events of a subscription's newest second settle which of them is the last.
func Settled(events []*webhooks.Event) bool {
	type rank struct {
		terminal bool
		created  int64
	}
	var newest rank
	var set []occurrence
	for _, ev := range events {
		var object struct{ Status Status }
		if json.Unmarshal(ev.Object, &object) != nil {
			return false
		}
		r := rank{object.Status.Terminal(), ev.Created.Unix()}
		switch {
		case set == nil, r.terminal && !newest.terminal, r.terminal == newest.terminal && r.created > newest.created:
			newest, set = r, []occurrence{occurrenceOf(ev)}
		case r == newest:
			set = with(set, occurrenceOf(ev))
		}
	}
	_, settled := last(set)
	return settled
}

// CompletionPauses returns the pauses before the attempts to complete one row.
func CompletionPauses(n int) (pauses []time.Duration) {
	v := &verification{postponed: map[string]postponed{}}
	for range n {
		v.postpone("sub_1")
		pauses = append(pauses, v.postponed["sub_1"].pause)
	}
	return pauses
}
