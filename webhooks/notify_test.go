package webhooks_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// notices collects what a notifier is called with.
type notices struct {
	mu   sync.Mutex
	list []webhooks.Notice
}

func (n *notices) add(_ context.Context, notice webhooks.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, notice)
}

func (n *notices) count() int { return len(n.all()) }

func (n *notices) all() []webhooks.Notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]webhooks.Notice{}, n.list...)
}

func failingEvent(id int) []byte {
	return hooktest.Event(fmt.Sprintf("evt_%d", id), "test.event", 1700000000, `{"id":"obj_1"}`)
}

// OnFailure is called with the failure, once its record is there, for each attempt; not for a 503.
func TestOnFailure(t *testing.T) {
	t.Parallel()
	var got notices
	var host *hooktest.Host
	recorded := make(chan int, 10)
	host = newCounter(t, counting(func(context.Context, pgx.Tx) error { return errOfATest }), func(c *webhooks.Config) {
		c.Name = "billing"
		c.OnFailure = func(ctx context.Context, n webhooks.Notice) {
			got.add(ctx, n)
			recorded <- host.Count(t, "stripe_webhook_failures")
		}
	})
	for range 2 {
		host.Expect(t, failingEvent(1), 500, "")
	}
	for range 2 {
		if n := pgtest.Receive(t, "OnFailure is called", recorded); n != 1 {
			t.Errorf("OnFailure finds %d records", n)
		}
	}
	attempts := 0
	for _, n := range got.all() {
		attempts += n.Attempts
		if n.EventID != "evt_1" || n.EventType != "test.event" || n.ObjectID != "obj_1" || n.Receiver != "billing" || n.Created.Unix() != 1700000000 || n.Suppressed != 0 || !errors.Is(n.Err, errOfATest) {
			t.Errorf("the notice is %+v", n)
		}
	}
	if attempts != 3 { // 1 and 2
		t.Errorf("the attempts add up to %d", attempts)
	}
	pgtest.Exec(t, host.Pool, `ALTER TABLE stripe_webhook_events RENAME TO elsewhere`)
	host.Expect(t, failingEvent(2), 503, "")
	if err := host.Shutdown(); err != nil || got.count() != 2 {
		t.Errorf("after a 503 there are %d notices, %v", got.count(), err)
	}
}

// An event that parks calls OnParked, one whose record cannot be written OnFailure without a number of attempts.
func TestOnParked(t *testing.T) {
	t.Parallel()
	var parked, failed notices
	parks := true
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error {
		if parks {
			return webhooks.Park(errOfATest)
		}
		return errOfATest
	}), func(c *webhooks.Config) { c.OnParked, c.OnFailure = parked.add, failed.add })
	host.Expect(t, failingEvent(1), 200, webhooks.OutcomeParked)
	host.Expect(t, failingEvent(1), 200, webhooks.OutcomeDuplicate)
	parks = false
	pgtest.Exec(t, host.Pool, `ALTER TABLE stripe_webhook_failures ADD CONSTRAINT never CHECK (attempts < 0) NOT VALID`)
	host.Expect(t, failingEvent(2), 500, "")
	if err := host.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if list := parked.all(); len(list) != 1 || list[0].EventID != "evt_1" || list[0].Attempts != 1 || !list[0].Parked || !errors.Is(list[0].Err, errOfATest) {
		t.Errorf("the parked ones are %+v", list)
	}
	if list := failed.all(); len(list) != 1 || list[0].EventID != "evt_2" || list[0].Attempts != 0 || list[0].Parked {
		t.Errorf("the failed ones are %+v", list)
	}
}

// Three notices may come at once. The others are counted, and the last of them is reported: when the rate permits, or at Shutdown.
func TestNoticesAreSpaced(t *testing.T) {
	t.Parallel()
	for name, every := range map[string]time.Duration{"by Shutdown": time.Hour, "by itself": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got notices
			host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return errOfATest }), func(c *webhooks.Config) {
				c.NotifyEvery, c.OnFailure = every, got.add
			})
			const events = 10
			for i := range events {
				host.Expect(t, failingEvent(i), 500, "")
			}
			if every == time.Hour {
				if n := got.count(); n > 3 {
					t.Errorf("%d notices came at once", n)
				}
				if err := host.Shutdown(); err != nil {
					t.Fatal(err)
				}
			}
			told := func() (sum int) {
				for _, n := range got.all() {
					sum += 1 + n.Suppressed
				}
				return sum
			}
			pgtest.AwaitEqual(t, "the number of failures that notices tell of", events, told)
			list := got.all()
			if last := list[len(list)-1]; last.EventID != "evt_9" || every == time.Hour && (len(list) != 4 || last.Suppressed != 6) {
				t.Errorf("of %d the last is %+v", len(list), last)
			}
		})
	}
}

// A function that panics, or never returns, holds nothing up.
func TestNoticesThatFail(t *testing.T) {
	t.Parallel()
	logs := &logged{}
	release := make(chan struct{})
	var calls notices
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return errOfATest }), func(c *webhooks.Config) {
		logs.config(c)
		c.NotifyEvery, c.NotifyTimeout = time.Nanosecond, time.Millisecond
		c.OnFailure = func(ctx context.Context, n webhooks.Notice) {
			calls.add(ctx, n)
			if n.EventID == "evt_0" {
				panic("of a test")
			}
			<-ctx.Done()
			<-release
		}
	})
	for i := range 10 {
		host.Expect(t, failingEvent(i), 500, "")
		if i == 0 {
			pgtest.AwaitEqual(t, "the number of calls", 1, calls.count)
		}
	}
	if n := calls.count(); n > 4 {
		t.Errorf("%d calls run at once", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := host.Receiver.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown does not wait: %v", err)
	}
	close(release)
	if err := host.Shutdown(); err != nil {
		t.Error(err)
	}
	logs.want(t, "panic in OnFailure or OnParked", "of a test")
}
