package webhooks

import (
	"errors"
	"sync"

	"github.com/pook/stripeonce/internal/pgpool"
)

// errAbandoned is the error of a delivery whose caller has given it up. Nobody sees it.
var errAbandoned = errors.New("the handler did not return in time")

// held is what a delivery holds while its handlers run: the turns of its object and its customer, and a connection. The
// goroutine of the handlers releases it. If a handler does not return, the delivery's caller takes it away.
type held struct {
	mu         sync.Mutex
	turns      []func()      // what releases them, in the order in which they were joined
	lease      *pgpool.Lease // the last one
	batch      bool          // it is a batch's
	running    bool          // a handler of the host's is
	committing bool          // COMMIT has been sent, whose answer has a deadline of its own
	abandoned  bool
}

// add adds a turn.
func (h *held) add(release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.turns = append(h.turns, release)
}

// lend adds a connection. It returns false if the delivery has been abandoned.
func (h *held) lend(lease *pgpool.Lease) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lease, h.batch = lease, false
	return !h.abandoned
}

// lendBatch adds the connection of a batch, in which the handlers of other events run, too.
func (h *held) lendBatch(lease *pgpool.Lease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lease, h.batch = lease, true
}

// run notes that a handler runs, until the function that it returns is called.
func (h *held) run() (returned func()) {
	set := func(running bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.running = running
	}
	set(true)
	return func() { set(false) }
}

// restart begins another attempt.
func (h *held) restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lease, h.batch, h.committing = nil, false, false
}

// commit returns false if the delivery has been abandoned, and must not be committed. Otherwise it can no longer be
// abandoned.
func (h *held) commit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.committing = !h.abandoned
	return h.committing
}

// abandon takes the connection away, so that PostgreSQL rolls back, and releases the turns. Done is false if COMMIT has been
// sent. Own is false if the delivery waits in a batch while the handler of another event does not return: that event's
// caller takes the connection away.
func (h *held) abandon() (done, own bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.committing {
		return false, false
	}
	h.abandoned = true
	if h.batch && !h.running {
		return true, false
	}
	if h.lease != nil && h.lease.Revoke() {
		h.releaseTurns()
	}
	return true, true
}

// release releases the turns.
func (h *held) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.releaseTurns()
}

func (h *held) releaseTurns() {
	for i := len(h.turns) - 1; i >= 0; i-- {
		h.turns[i]()
	}
	h.turns = nil
}
