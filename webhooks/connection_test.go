package webhooks_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/projection"
	"github.com/pook/stripeonce/webhooks"
)

// clock is a way to PostgreSQL on which time can pass at once: a connection's deadline then counts as reached.
type clock struct {
	mu    sync.Mutex
	conns []*timed
}

type timed struct {
	net.Conn
	mu       sync.Mutex
	deadline time.Time
	set      int // how often
}

func (c *clock) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	one := &timed{Conn: conn}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, one)
	return one, nil
}

func (t *timed) SetDeadline(deadline time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deadline = deadline
	t.set++
	return t.Conn.SetDeadline(deadline)
}

// pass has time pass until every deadline is reached, and returns how often one has been set.
func (c *clock) pass() (set int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.conns {
		one.mu.Lock()
		if !one.deadline.IsZero() {
			_ = one.Conn.SetDeadline(time.Unix(1, 0))
		}
		set += one.set
		one.mu.Unlock()
	}
	return set
}

// COMMIT has a deadline on its connection. None is left when the connection goes back to the pool: the next to use
// it, however much writes, gets an answer.
func TestConnectionKeepsNoDeadline(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]string{"prepared": "", "simple protocol": "&default_query_exec_mode=simple_protocol"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			way := &clock{}
			pool := pgtest.ConnectBy(t, pgtest.NewURL(t)+"&pool_max_conns=1"+mode, way.dial)
			host := hooktest.On(t, pool, counting(succeed), nil)
			pgtest.Exec(t, pool, `CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)`)
			set := way.pass()
			later := func(after string) {
				t.Helper()
				before := set
				if set = way.pass(); set == before {
					t.Fatalf("%s sets no deadline", after)
				}
				expectCounter(t, host, 1)
			}
			host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
			later("the COMMIT of an event")
			host.Expect(t, hooktest.Event("evt_2", "other.event", 1, `{}`), 200, webhooks.OutcomeIgnored)
			later("the COMMIT of an event that nothing handles")
			if err := host.Receiver.InTx(t.Context(), "import", exec(`SELECT 1`)); err != nil {
				t.Fatal(err)
			}
			later("the COMMIT of a transaction without an event")
			if n := pool.Stat().NewConnsCount(); n != 1 {
				t.Errorf("the pool opened %d connections, want 1", n)
			}
		})
	}
}

// failing is a way to PostgreSQL that reports an error for one message, all of which it has sent.
type failing struct{ on atomic.Pointer[string] }

var errOfTheNetwork = errors.New("the network reports an error")

func (f *failing) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &failingConn{conn, f}, err
}

type failingConn struct {
	net.Conn
	by *failing
}

func (c *failingConn) Write(message []byte) (int, error) {
	n, err := c.Conn.Write(message)
	if text := c.by.on.Load(); text != nil && bytes.Contains(message, []byte(*text)) && c.by.on.CompareAndSwap(text, nil) {
		return n, errOfTheNetwork
	}
	return n, err
}

// A COMMIT that could not be written without an error is not taken for one that succeeded, even if an answer comes:
// the log has the cause, and the connection is given up. The next delivery finds out what happened.
func TestWriteOfCommitFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ mode, text string }{
		"prepared":        {"", "evt_2"}, // the message with COMMIT is the first that has the event's id and its effect
		"simple protocol": {"&default_query_exec_mode=simple_protocol", "COMMIT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			way, log := &failing{}, &lockedBuffer{}
			pool := pgtest.ConnectBy(t, pgtest.NewURL(t)+"&pool_max_conns=1"+c.mode, way.dial)
			h := webhooks.NewHandlers()
			webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
				way.on.Store(&c.text) // what is written from now on
				return exec(addOne)(ctx, tx)
			})
			host := hooktest.On(t, pool, h, func(c *webhooks.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
			pgtest.Exec(t, pool, `CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)`)
			isReady(t, host)
			body := hooktest.Event("evt_2", "test.event", 1, `{}`)
			before := pool.Stat().NewConnsCount()
			host.Expect(t, body, 503, "")
			if way.on.Load() != nil {
				t.Fatal("no write failed")
			}
			if text := log.String(); !strings.Contains(text, errOfTheNetwork.Error()) {
				t.Errorf("the log lacks %q:\n%s", errOfTheNetwork, text)
			}
			host.Expect(t, body, 200, webhooks.OutcomeDuplicate)
			expectCounter(t, host, 1)
			if opened := pool.Stat().NewConnsCount() - before; opened != 1 {
				t.Errorf("%d connections were opened, want one in place of the one whose write failed", opened)
			}
		})
	}
}

// A connection whose statements were prepared before a table was changed is given up: the next delivery at the latest is
// applied, over a new connection. That is so for statements before COMMIT and for those that are sent with it.
func TestConnectionWithStalePlans(t *testing.T) {
	t.Parallel()
	projecting := webhooks.NewHandlers()
	project(projecting, "test.event", true, func(*webhooks.Event) projection.Plan {
		return projection.Plan{Apply: func(_ context.Context, _ pgx.Tx, writes *pgpipe.Writes) (bool, error) {
			writes.Add(func(ctx context.Context, db pgpipe.DBTX) error {
				return db.QueryRow(ctx, addOne+` RETURNING n`).Scan(new(int))
			})
			return true, nil
		}}
	})
	for name, c := range map[string]struct {
		handlers *webhooks.Handlers
		change   string
	}{
		"before COMMIT": {counting(succeed), `ALTER TABLE stripe_webhook_events ALTER outcome TYPE text`},
		"with COMMIT":   {projecting, `ALTER TABLE counter ALTER n TYPE bigint`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, log := pgtest.NewURL(t), &lockedBuffer{}
			host := hooktest.On(t, pgtest.Connect(t, url+"&pool_max_conns=1"), c.handlers, func(c *webhooks.Config) {
				c.Logger = slog.New(slog.NewTextHandler(log, nil))
			})
			pgtest.Exec(t, host.Pool, `CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)`)
			host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
			pgtest.Exec(t, pgtest.Connect(t, url), c.change)
			body := hooktest.Event("evt_2", "test.event", 1, `{}`)
			if reply := host.Send(t, body); reply.Status == 503 {
				if text := log.String(); !strings.Contains(text, "cached plan must not change result type") {
					t.Errorf("the log does not say why:\n%s", text)
				}
				host.Expect(t, body, 200, webhooks.OutcomeProcessed)
			} else if reply.Outcome() != webhooks.OutcomeProcessed { // by a second attempt
				t.Errorf("the reply is %s", reply)
			}
			if n := host.Count(t, "stripe_webhook_failures"); n != 0 {
				t.Errorf("there are %d failures", n)
			}
			expectCounter(t, host, 2)
			if n := host.Pool.Stat().NewConnsCount(); n != 2 {
				t.Errorf("%d connections were opened, want a second one in place of the first", n)
			}
		})
	}
}
