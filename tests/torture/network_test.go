package torture

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pglocal"
)

// The network between receiver and PostgreSQL is slow, resets connections, and is silent for a while.
func TestNetwork(t *testing.T) {
	t.Parallel()
	badNetwork(t, standard, "05a", "")
}

func TestNetworkOfBatchedHandlers(t *testing.T) {
	t.Parallel()
	badNetwork(t, batchable, "05b", ", with `Batchable` handlers")
}

func badNetwork(t *testing.T, kind, order, what string) {
	t.Helper()
	w := newBilledWorld(t, pglocal.Config{})
	w.away = true
	proxy := w.newProxy()
	p := w.start(kind, w.by(proxy), "127.0.0.1:0")
	n := times(9, 150)
	var delays, resets, holes int
	w.deliverWhile(p.url(), n, within(50*time.Millisecond, 300*time.Millisecond), func(i int) {
		switch i % 3 {
		case 0:
			delays++
			proxy.Delay(rand.N(20 * time.Millisecond))
		case 1:
			resets++
			proxy.Delay(0)
			proxy.Cut()
		case 2:
			holes++
			proxy.BlackHole(true)
			time.Sleep(rand.N(time.Second))
			proxy.Cut() // messages that were held back are lost
			proxy.BlackHole(false)
		}
	})
	proxy.Delay(0)
	w.judge()
	w.only(200, 500, 503)
	addRow(t, order, "the network between receiver and PostgreSQL"+what,
		fmt.Sprintf("%d times delayed by up to 20 ms a message, %d times all connections reset, %d times silent for up to a second and then reset", delays, resets, holes),
		"%s", w.summary())
}

// The network is silent for longer than every limit. Deliveries in flight are answered 500 or 503 within the limits, and
// the receiver recovers with the network.
func TestSilentNetwork(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	w := newWorld(t, pglocal.Config{})
	w.away = true
	proxy := w.newProxy()
	p := w.start(standard, w.by(proxy), "127.0.0.1:0")
	n := times(1, 3)
	w.deliverWhile(p.url(), n, within(300*time.Millisecond, 600*time.Millisecond), func(int) {
		proxy.BlackHole(true)
		time.Sleep(16 * time.Second) // more than Timeout and CommitTimeout together
		proxy.BlackHole(false)
	})
	w.judge()
	w.only(200, 500, 503)
	addRow(t, "05c", "a network that falls silent for 16 s, longer than every limit", fmt.Sprintf("%d times", n), "%s", w.summary())
}
