package webhooks

import (
	"errors"
	"sync"

	"github.com/pook/stripeonce/internal/pgpool"
)

// errAbandoned is the error of a delivery whose caller has given it up, or whose batch's connection was taken away.
var errAbandoned = errors.New("the handler did not return in time")

// held is what a delivery holds while its handlers run: the turns of its object and its customer, and a connection. The
// goroutine of the handlers releases it. If a handler does not return, the delivery's caller takes it away. Whether the
// transaction can still be prevented from committing is the lease's to know.
type held struct {
	mu        sync.Mutex
	turns     []func()      // what releases them, in the order in which they were joined
	lease     *pgpool.Lease // the last one
	batch     bool          // it is a batch's
	running   bool          // a handler of the host's, or a projection that may call one, is
	abandoned bool
}

// add adds a turn.
func (h *held) add(release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.turns = append(h.turns, release)
}

// lend adds a connection. Batch says that the handlers of other events run on it, too. It returns false if the delivery
// has been abandoned.
func (h *held) lend(lease *pgpool.Lease, batch bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lease, h.batch = lease, batch
	return !h.abandoned
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

// abandonment is the result of abandon.
type abandonment int

const (
	notAbandoned     abandonment = iota // COMMIT has been sent, whose answer has a deadline of its own
	handlerAbandoned                    // the delivery's handler does not return
	otherAbandoned                      // something else does not: another event's handler in its batch, or a hook of the pool
)

// abandon releases the turns, and takes the connection away, so that PostgreSQL rolls back. In a batch the caller of the
// event whose handler runs takes it away.
func (h *held) abandon() abandonment {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.abandoned = true
	if h.lease != nil {
		if h.lease.Committing() {
			return notAbandoned
		}
		if h.running || !h.batch {
			h.lease.Revoke()
		}
		h.releaseTurns() // without a connection, the delivery waits for its turn
	}
	if h.running {
		return handlerAbandoned
	}
	return otherAbandoned
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
