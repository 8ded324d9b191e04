package webhooks

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// notifyBurst is how many notices of each kind are not spaced by Config.NotifyEvery.
const notifyBurst = 3

// Notice is what Config.OnFailure and Config.OnParked receive. It never has the payload.
type Notice struct {
	EventID   string
	EventType string
	ObjectID  string // the id of the event's object; empty: none
	Account   string // empty: the receiver's own, or not known
	Livemode  bool
	Created   time.Time // by Stripe; zero: not known
	// Receiver is Config.Name.
	Receiver string
	// Attempts is how often the event has failed or parked so far: 1 is the first time, and Stripe retries a failed event for three
	// days. 0: its record could not be written.
	Attempts int
	// Parked reports that a handler has parked the event: it waits for a person, and Stripe does not retry it.
	Parked bool
	// Err is the handler's error. Its text may have what your handlers put into it.
	Err error
	// TraceID is the trace of the attempt. Empty: it was not traced (Config.Tracer), or the trace is not exported.
	TraceID string
	// Suppressed is how many notices of the same kind were left out since the last one: see Config.NotifyEvery.
	Suppressed int
}

// notifier calls a function of the host's for failures, with a limited rate and concurrency. When it has left some out, it calls the
// function for the last of them as soon as the rate permits, so that a burst does not end in silence.
type notifier struct {
	call    func(ctx context.Context, n Notice)
	limiter *rate.Limiter
	every   time.Duration
	timeout time.Duration
	logger  *slog.Logger

	mu         sync.Mutex
	running    sync.WaitGroup
	calls      int
	suppressed int
	last       Notice // of those that were left out
	timer      *time.Timer
	closed     bool
}

// newNotifier returns nil for a nil function.
func newNotifier(call func(context.Context, Notice), config *Config) *notifier {
	if call == nil {
		return nil
	}
	return &notifier{call: call, limiter: rate.NewLimiter(rate.Every(config.NotifyEvery), notifyBurst), every: config.NotifyEvery, timeout: config.NotifyTimeout, logger: config.Logger}
}

// notify calls the function in another goroutine, now or later. A nil notifier does nothing.
func (n *notifier) notify(notice Notice) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.calls >= notifyBurst || !n.limiter.Allow() {
		n.suppressed++
		n.last = notice
		if n.timer == nil && !n.closed {
			n.flushAfter(n.limiter.Reserve().Delay())
		}
		return
	}
	n.start(notice)
}

// start calls the function in a goroutine. The lock is held.
func (n *notifier) start(notice Notice) {
	notice.Suppressed, n.suppressed = n.suppressed, 0
	n.calls++
	n.running.Add(1)
	go func() {
		defer n.running.Done()
		defer n.returned()
		ctx, cancel := context.WithTimeout(context.Background(), n.timeout)
		defer cancel()
		defer func() {
			if value := recover(); value != nil {
				n.logger.Error("panic in OnFailure or OnParked", "event_id", notice.EventID, "panic", value, "stack", string(debug.Stack()))
			}
		}()
		n.call(ctx, notice)
	}()
}

func (n *notifier) returned() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls--
}

// flushAfter reports the suppressed notices after a time, or later if calls do not return. The lock is held.
func (n *notifier) flushAfter(wait time.Duration) {
	n.timer = time.AfterFunc(wait, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.timer = nil
		switch {
		case n.closed:
		case n.calls >= notifyBurst:
			n.flushAfter(n.every)
		default:
			n.flush()
		}
	})
}

// flush calls the function for the last of the suppressed notices. The lock is held.
func (n *notifier) flush() {
	if n.suppressed > 0 {
		n.suppressed--
		n.start(n.last)
	}
}

// close reports the suppressed notices, and waits until all calls have returned or ctx ends. Later notices are dropped.
func (n *notifier) close(ctx context.Context) error {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		if n.timer != nil {
			n.timer.Stop()
		}
		n.flush()
	}
	n.mu.Unlock()
	done := make(chan struct{})
	go func() {
		n.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// noticeOf returns the notice of a failed event. It reads nothing that a handler that has been left behind may still change.
func (r *Receiver) noticeOf(ctx context.Context, d *delivery, err error, attempts int32) Notice {
	ev := d.effective
	trace := r.traceContext(ctx)
	if !trace.Sampled {
		trace = TraceContext{}
	}
	return Notice{
		EventID: ev.ID, EventType: ev.Type, ObjectID: d.source().subject(), Account: ev.Account, Livemode: ev.Livemode, Created: ev.Created,
		Receiver: r.config.Name, Attempts: int(attempts), Err: err, TraceID: trace.TraceID,
	}
}
