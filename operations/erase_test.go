package operations_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/entitlements"
	"github.com/pook/stripeonce/internal/erasure"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

func init() { erasure.Lease = 300 * time.Millisecond }

// erasable is a receiver that keeps everything, and an account with a customer who is to be erased among others.
type erasable struct {
	*hooktest.Host
	account  *stripesim.Account
	api      *stripesim.API
	apiURL   string
	customer *stripesim.Customer
	mirror   *mirror.Projection
	subs     *subscriptions.Projection
	broken   atomic.Bool  // the handler of events about charges fails
	changes  atomic.Int64 // calls of OnChange for the customer
	hold     func()       // is called by OnChange for the customer; nil: nothing is
}

func newErasable(t *testing.T, subscribers int) *erasable {
	t.Helper()
	e := &erasable{account: stripesim.New(7, time.Now().Add(-400*24*time.Hour))}
	e.account.Billing = true
	e.account.AddFeature("exports", "Exports")
	e.account.Live(stripesim.Life{Subscriptions: subscribers, Bursts: true})
	e.account.Now = time.Now().Add(-5 * 24 * time.Hour).Unix()
	e.customer = e.account.AddCustomer(stripesim.VersionBasil)
	e.live()
	e.api = stripesim.NewAPI(e.account)
	server := httptest.NewServer(e.api)
	t.Cleanup(server.Close)
	e.apiURL = server.URL
	e.Host = e.receiver(t, pgtest.NewPool(t))
	return e
}

// live has the customer do what leaves personal data in every table.
func (e *erasable) live() {
	c, a := e.customer, e.account
	c.SetName("Wilhelmina Übermut", "wilhelmina@uebermut.example")
	c.SetMetadata("nickname", "Minna of the Mill")
	c.SetAddress(stripesim.Address{Line1: "Mühlenweg 4711", City: "Hintertupfingen", PostalCode: "99999", Country: "DE"})
	c.SetPaymentMethod()
	detached := c.AttachPaymentMethod()
	detached.SetName("Wilhelmina of the detached card")
	s := c.Subscribe()
	for range 3 {
		a.Wait(time.Minute)
		s.Activate()
		s.SetMetadata("seat", "next to Wilhelmina")
		a.Wait(time.Minute)
		s.Renew()
	}
	detached.Detach()
	intent := c.AddPaymentIntent(4200, false)
	intent.Succeed()
	a.Wait(time.Minute)
	intent.Charge().SetDescription("a dress for Wilhelmina")
	refund := intent.Charge().Refund(1000)
	refund.SetMetadata("why", "Wilhelmina did not like the color")
	dispute := intent.Charge().Dispute("fraudulent")
	dispute.SaveEvidence("Wilhelmina's signature")
	session := c.AddCheckoutSession("payment")
	session.Complete()
	a.Wait(time.Minute)
}

// receiver returns a receiver of its own, as of another process.
func (e *erasable) receiver(t *testing.T, pool *pgxpool.Pool) *hooktest.Host {
	t.Helper()
	h := webhooks.NewHandlers()
	e.subs = subscriptions.Register(h, &subscriptions.Config{Logger: hooktest.NoLog(), OnChange: func(_ context.Context, _ pgx.Tx, c subscriptions.Change) error {
		e.count(c.After.CustomerID)
		return nil
	}})
	types := slices.DeleteFunc(slices.Clone(mirror.All), func(object string) bool { return object == "invoice" || object == mirror.Entitlements[0] })
	mirror.Register(h, &mirror.Config{Types: types, Logger: hooktest.NoLog()})
	e.mirror = mirror.Register(h, &mirror.Config{Types: []string{"invoice"}, Logger: hooktest.NoLog(), OnChange: func(_ context.Context, _ pgx.Tx, c mirror.Change) error {
		e.count(c.After.CustomerID)
		return nil
	}})
	entitlements.Register(h, &entitlements.Config{Logger: hooktest.NoLog()})
	webhooks.On(h, "charge.updated", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, obj *map[string]any) error {
		if e.broken.Load() && ev.CustomerID() == e.customer.ID() {
			return fmt.Errorf("no account for %s: %v", ev.CustomerID(), (*obj)["description"])
		}
		return nil
	})
	return hooktest.On(t, pool, h, func(c *webhooks.Config) {
		c.APIKey, c.APIBase, c.KeepPayloads = "sk_test_1", e.apiURL, true
	})
}

func (e *erasable) count(customer string) {
	if customer != e.customer.ID() {
		return
	}
	e.changes.Add(1)
	if e.hold != nil {
		e.hold()
	}
}

// deliver delivers events in random order, and expects that none is refused.
func (e *erasable) deliver(t *testing.T, events []*stripesim.Event) {
	t.Helper()
	for _, i := range rand.Perm(len(events)) {
		if reply := e.Send(t, events[i].Body); reply.Status != 200 && !e.broken.Load() {
			t.Errorf("%s: %s", events[i].Type, reply)
		}
	}
}

func (e *erasable) operator(reason string) *operations.Operator {
	return operations.New(e.Pool, &operations.Config{
		Applier: e.Receiver, APIKey: "sk_test_1", APIBase: e.apiURL, Operator: "ada", Reason: reason, Logger: hooktest.NoLog(),
	})
}

func (e *erasable) erase(t *testing.T) operations.EraseResult {
	t.Helper()
	erased, err := e.operator("request 4711").Erase(t.Context(), operations.EraseOptions{Customer: e.customer.ID()})
	if err != nil {
		t.Fatal(err)
	}
	return erased
}

// importAll imports everything, and returns how much differed.
func (e *erasable) importAll(t *testing.T) int {
	t.Helper()
	job, err := subscriptions.NewJob(e.Pool, &subscriptions.VerifyConfig{
		APIKey: "sk_test_1", APIBase: e.apiURL, Fix: e.Receiver, Projection: e.subs, Rate: 1e6, Logger: hooktest.NoLog(),
	})
	if err != nil {
		t.Fatal(err)
	}
	types := slices.DeleteFunc(slices.Clone(mirror.All), func(object string) bool {
		return !slices.Contains(append(stripesim.BillingTypes(), mirror.Entitlements[0]), object)
	})
	jobs, err := mirror.Jobs(e.Pool, &mirror.VerifyConfig{
		Types: types, APIKey: "sk_test_1", APIBase: e.apiURL, Fix: e.Receiver, Projection: e.mirror, Rate: 1e6, Logger: hooktest.NoLog(),
	})
	if err != nil {
		t.Fatal(err)
	}
	sum, err := e.operator("import").Backfill(t.Context(), operations.BackfillOptions{Jobs: append(jobs, job)})
	if err != nil {
		t.Fatal(err)
	}
	return sum.Drifted
}

// dump returns every row of every table as text.
func (e *erasable) dump(t *testing.T) (rows []string) {
	t.Helper()
	tables := pgtest.Scan[[]string](t, e.Pool, `SELECT array_agg(tablename::text ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'`)
	for _, table := range tables {
		rows = append(rows, pgtest.Scan[[]string](t, e.Pool, fmt.Sprintf(`SELECT COALESCE(array_agg(r ORDER BY r), '{}') FROM (SELECT '%s ' || t::text AS r FROM %[1]s AS t) AS rows`, table))...)
	}
	return rows
}

// belongings returns the events of the customer, and the texts in their objects that no other event has: ids, names, e-mail, metadata.
func (e *erasable) belongings(t *testing.T) (events, others []*stripesim.Event, texts []string) {
	t.Helper()
	ids, theirs, ours := map[string]bool{e.customer.ID(): true}, map[string]bool{}, map[string]bool{}
	for range 3 { // an event may name an object that a later event shows to be the customer's
		events, others = nil, nil
		for _, ev := range e.account.Events {
			if of := objectOf(t, ev); of.isOf(ids) {
				ids[of.ID] = of.ID != ""
				events = append(events, ev)
			} else {
				others = append(others, ev)
			}
		}
	}
	for _, ev := range others {
		collect(objectOf(t, ev).all, theirs)
	}
	for _, ev := range events {
		collect(objectOf(t, ev).all, ours)
	}
	for text := range ours {
		if !theirs[text] && len(text) > 5 && !datum.MatchString(text) {
			texts = append(texts, text)
		}
	}
	slices.Sort(texts)
	return events, others, texts
}

// datum matches what others may have in common with a customer by chance.
var datum = regexp.MustCompile(`^[a-z_.]+$|^[0-9]+$`)

type eventObject struct {
	ID, Customer  string
	Charge        string
	PaymentIntent string `json:"payment_intent"`
	Object        string
	before        string
	all           any
}

func (o *eventObject) isOf(ids map[string]bool) bool {
	if o.Customer != "" || o.Object == "customer" {
		return ids[o.Customer] || o.Object == "customer" && ids[o.ID]
	}
	return ids[o.ID] || ids[o.before] || ids[o.Charge] || ids[o.PaymentIntent]
}

func objectOf(t *testing.T, ev *stripesim.Event) *eventObject {
	t.Helper()
	var body struct {
		Data struct {
			Object   json.RawMessage
			Previous map[string]any `json:"previous_attributes"`
		}
	}
	of := &eventObject{}
	if err := errors.Join(json.Unmarshal(ev.Body, &body), json.Unmarshal(body.Data.Object, of), json.Unmarshal(body.Data.Object, &of.all)); err != nil {
		t.Fatal(err)
	}
	of.before, _ = body.Data.Previous["customer"].(string)
	return of
}

// collect adds the texts in a JSON value.
func collect(value any, texts map[string]bool) {
	switch v := value.(type) {
	case string:
		texts[v] = true
	case []any:
		for _, element := range v {
			collect(element, texts)
		}
	case map[string]any:
		for _, member := range v {
			collect(member, texts)
		}
	}
}

// expectNothing expects that no row of any table has one of the texts.
func (e *erasable) expectNothing(t *testing.T, texts []string) {
	t.Helper()
	all := strings.Join(e.dump(t), "\n")
	for _, text := range texts {
		quoted, _ := json.Marshal(text)
		for _, form := range []string{text, strings.Trim(string(quoted), `"`)} {
			if at := strings.Index(all, form); at >= 0 {
				t.Errorf("a row still has %q: …%s…", text, all[max(0, at-200):min(len(all), at+len(text)+50)])
				break
			}
		}
	}
}

// expectOthersUntouched expects that no row has changed but for those of the customer's events and objects.
func expectOthersUntouched(t *testing.T, before, after, texts []string, events []*stripesim.Event) {
	t.Helper()
	ofCustomer := func(row string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(row, text) }) ||
			slices.ContainsFunc(events, func(ev *stripesim.Event) bool { return strings.Contains(row, ev.ID) })
	}
	kept := map[string]bool{}
	for _, row := range after {
		kept[row] = true
	}
	for _, row := range before {
		if !kept[row] && !ofCustomer(row) {
			t.Errorf("a row of another customer's has changed: %.300s", row)
		}
		delete(kept, row)
	}
	for row := range kept {
		if !ofCustomer(row) && !strings.HasPrefix(row, "stripe_erasures ") && !strings.HasPrefix(row, "stripe_webhook_runs ") {
			t.Errorf("a row is new: %.300s", row)
		}
	}
}
