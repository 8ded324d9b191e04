package torture

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgproxy"
	"github.com/pook/stripeonce/stripesim"
)

// says reports whether a message contains a text, such as a statement.
func says(m pgproxy.Message, text string) bool { return bytes.Contains(m.Body, []byte(text)) }

// boundary is a point between two messages of a delivery's transaction.
type boundary struct {
	message int // counted from the first one, which belongs to BEGIN
	action  pgproxy.Action
}

func (b boundary) String() string {
	if b.action == pgproxy.CutBefore {
		return fmt.Sprintf("before message %d", b.message)
	}
	return fmt.Sprintf("after message %d", b.message)
}

// counter counts the messages of the next transaction.
type counter struct {
	mu     sync.Mutex
	begun  bool
	count  int
	toSend []bool // for each message: sent to the server
}

// watch counts messages from the first one sent to the server, and calls at for each.
func (c *counter) watch(at func(i int, m pgproxy.Message) pgproxy.Action) func(pgproxy.Message) pgproxy.Action {
	return func(m pgproxy.Message) pgproxy.Action {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.begun = c.begun || m.ToServer
		if !c.begun {
			return pgproxy.Pass
		}
		i := c.count
		c.count++
		c.toSend = append(c.toSend, m.ToServer)
		return at(i, m)
	}
}

// messages returns the messages of a delivery's transaction, on a connection with prepared statements.
func (w *world) messages(proxy *pgproxy.Proxy, url string) []bool {
	w.t.Helper()
	c := &counter{}
	proxy.Watch(c.watch(func(int, pgproxy.Message) pgproxy.Action { return pgproxy.Pass }))
	w.deliver(url, 1, []stripesim.Delivery{{Event: w.newEvents(1)[0], Times: 1}})
	proxy.Watch(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.toSend
}

func both(n int) []boundary {
	var list []boundary
	for i := range n {
		list = append(list, boundary{i, pgproxy.CutBefore}, boundary{i, pgproxy.CutAfter})
	}
	return list
}

// The connection is cut once at each boundary between two messages of the transaction.
func TestCutAtEveryMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{})
	proxy := w.newProxy()
	p := w.start(standard, w.by(proxy)+"&pool_max_conns=1", "127.0.0.1:0")
	w.messages(proxy, p.url()) // prepares the statements
	total := len(w.messages(proxy, p.url()))
	places := both(total)
	for i, place := range places {
		if !*long && i%5 != 0 && place.message < total-6 { // the short form: some, and all at COMMIT
			continue
		}
		w.messages(proxy, p.url())
		c, cut := &counter{}, false
		proxy.Watch(c.watch(func(i int, _ pgproxy.Message) pgproxy.Action {
			if i == place.message && !cut {
				cut = true
				return place.action
			}
			return pgproxy.Pass
		}))
		ev := w.newEvents(1)[0]
		w.deliver(p.url(), 1, []stripesim.Delivery{{Event: ev, Times: 1}})
		proxy.Watch(nil)
		if !cut {
			t.Errorf("%s: nothing was cut", place)
		}
		w.judgeAcknowledged(w.pool())
		if t.Failed() {
			t.Fatalf("cut %s of %d", place, total)
		}
	}
	w.judge()
	w.only(200, 500, 503)
	addRow(t, "05b", "the connection is cut between two messages of the transaction",
		fmt.Sprintf("once at each of %d boundaries, in both directions, COMMIT's answer among them", len(places)), "%s", w.summary())
}

// The receiver is killed once before and once after each message that it sends in the transaction.
func TestKillAtEveryMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{})
	proxy := w.newProxy()
	addr := freeAddr()
	url := w.by(proxy) + "&pool_max_conns=1"
	var running atomic.Pointer[process]
	running.Store(w.start(standard, url, addr))
	w.messages(proxy, running.Load().url())
	sent := w.messages(proxy, running.Load().url())
	kills := 0
	for i, place := range both(len(sent)) {
		if !sent[place.message] || !*long && i%9 != 0 && place.message < len(sent)-5 {
			continue
		}
		w.messages(proxy, running.Load().url()) // the new process has prepared its statements
		c, dead := &counter{}, make(chan struct{})
		killed := false
		proxy.Watch(c.watch(func(i int, _ pgproxy.Message) pgproxy.Action {
			if i != place.message || killed {
				return pgproxy.Pass
			}
			killed = true
			kills++
			running.Load().kill()
			close(dead)
			return place.action
		}))
		restarted := make(chan struct{})
		go func() {
			defer close(restarted)
			select {
			case <-dead:
				proxy.Watch(nil)
				running.Store(w.start(standard, url, addr))
			case <-time.After(waitLimit):
				t.Errorf("%s: nobody was killed", place)
			}
		}()
		w.deliver("http://"+addr+"/webhooks/stripe", 1, []stripesim.Delivery{{Event: w.newEvents(1)[0], Times: 1}})
		<-restarted
		w.judgeAcknowledged(w.pool())
		if t.Failed() {
			t.Fatalf("killed %s of %d", place, len(sent))
		}
	}
	w.judge()
	addRow(t, "02", "`kill -9` of the receiver at chosen points", fmt.Sprintf("%d times: before and after each message that it sends from BEGIN to COMMIT", kills),
		"%s", w.summary())
}
