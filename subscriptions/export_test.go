package subscriptions

import (
	"encoding/json"

	"github.com/pook/stripeonce/internal/ordering"
	"github.com/pook/stripeonce/webhooks"
)

// Settled reports whether the events of a subscription's newest second settle which of them is the last.
func Settled(events []*webhooks.Event) bool {
	type rank struct {
		terminal bool
		created  int64
	}
	var newest rank
	var set []ordering.Occurrence
	for _, ev := range events {
		var object struct{ Status Status }
		if json.Unmarshal(ev.Object, &object) != nil {
			return false
		}
		r := rank{object.Status.Terminal(), ev.Created.Unix()}
		o := ordering.Occurrence{ID: ev.ID, Type: ev.Type, Object: ev.Object, Previous: ev.Previous}
		switch {
		case set == nil, r.terminal && !newest.terminal, r.terminal == newest.terminal && r.created > newest.created:
			newest, set = r, []ordering.Occurrence{o}
		case r == newest:
			set = ordering.With(set, o)
		}
	}
	_, settled := rules.Last(set)
	return settled
}
