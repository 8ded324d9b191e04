package operations_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// closedURL is a URL at which nothing listens.
func closedURL(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "http://" + listener.Addr().String() + "/webhooks/stripe"
}

// unknownHost is a URL whose host the resolver does not know.
func unknownHost(t *testing.T) (string, *atomic.Int32) {
	t.Helper()
	var lookup *net.DNSError
	if _, err := net.DefaultResolver.LookupHost(t.Context(), "nowhere.invalid"); !errors.As(err, &lookup) || !lookup.IsNotFound {
		t.Skipf("this machine's resolver does not say that a host is unknown: %v", err)
	}
	return "http://nowhere.invalid/", nil
}

// answering is a server that answers everything alike, and counts the requests.
func answering(t *testing.T, status int, body string) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		if status == http.StatusFound {
			w.Header().Set("Location", "https://example.com/login")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

// Reconcile and the replays stop at a receiver that cannot apply any event, say what to do and how many events are left, and take no
// longer than an attempt, or a short retry where the connection is refused.
func TestStopsAtTheReceiver(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	b.broken.Store(true)
	var ids []string
	for _, ev := range b.account.Events[:6] {
		b.Expect(t, ev.Body, 500, "")
		ids = append(ids, ev.ID)
	}
	pgtest.Exec(t, b.Pool, `UPDATE stripe_webhook_failures SET next_retry_at = NULL`)
	listed := len(b.account.Events)
	tls := httptest.NewUnstartedServer(b.Receiver)
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	t.Cleanup(tls.Close)
	for name, c := range map[string]struct {
		answer   func(*testing.T) (url string, requests *atomic.Int32)
		secret   string
		want     string
		requests int32
	}{
		"refused": {func(t *testing.T) (string, *atomic.Int32) { return closedURL(t), nil }, hooktest.Secret,
			"no receiver answers at http://127.0.0.1:", 0},
		"another secret": {func(*testing.T) (string, *atomic.Int32) { return b.URL, nil }, "whsec_of_another",
			"rejects the signature: it answers 400", 0},
		"no such route": {func(t *testing.T) (string, *atomic.Int32) { return answering(t, 404, "not found") }, hooktest.Secret,
			"answers 404 not found: is it the URL of the route (--to)?", 1},
		"another method": {func(t *testing.T) (string, *atomic.Int32) { return answering(t, 405, "") }, hooktest.Secret, "answers 405", 1},
		"a login page": {func(t *testing.T) (string, *atomic.Int32) { return answering(t, 302, "") }, hooktest.Secret,
			"does not come from a receiver: http://127.0.0.1:", 1},
		"another site": {func(t *testing.T) (string, *atomic.Int32) { return answering(t, 200, "<html>") }, hooktest.Secret, "answers 200 <html>", 1},
		"a proxy that refuses": {func(t *testing.T) (string, *atomic.Int32) {
			return answering(t, 400, `{"message":"missing csrf token"}`)
		}, hooktest.Secret,
			"does not come from a receiver", 1},
		"no certificate": {func(*testing.T) (string, *atomic.Int32) { return tls.URL, nil }, hooktest.Secret, "no TLS connection to https://127.0.0.1:", 0},
		"no host": {unknownHost, hooktest.Secret,
			"the host of http://nowhere.invalid/ is not known", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, requests := c.answer(t)
			o := b.operator(operations.NewRemote(url, c.secret), time.Minute)
			var failed []string
			note := func(a operations.EventResult) {
				if !errors.Is(a.Err, operations.ErrReceiver) {
					t.Errorf("an event's result is %+v", a)
				}
				failed = append(failed, a.EventID)
			}
			began := time.Now()
			for run, stops := range map[string]struct {
				err  func() error
				left int
			}{
				"ReplayAll":    {func() error { return o.ReplayAll(t.Context(), operations.ReplayFilter{}, note) }, 6},
				"ReplayEvents": {func() error { return o.ReplayEvents(t.Context(), ids, "", note) }, 6},
				"Reconcile": {func() error {
					sum, err := o.Reconcile(t.Context(), operations.ReconcileOptions{Since: 72 * time.Hour, Each: func(m operations.MissingEvent) { note(m.EventResult) }})
					if want := (operations.ReconcileResult{Listed: listed, Missing: listed, Failed: 1}); sum != want {
						t.Errorf("it is %+v, want %+v", sum, want)
					}
					return err
				}, listed},
			} {
				failed = nil
				if requests != nil {
					requests.Store(0)
				}
				err := stops.err()
				if !errors.Is(err, operations.ErrReceiver) || !strings.Contains(fmt.Sprint(err), c.want) || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("(stopped: %d events are left)", stops.left)) {
					t.Errorf("%s returns %v, want %q and %d left", run, err, c.want, stops.left)
				}
				if len(failed) != 1 || requests != nil && requests.Load() != c.requests {
					t.Errorf("%s tries %q, with %v requests", run, failed, requests)
				}
			}
			if took := time.Since(began); took > 30*time.Second { // three runs; each event took 3.75 s before
				t.Errorf("it takes %s", took)
			}
		})
	}
}

// A receiver that is unavailable for a while does not stop a run, nor does an event's own failure. A receiver that stays unavailable does.
func TestStopsWhereUnavailable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status, times int // of the answers before the receiver's own
		body          string
		requests      int32
	}{
		"for a while":            {503, 4, `{"error":"shutting down"}`, 0},
		"behind a proxy":         {502, 3, "<html>", 0},
		"too many requests":      {429, 2, "slow down", 0},
		"forever":                {503, 1000, `{"error":"the database is not migrated"}`, 5},
		"forever behind a proxy": {502, 1000, "<html>", 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 3)
			all := len(b.account.Events)
			pgtest.Exec(t, b.Pool, `ALTER TABLE effects ADD CHECK (event_id <> '`+b.account.Events[2].ID+`')`)
			var requests atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if int(requests.Add(1)) <= c.times {
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, c.body)
					return
				}
				b.Receiver.ServeHTTP(w, req)
			}))
			t.Cleanup(server.Close)
			o := b.operator(operations.NewRemote(server.URL, hooktest.Secret), time.Minute)
			sum, err := o.Reconcile(t.Context(), operations.ReconcileOptions{Since: 72 * time.Hour})
			if c.requests == 0 {
				if want := (operations.ReconcileResult{Listed: all, Missing: all, Applied: all - 1, Failed: 1}); err != nil || sum != want {
					t.Errorf("it is %+v, %v, want %+v", sum, err, want)
				}
				return
			}
			if !errors.Is(err, operations.ErrReceiver) || !strings.Contains(err.Error(), "the receiver stays unavailable") || !strings.Contains(err.Error(), c.body) ||
				!strings.Contains(err.Error(), fmt.Sprintf("(stopped: %d events are left)", all)) {
				t.Errorf("it returns %v", err)
			}
			if want := (operations.ReconcileResult{Listed: all, Missing: all, Failed: 1}); sum != want || requests.Load() != c.requests {
				t.Errorf("it is %+v after %d requests, want %+v after %d", sum, requests.Load(), want, c.requests)
			}
		})
	}
}

// A receiver that accepts the connection and never answers is waited for, which a warning says after a while. What a run had found when it
// was interrupted there counts as missing.
func TestReceiverNeverAnswers(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		<-req.Context().Done()
	}))
	t.Cleanup(server.Close)
	logged := make(logLines, 10)
	o := operations.New(b.Pool, &operations.Config{
		Applier: operations.NewRemote(server.URL, hooktest.Secret), APIKey: "sk_test_1", APIBase: b.apiURL, Logger: slog.New(slog.NewTextHandler(logged, nil)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		if line := pgtest.Receive(t, "a warning", logged); !strings.Contains(line, `msg="waiting for the receiver's response"`) || !strings.Contains(line, "attempt=1 attempts=5") {
			t.Errorf("it logs %s", line)
		}
		cancel()
	}()
	all := len(b.account.Events)
	sum, err := o.Reconcile(ctx, operations.ReconcileOptions{Since: 72 * time.Hour})
	if want := (operations.ReconcileResult{Listed: all, Missing: all}); !errors.Is(err, context.Canceled) || sum != want {
		t.Errorf("it is %+v, %v, want %+v", sum, err, want)
	}
}

// logLines gets the lines of a log.
type logLines chan string

func (l logLines) Write(line []byte) (int, error) {
	select {
	case l <- string(line):
	default:
	}
	return len(line), nil
}

// objectless is an applier that is unavailable for some thin events, as a receiver is that cannot fetch their object.
type objectless struct {
	*hooktest.Host
	lacks   map[string]bool
	records bool // that leaves a failure record, as where the API key may not read the object
	tried   atomic.Int32
}

func (o *objectless) Apply(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	if !o.lacks[ev.ID] {
		return o.Receiver.Apply(ctx, ev)
	}
	o.tried.Add(1)
	if o.records {
		_, err := o.Pool.Exec(ctx, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error) VALUES ($1, 'x', 'x')
			ON CONFLICT (event_id) DO UPDATE SET attempts = stripe_webhook_failures.attempts + 1`, ev.SnapshotEventID())
		if err != nil {
			return webhooks.Result{}, err
		}
	}
	return webhooks.Result{}, fmt.Errorf("%w: fetch its object", webhooks.ErrUnavailable)
}

// A thin event whose object cannot be fetched stops no run, unless the next event cannot be applied either. Where its failure is
// recorded, it is its own.
func TestGoesOnAfterAThinEvent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lacks   []int // which events
		records bool
		applied int
		stops   bool
	}{
		"one":                        {[]int{1}, false, 5, false},
		"two apart":                  {[]int{1, 3}, false, 4, false},
		"two in a row":               {[]int{1, 2}, false, 1, true},
		"two in a row, with records": {[]int{1, 2}, true, 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 6)
			b.api.AddDestination(stripesim.Destination{ID: "ed_1", Payload: "thin", Status: "enabled", Types: []string{"v1.customer.subscription.created"}})
			applier := &objectless{Host: b.Host, lacks: map[string]bool{}, records: c.records}
			for i, n := 0, 0; i < len(b.account.Events); i++ {
				if ev := b.account.Events[i]; ev.Type == "customer.subscription.created" {
					for _, lacking := range c.lacks {
						applier.lacks[ev.ThinID()] = applier.lacks[ev.ThinID()] || n == lacking
					}
					n++
				}
			}
			o := b.operator(applier, time.Minute)
			sum, err := o.Reconcile(t.Context(), operations.ReconcileOptions{Since: 72 * time.Hour, Types: []string{"customer.subscription.created"}})
			want := operations.ReconcileResult{Listed: 6, Missing: 6, Applied: c.applied, Failed: len(c.lacks)}
			if errors.Is(err, operations.ErrReceiver) != c.stops || err != nil && !c.stops || sum != want || int(applier.tried.Load()) != 5*len(c.lacks) {
				t.Errorf("it is %+v, %v, after %d attempts, want %+v", sum, err, applier.tried.Load(), want)
			}
		})
	}
}

// starting is an applier whose receiver refuses the first connections.
type starting struct {
	operations.Applier
	refusing *operations.Remote
	refuses  int
	tried    int
}

func (s *starting) Apply(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	if s.tried++; s.tried <= s.refuses {
		return s.refusing.Apply(ctx, ev)
	}
	return s.Applier.Apply(ctx, ev)
}

// A refused connection is retried once: the receiver may be restarting.
func TestRefusedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	for refuses, tried := range map[int]int{1: 2, 2: 2} {
		s := &starting{Applier: b.Receiver, refusing: operations.NewRemote(closedURL(t), hooktest.Secret), refuses: refuses}
		a := b.operator(s, time.Minute).Replay(t.Context(), b.account.Events[refuses-1].ID, "")
		if s.tried != tried || errors.Is(a.Err, operations.ErrReceiver) != (refuses == 2) || a.Err == nil && a.Outcome != webhooks.OutcomeProcessed {
			t.Errorf("refused %d times it is %+v after %d attempts", refuses, a, s.tried)
		}
	}
}
