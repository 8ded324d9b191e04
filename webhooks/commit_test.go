package webhooks_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/projection"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/webhooks"
)

// newCluster is a migrated database in a cluster that no other test disturbs.
func newCluster(t *testing.T, config pglocal.Config) (databaseURL string) {
	t.Helper()
	databaseURL = pgtest.NewCluster(t, config).URL("postgres")
	if err := migrate.Up(t.Context(), databaseURL, io.Discard); err != nil {
		t.Fatal(err)
	}
	return databaseURL
}

// A COMMIT that waits for a synchronous standby is given up after CommitTimeout, without a cancel
// request: a cancelled wait would leave it visible here and absent on the standby, and the retry would
// be told that all is well.
func TestCommitIsNotCancelled(t *testing.T) {
	t.Parallel()
	admin := pgtest.Connect(t, newCluster(t, pglocal.Config{}))
	ctx := context.Background()
	host := hooktest.On(t, admin, webhooks.NewHandlers(), func(c *webhooks.Config) {
		c.CommitTimeout = time.Second
		c.AssumeMigrated = true
	})
	reload := func(names string) {
		pgtest.Exec(t, admin, `ALTER SYSTEM SET synchronous_standby_names = '`+names+`'`)
		pgtest.Exec(t, admin, `SELECT pg_reload_conf()`)
	}
	waiting := func() bool {
		return pgtest.Scan[bool](t, admin, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')`)
	}
	reload("a_standby_that_is_not_there")
	for i, began := 0, time.Now(); !waiting(); i++ {
		if time.Since(began) > pgtest.WaitLimit {
			t.Fatalf("after %d deliveries in %v no COMMIT waits for its standby", i, pgtest.WaitLimit)
		}
		body := hooktest.Event(fmt.Sprintf("evt_%d", i), "test.event", 1, `{}`)
		reply, err := host.Sender.Send(ctx, body)
		if err != nil {
			t.Fatal(err)
		}
		// Until the server has read its new setting, commits still succeed.
		if reply.Status != 503 && reply.Status != 200 {
			t.Fatalf("the reply is %s", reply)
		}
	}
	// The request has been answered and the socket given up; had a cancel request gone out, the wait
	// would be over. The visible rows are those of commits that were acknowledged, and no other.
	acknowledged := host.Receiver.Stats().Deliveries["ignored"].Count
	if n := host.Count(t, "stripe_webhook_events"); n != int(acknowledged) {
		t.Errorf("%d events are visible, %d were acknowledged", n, acknowledged)
	}
	if !waiting() {
		t.Error("the COMMIT no longer waits for its standby")
	}
	reload("")
	pgtest.Await(t, "no COMMIT waits for a standby any more", func() bool { return !waiting() })
	if n := host.Count(t, "stripe_webhook_events"); n != int(acknowledged)+1 {
		t.Errorf("%d events are visible in the end, %d were acknowledged", n, acknowledged)
	}
}

// severable is a way to PostgreSQL whose connections can be broken under the client, and that counts them.
type severable struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (s *severable) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, conn)
	return conn, err
}

func (s *severable) sever() (dialled int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	return len(s.conns)
}

// Nor does a connection that breaks while COMMIT waits have the wait cancelled.
func TestBrokenCommitIsNotCancelled(t *testing.T) {
	t.Parallel()
	url := newCluster(t, pglocal.Config{})
	admin, way := pgtest.Connect(t, url), &severable{}
	host := hooktest.On(t, pgtest.ConnectBy(t, url+"&pool_max_conns=1", way.dial), webhooks.NewHandlers(), func(c *webhooks.Config) {
		c.CommitTimeout = time.Minute
	})
	host.Expect(t, hooktest.Event("evt_0", "test.event", 1, `{}`), 200, webhooks.OutcomeIgnored)
	pgtest.Exec(t, admin, `ALTER SYSTEM SET synchronous_standby_names = 'a_standby_that_is_not_there'`)
	pgtest.Exec(t, admin, `SELECT pg_reload_conf()`)
	waiting := func() bool {
		return pgtest.Scan[bool](t, admin, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')`)
	}
	replied := make(chan int, 1)
	go func() {
		for i := 1; ; i++ { // until the server has read its new setting, commits still succeed
			reply, err := host.Sender.Send(context.Background(), hooktest.Event(fmt.Sprintf("evt_%d", i), "test.event", 1, `{}`))
			if err != nil || reply.Status != 200 {
				replied <- reply.Status
				return
			}
		}
	}()
	pgtest.Await(t, "a COMMIT waits for its standby", waiting)
	before := way.sever()
	if status := pgtest.Receive(t, "the reply to the delivery whose connection broke", replied); status != 503 {
		t.Errorf("the status is %d", status)
	}
	for range 200 {
		if !waiting() {
			t.Fatal("the COMMIT no longer waits for its standby")
		}
	}
	if after := way.sever(); after != before {
		t.Errorf("%d connections were opened to cancel it", after-before)
	}
	pgtest.Exec(t, admin, `ALTER SYSTEM RESET synchronous_standby_names`)
	pgtest.Exec(t, admin, `SELECT pg_reload_conf()`)
}

// A statement's arguments are its own: it may use them again, for another try or another event.
func TestArgumentsAreKept(t *testing.T) {
	t.Parallel()
	name := "x"
	arguments := []any{&name, json.RawMessage(`{"a": 1}`)}
	h := webhooks.NewHandlers()
	project(h, "test.event", true, func(*webhooks.Event) projection.Plan {
		return projection.Plan{Apply: func(_ context.Context, _ pgx.Tx, writes *pgpipe.Writes) (bool, error) {
			writes.Add(func(ctx context.Context, db pgpipe.DBTX) error {
				_, err := db.Exec(ctx, `INSERT INTO kept VALUES ($1, $2)`, arguments...)
				return err
			})
			return true, nil
		}}
	})
	host := hooktest.New(t, h, nil)
	pgtest.Exec(t, host.Pool, `CREATE TABLE kept (name text NOT NULL, object jsonb NOT NULL)`)
	for _, id := range []string{"evt_1", "evt_2"} {
		host.Expect(t, hooktest.Event(id, "test.event", 1, `{}`), 200, webhooks.OutcomeProcessed)
	}
	const want = `x {"a": 1}, x {"a": 1}`
	if got := pgtest.Scan[string](t, host.Pool, `SELECT string_agg(name || ' ' || object::text, ', ') FROM kept`); got != want {
		t.Errorf("stored is %s, want %s", got, want)
	}
}
