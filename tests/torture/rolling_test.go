package torture

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/server"
)

// balancer is a load balancer in front of replicas. An instance is taken out before it is stopped, and its requests in
// flight are waited for.
type balancer struct {
	mu   sync.Mutex
	next int
	list []*backend
}

type backend struct {
	proxy *httputil.ReverseProxy
	under sync.WaitGroup
}

// kindHeader is the response header with the kind of the receiver.
const kindHeader = "X-Receiver-Kind"

func (b *balancer) set(i int, p *process) {
	target, err := url.Parse("http://" + p.addr)
	if err != nil {
		panic(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(resp *http.Response) error {
		resp.Header.Set(kindHeader, p.kind)
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list[i] = &backend{proxy: proxy}
}

func (b *balancer) takeOut(i int) {
	b.mu.Lock()
	out := b.list[i]
	b.list[i] = nil
	b.mu.Unlock()
	out.under.Wait()
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b.mu.Lock()
	var to *backend
	for to == nil {
		b.next++
		to = b.list[b.next%len(b.list)]
	}
	to.under.Add(1)
	b.mu.Unlock()
	defer to.under.Done()
	to.proxy.ServeHTTP(w, req)
}

func TestRollingRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{})
	const replicas = 3
	b := &balancer{list: make([]*backend, replicas)}
	running := make([]*process, replicas)
	for i := range running {
		running[i] = w.start(standard, w.url, "127.0.0.1:0")
		b.set(i, running[i])
	}
	front := httptest.NewServer(b)
	defer front.Close()
	n := times(6, 120)
	w.deliverWhile(front.URL+server.WebhookPath, n, within(20*time.Millisecond, 200*time.Millisecond), func(i int) {
		i %= replicas
		b.takeOut(i)
		running[i].terminate()
		running[i] = w.start(standard, w.url, "127.0.0.1:0")
		b.set(i, running[i])
	})
	w.judge()
	w.only(200, 503)
	addRow(t, "08a", "rolling restart of three receivers behind one address", fmt.Sprintf("%d restarts with SIGTERM under a storm of deliveries", n),
		"no delivery failed; %s", w.summary())
}

// SIGTERM during deliveries, without a load balancer: the receiver finishes deliveries in flight and exits with 0.
func TestTerminateInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{})
	addr := freeAddr()
	p := w.start(standard, w.url, addr)
	n := times(3, 60)
	w.deliverWhile(p.url(), n, within(20*time.Millisecond, 200*time.Millisecond), func(int) {
		p.terminate()
		p = w.start(standard, w.url, addr)
	})
	w.judge()
	w.only(200, 503)
	addRow(t, "08b", "SIGTERM in the middle of work", fmt.Sprintf("%d times under a storm of deliveries", n), "exit code 0 each time; %s", w.summary())
}
