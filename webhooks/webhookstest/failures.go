package webhookstest

import (
	"context"
	"regexp"
	"sync"

	"github.com/pook/stripeonce/stripesim"
)

// maxFailures is the number of deliveries without a 2xx after which a storm stops: the test has failed, and each costs all pauses.
const maxFailures = 10

// failures are the deliveries that were given up, by event type and response.
type failures struct {
	stop       context.CancelFunc
	mu         sync.Mutex
	deliveries int
	kinds      []*failure
}

type failure struct {
	text       string // the response without ids
	event      *stripesim.Event
	reply      string
	deliveries int
}

// ids are those of Stripe's objects: a prefix, and letters among which are digits or capitals.
var ids = regexp.MustCompile(`\b([a-z]{2,}_(test_|live_)?)[a-z]*[0-9A-Z][0-9A-Za-z]*`)

func (f *failures) observe(a stripesim.Attempt) {
	if !a.Last || a.OK() {
		return
	}
	reply := a.String()
	if a.Err == nil {
		reply = newReply(a.Status, a.Header, a.Body).String()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	kind := f.kind(a.Event, ids.ReplaceAllString(reply, "$1…"))
	kind.event, kind.reply = a.Event, reply
	kind.deliveries++
	if f.deliveries++; f.deliveries == maxFailures {
		f.stop()
	}
}

// kind returns the failure of an event's type with the same text, or adds it.
func (f *failures) kind(ev *stripesim.Event, text string) *failure {
	for _, kind := range f.kinds {
		if kind.event.Type == ev.Type && kind.text == text {
			return kind
		}
	}
	kind := &failure{event: ev, text: text}
	f.kinds = append(f.kinds, kind)
	return kind
}
