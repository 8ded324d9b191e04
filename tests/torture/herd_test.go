package torture

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
)

// herd is the number of concurrent deliveries.
var herd = map[bool]int{false: 2000, true: 200}[pgtest.Race]

// atOnce delivers each event once, all at the same instant.
func (w *world) atOnce(sender *delivery.Sender, events []*stripesim.Event) {
	w.t.Helper()
	var wg sync.WaitGroup
	for _, ev := range events {
		wg.Go(func() {
			reply, err := sender.Send(w.t.Context(), ev.Body)
			if err != nil {
				w.t.Errorf("a delivery was not answered: %v", err)
				return
			}
			if reply.Status == http.StatusServiceUnavailable && reply.Header.Get("Retry-After") == "" {
				w.t.Errorf("a 503 without Retry-After: %s", reply)
			}
			w.note(ev, reply)
		})
	}
	wg.Wait()
}

// health requests /readyz and /healthz repeatedly until stop is called, and counts the responses.
func (p *process) health() (stop func() (answers, unready int)) {
	done, ended := make(chan struct{}), make(chan struct{})
	answers, unready := 0, 0
	go func() {
		defer close(ended)
		for {
			for _, path := range []string{"/healthz", "/readyz"} {
				resp, err := http.Get("http://" + p.addr + path)
				if err != nil {
					p.t.Errorf("%s is not answered: %v", path, err)
					continue
				}
				_ = resp.Body.Close()
				answers++
				if resp.StatusCode != http.StatusOK {
					unready++
				}
			}
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() (int, int) {
		close(done)
		<-ended
		return answers, unready
	}
}

// peak returns the process's peak memory in MiB, or 0 if the system does not provide it.
func (p *process) peak() int {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if kib, found := strings.CutPrefix(lines.Text(), "VmHWM:"); found {
			n, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(kib, "kB")))
			return n >> 10
		}
	}
	return 0
}

// maxHerdMemory bounds the memory of a receiver under a herd, in MiB: a connection per client, and a body per admitted
// delivery.
const maxHerdMemory = 512

func TestHerd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{})
	p := w.start(standard, w.url+"&pool_max_conns=8", "127.0.0.1:0")
	sender := delivery.NewSender(p.url(), hooktest.Secret, herd)
	defer sender.Close()
	stop := p.health()
	rounds := times(1, 10)
	for range rounds {
		one := w.newEvents(1)[0]
		duplicates := make([]*stripesim.Event, herd)
		for i := range duplicates {
			duplicates[i] = one
		}
		w.atOnce(sender, duplicates)
		different := w.newEvents(herd)
		w.atOnce(sender, different)
		// And recovers at once.
		w.deliver(p.url(), 1, []stripesim.Delivery{{Event: w.newEvents(1)[0], Times: 1}})
	}
	answers, unready := stop()
	if unready > 0 {
		t.Errorf("%d of %d health requests were not answered 200", unready, answers)
	}
	w.only(200, 503)
	if mib := p.peak(); mib > maxHerdMemory && !pgtest.Race {
		t.Errorf("the receiver took %d MiB", mib)
	}
	text := w.answered()
	var all []stripesim.Delivery
	for _, ev := range w.account.Events {
		all = append(all, stripesim.Delivery{Event: ev, Times: 1})
	}
	w.deliver(p.url(), 16, all)
	w.judge()
	addRow(t, "06a", fmt.Sprintf("%d duplicates of one event at once, then %d different events at once, on a pool of 8", herd, herd),
		fmt.Sprintf("%d times", rounds),
		"%s; %d requests for `/readyz` and `/healthz` meanwhile, all 200; at most %d MiB; after Stripe's retries each event took effect exactly once",
		text, answers, p.peak())
}

// A slow event of one subscription holds one connection, however many others wait for it. Events of other subscriptions are
// applied.
func TestHerdOnOneSubscription(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{})
	p := w.start(standard, w.url+"&pool_max_conns=4", "127.0.0.1:0")
	var slow []*stripesim.Event
	w.sim.Do(func(account *stripesim.Account) {
		before := len(account.Events)
		sub := account.Subscribe(stripesim.VersionBasil)
		for i := range times(30, 200) {
			account.Wait(time.Second)
			sub.SetQuantity(int64(2 + i))
		}
		slow = account.Events[before:]
	})
	// Another session holds the lock of the subscription.
	pool := w.pool()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(hashtextextended($1, 7306096))`, slow[0].SubscriptionID); err != nil {
		t.Fatal(err)
	}
	sender := delivery.NewSender(p.url(), hooktest.Secret, len(slow))
	defer sender.Close()
	blocked := make(chan struct{})
	go func() {
		defer close(blocked)
		w.atOnce(sender, slow)
	}()
	// Meanwhile events of other subscriptions are applied.
	w.deliver(p.url(), 4, plan(w.newEvents(50)))
	<-blocked
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.only(200, 503)
	text := w.answered()
	w.deliver(p.url(), 4, plan(slow))
	w.judge()
	addRow(t, "06b", "another process holds the lock of one subscription", fmt.Sprintf("%d events of it at once, and 50 of others, on a pool of 4", len(slow)),
		"those of others applied meanwhile (%s); then all of them, once each", text)
}

func plan(events []*stripesim.Event) []stripesim.Delivery {
	list := make([]stripesim.Delivery, len(events))
	for i, ev := range events {
		list[i] = stripesim.Delivery{Event: ev, Times: 1}
	}
	return list
}
