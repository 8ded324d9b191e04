package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// failing is a receiver whose handlers fail on the first one or two attempts of two events in five.
const failing = "stripeonce, with handlers that fail"

// ways are the ways in which a handler fails.
var ways = []string{"error", "panic", "sql", "raise", "swallowed"}

// unreadable is the way of events of customers: the object cannot be decoded.
const unreadable = "unreadable"

// failures decides which attempts fail, and counts them in the process.
type failures struct {
	logger *slog.Logger
	mu     sync.Mutex
	failed map[string]int // by event
}

// fail returns the way in which the attempt must fail, or "" if it must not.
func (f *failures) fail(eventID string, ways ...string) string {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(eventID))
	n := int(sum.Sum32() >> 8)
	f.mu.Lock()
	defer f.mu.Unlock()
	if n%5 > 1 || f.failed[eventID] > n/5%2 {
		return ""
	}
	f.failed[eventID]++
	way := ways[n/10%len(ways)]
	f.logger.Info(onPurpose, "event_id", eventID, "way", way)
	return way
}

// named has JSON strings that are sensitive to encoding and quoting: in several scripts, with characters beyond 16 bits,
// escaped and not, and with the syntax of SQL and of PostgreSQL's bytea.
var named = []string{
	`"Zoë Müller-Łukasz"`, `"山田太郎 (株) №5"`, `"\u0141ukasz \ud83d\udcb3 caf\u00e9"`, `"مرحبا 🎟️ עולם"`,
	`"O'Brien; -- \"$1\" $$ ? \\x41\\ E'\\'' "`, `"e\u0301 is not é; \t\u2028 \u007f"`,
}

func nameOf(i int) string {
	var text string
	if err := json.Unmarshal([]byte(named[i%len(named)]), &text); err != nil {
		panic(err)
	}
	return text
}

// registerFailing registers the same as registerStandard with an effect that fails, and a handler of customers whose object
// cannot always be decoded.
func registerFailing(h *webhooks.Handlers, logger *slog.Logger) {
	f := &failures{logger: logger, failed: map[string]int{}}
	subscriptions.Register(h, &subscriptions.Config{Logger: logger})
	webhooks.On(h, "*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *struct{}) error {
		if _, err := tx.Exec(ctx, judge.Effect, ev.ID); err != nil {
			return err
		}
		if ev.Type == customerUpdated {
			return nil // the decoder fails
		}
		return f.run(ctx, tx, ev.ID)
	})
	customers = f
	webhooks.On(h, customerUpdated, func(context.Context, pgx.Tx, *webhooks.Event, *customer) error { return nil })
}

// run fails after the effect, if the attempt must fail.
func (f *failures) run(ctx context.Context, tx pgx.Tx, eventID string) error {
	switch way := f.fail(eventID, ways...); way {
	case "":
		return nil
	case "error":
		return errors.New(`the customer "Zoë" has no plan: ` + nameOf(len(eventID)))
	case "panic":
		panic("the plan 山田 is nil 💳")
	case "sql":
		_, err := tx.Exec(ctx, `SELECT 1 / $1::int`, 0)
		return fmt.Errorf("the price of Zoë's plan: %w", err)
	case "raise":
		_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE EXCEPTION 'no „plan“ for O''Brien \ 💳'; END $$`)
		return err
	case "swallowed":
		_, _ = tx.Exec(ctx, `SELECT no_such_column`)
		return nil // the receiver must notice it
	default:
		panic("no such way: " + way)
	}
}

const customerUpdated = "customer.updated"

// customers decides which objects of customers cannot be decoded. It is global, since a decoder has only the object.
var customers *failures

// customer is the object type of a host's handler.
type customer struct {
	Name     string `json:"name"`
	Metadata struct {
		Event string `json:"event"`
	} `json:"metadata"`
}

// UnmarshalJSON fails with encoding/json's own error, as after a change of the struct.
func (c *customer) UnmarshalJSON(text []byte) error {
	type plain customer
	if err := json.Unmarshal(text, (*plain)(c)); err != nil {
		return err
	}
	if customers.fail(c.Metadata.Event, unreadable) != "" {
		return json.Unmarshal(text, &struct{ Name int }{})
	}
	return nil
}

// foreign creates events of subscriptions and customers whose payloads are not ASCII, and plans a storm of them.
func (w *world) foreign(n int) []stripesim.Delivery {
	w.t.Helper()
	storm := stripesim.Wild
	var events []*stripesim.Event
	w.sim.Do(func(account *stripesim.Account) {
		from := len(account.Events)
		for i := range n {
			sub := account.Subscribe(stripesim.VersionBasil)
			for _, change := range []func(){
				func() { sub.SetMetadata("name", nameOf(i)) }, sub.Activate,
				func() { sub.SetMetadata(nameOf(i+1), nameOf(i+2)) }, sub.Renew,
			} {
				account.Wait(time.Second)
				change()
			}
			for range 5 {
				account.Events = append(account.Events, newCustomer(len(account.Events), account.Now))
			}
		}
		events = account.Events[from:]
	})
	w.waves++
	return storm.Plan(w.waves, events)
}

func newCustomer(i int, created int64) *stripesim.Event {
	id, object := fmt.Sprintf("evt_1Customer%015d", i), fmt.Sprintf("cus_%014d", i)
	body := hooktest.Event(id, customerUpdated, created, fmt.Sprintf(
		`{"id": %q, "object": "customer", "name": %s, "balance": -1.50e2, "metadata": {"event": %q}}`, object, named[i%len(named)], id))
	return &stripesim.Event{ID: id, Type: customerUpdated, Created: created, ObjectID: object, SubscriptionID: object, Body: body}
}

// failedWays counts the failed attempts by way, from the logs.
func (w *world) failedWays() map[string]int {
	w.t.Helper()
	count := map[string]int{}
	w.eachLine(func(line string) {
		if _, way, found := strings.Cut(line, " way="); found && strings.Contains(line, onPurpose) {
			count[way]++
		}
	})
	return count
}

// Handlers fail in each of pgx's exec modes, two of which are for poolers without prepared statements. Each failure is
// recorded with its payload, and finally each event takes effect once.
func TestFailingHandlers(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pglocal.Config{})
			w.letHandlersFail(w.url, mode)
			addRow(t, "10a"+mode, "handlers that fail, URL with `default_query_exec_mode="+mode+"`", w.howFailed(), "%s", w.summary())
		})
	}
	for _, mode := range []string{"exec", "simple_protocol"} {
		t.Run("PgBouncer "+mode, func(t *testing.T) {
			t.Parallel()
			onlyLong(t)
			w := newWorld(t, pglocal.Config{})
			w.letHandlersFail(w.pgBouncer("transaction"), mode)
			addRow(t, "10b"+mode, "handlers that fail, behind PgBouncer in `pool_mode=transaction`, URL with `default_query_exec_mode="+mode+"`",
				w.howFailed(), "%s", w.summary())
		})
	}
}

func (w *world) letHandlersFail(url, mode string) {
	w.t.Helper()
	p := w.start(failing, url+"&default_query_exec_mode="+mode, "127.0.0.1:0")
	for range times(1, 10) {
		w.deliver(p.url(), 12, w.foreign(times(10, 30)))
	}
	p.terminate()
	w.judge()
	w.only(200, 500, 503)
	failed := w.failedWays()
	for _, way := range append([]string{unreadable}, ways...) {
		if failed[way] == 0 {
			w.t.Errorf("no handler failed in the way %q", way)
		}
	}
}

// howFailed describes the faults for the table.
func (w *world) howFailed() string {
	total := 0
	for _, n := range w.failedWays() {
		total += n
	}
	return fmt.Sprintf("a storm of deliveries with text in many scripts; two events in five fail once or twice: "+
		"%d attempts by an error, a panic, an SQL error (raised, or not returned), or an object that cannot be decoded", total)
}
