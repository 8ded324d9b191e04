package torture

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgproxy"
	"github.com/pook/stripeonce/stripesim"
)

// deliverWhile delivers waves of a storm until disturb has been called n times, each time after a random pause.
func (w *world) deliverWhile(url string, n int, while func(r *rand.Rand) time.Duration, disturb func(i int)) {
	w.t.Helper()
	w.deliverWavesWhile(url, w.live, n, while, disturb)
}

// deliverWavesWhile is deliverWhile with other waves: wave plans the deliveries of a number of subscriptions.
func (w *world) deliverWavesWhile(url string, wave func(subscriptions int) []stripesim.Delivery, n int,
	while func(r *rand.Rand) time.Duration, disturb func(i int)) {
	w.t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if w.t.Failed() {
				w.giveUp()
			}
		}()
		for i := range n {
			select {
			case <-time.After(while(random)):
			case <-w.t.Context().Done():
				return
			}
			disturb(i)
		}
	}()
	for {
		w.deliver(url, 12, wave(30))
		select {
		case <-done:
			w.deliver(url, 12, wave(5)) // and once more without faults
			return
		default:
		}
	}
}

func within(least, most time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return least + time.Duration(r.Int64N(int64(most-least))) }
}

func TestKillReceiver(t *testing.T) {
	t.Parallel()
	killReceiver(t, standard, "01", "")
}

func TestKillReceiverOfBatchedHandlers(t *testing.T) {
	t.Parallel()
	killReceiver(t, batchable, "01a", ", whose handlers are `Batchable`")
}

func killReceiver(t *testing.T, kind, order, what string) {
	t.Helper()
	w := newBilledWorld(t, pglocal.Config{})
	addr := freeAddr()
	var running atomic.Pointer[process]
	running.Store(w.start(kind, w.url, addr))
	n := times(6, 200)
	w.deliverWhile(running.Load().url(), n, within(20*time.Millisecond, 250*time.Millisecond), func(int) {
		running.Load().kill()
		running.Store(w.start(kind, w.url, addr))
	})
	w.judge()
	w.only(200, 503)
	addRow(t, order, "`kill -9` of the receiver"+what+", at random", fmt.Sprintf("%d times under a storm of deliveries", n), "%s", w.summary())
}

// The judge finds a receiver that splits its transaction, with the same faults.
func TestSplitTransactionIsCaught(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{})
	addr := freeAddr()
	var running atomic.Pointer[process]
	running.Store(w.start("check-then-act", w.url, addr))
	proxy := w.newProxy()
	running.Load().kill()
	running.Store(w.start("check-then-act", w.by(proxy), addr))
	// The receiver dies between its effect and its record.
	for range 3 {
		died := make(chan struct{})
		var once atomic.Bool
		proxy.Watch(func(m pgproxy.Message) pgproxy.Action {
			if m.ToServer && says(m, "INSERT INTO stripe_webhook_events") && once.CompareAndSwap(false, true) {
				running.Load().kill()
				close(died)
				return pgproxy.CutBefore
			}
			return pgproxy.Pass
		})
		ev := w.newEvents(1)[0]
		go func() {
			<-died
			proxy.Watch(nil)
			running.Store(w.start("check-then-act", w.by(proxy), addr))
		}()
		w.deliver(running.Load().url(), 1, []stripesim.Delivery{{Event: ev, Times: 1}})
	}
	findings, err := w.findings(w.pool())
	if err != nil {
		t.Fatal(err)
	}
	if len(findings) == 0 {
		t.Error("the judge finds nothing against a receiver whose transaction is split")
	}
	addRow(t, "00", "the judge itself", "a receiver that checks, acts and records in separate transactions, killed 3 times between act and record",
		"caught: %d findings, such as “%s”", len(findings), findings[0])
}

func TestKillPostgres(t *testing.T) {
	t.Parallel()
	w := newBilledWorld(t, pglocal.Config{})
	w.away = true
	p := w.start(standard, w.url, "127.0.0.1:0")
	n := times(2, 25)
	w.deliverWhile(p.url(), n, within(300*time.Millisecond, 1500*time.Millisecond), func(int) {
		if err := w.cluster.Kill(); err != nil {
			t.Error(err)
		}
		if err := w.cluster.Restart(t.Context()); err != nil {
			t.Error(err)
		}
	})
	w.judge()
	w.only(200, 500, 503)
	addRow(t, "03", "`kill -9` of PostgreSQL and all its processes, with fsync on, and restart", fmt.Sprintf("%d times under a storm of deliveries", n),
		"%s", w.summary())
}
