package subscriptions_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// verified is an account whose events have all been delivered, with the arguments of Verify.
type verified struct {
	*hooktest.Host
	account *stripesim.Account
	api     *stripesim.API
	config  subscriptions.VerifyConfig
	changes []subscriptions.Change
	refuse  string // OnChange fails for this subscription, with this error
	refusal error
}

func newVerified(t *testing.T, subscribers int, deliver bool) *verified {
	t.Helper()
	v := &verified{account: stripesim.New(4, stripesim.Epoch)}
	for i := range subscribers {
		s := v.account.Subscribe(stripesim.VersionBasil)
		s.Activate()
		if i%2 == 0 {
			s.Upgrade(4)
		}
		if i%10 < 7 { // several are created in one second
			v.account.Wait(time.Minute)
		}
	}
	v.api = stripesim.NewAPI(v.account)
	server := httptest.NewServer(v.api)
	t.Cleanup(server.Close)
	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, &subscriptions.Config{OnChange: func(_ context.Context, _ pgx.Tx, c subscriptions.Change) error {
		v.changes = append(v.changes, c)
		if c.After.ID == v.refuse {
			return v.refusal
		}
		return nil
	}})
	v.Host = hooktest.New(t, h, nil)
	if deliver {
		for _, ev := range v.account.Events {
			v.Send(t, ev.Body)
		}
	}
	v.changes = nil
	v.config = subscriptions.VerifyConfig{
		APIKey: "sk_test_1", APIBase: server.URL, Projection: projection, Logger: hooktest.NoLog(), APITimeout: time.Minute,
	}
	return v
}

// verify returns the result and the differences, one a line.
func (v *verified) verify(t *testing.T) (subscriptions.VerifyResult, string) {
	t.Helper()
	var found []string
	v.config.Each = func(d subscriptions.Difference) {
		found = append(found, fmt.Sprintf("%s %s %v %v", d.ID, d.Field, show(d.Local), show(d.Stripe)))
	}
	sum, err := subscriptions.Verify(t.Context(), v.Pool, &v.config)
	if err != nil {
		t.Fatal(err)
	}
	sum.Position, sum.Unknown = "", 0
	return sum, strings.Join(found, "\n")
}

func show(value any) any {
	if p := reflect.ValueOf(value); p.Kind() == reflect.Pointer && !p.IsNil() {
		return p.Elem().Interface()
	}
	return value
}

func (v *verified) expectTruth(t *testing.T) {
	t.Helper()
	findings, err := judge.Subscriptions(t.Context(), v.Pool, v.account)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
}

// Every kind of drift is found, with both values, and nothing else. --fix repairs every row that Stripe knows.
func TestVerify(t *testing.T) {
	t.Parallel()
	v := newVerified(t, 250, true)
	if sum, found := v.verify(t); sum != (subscriptions.VerifyResult{Checked: 250}) || found != "" {
		t.Fatalf("for a correct table the result is %+v\n%s", sum, found)
	}
	if n := len(v.api.Requests()); n != 4 { // one for test clocks
		t.Errorf("it takes %d requests for 250 subscriptions", n)
	}
	id := func(i int) string { return v.account.Subscriptions[i].ID() }
	item := v.account.Subscriptions[6].Truth().Items[0].ID
	gone := v.account.Subscriptions[8].Truth().Items[1].ID
	exec := func(sql string, args ...any) { t.Helper(); pgtest.Exec(t, v.Pool, sql, args...) }
	exec(`UPDATE subscriptions SET status = 'canceled' WHERE id = $1`, id(3))
	exec(`UPDATE subscriptions SET quantity = NULL, metadata = '{"a": "b"}' WHERE id = $1`, id(200))
	exec(`UPDATE subscription_items SET quantity = 99 WHERE id = $1`, item)
	exec(`DELETE FROM subscription_items WHERE id = $1`, gone)
	exec(`DELETE FROM subscriptions WHERE id = $1`, id(100))
	exec(`UPDATE subscription_items SET position = 7 - position WHERE subscription_id = $1`, id(10)) // is no drift
	const copied = `INSERT INTO subscriptions (id, status, cancel_at_period_end, metadata, livemode, object, stripe_created_at)
		SELECT $1, 'active', false, '{}', $3, '{}', %s FROM subscriptions WHERE id = $2`
	exec(fmt.Sprintf(copied, "stripe_created_at"), "sub_unknown", id(120), false)
	exec(fmt.Sprintf(copied, "stripe_created_at - interval '9 years'"), "sub_unknown_old", id(0), false)
	exec(fmt.Sprintf(copied, "NULL"), "sub_unknown_undated", id(0), false)
	exec(fmt.Sprintf(copied, "stripe_created_at"), "sub_live", id(0), true) // not of the key's mode
	sum, found := v.verify(t)
	price := v.account.Subscriptions[200].Truth().Quantity
	want := []string{
		id(3) + " status canceled active",
		id(200) + fmt.Sprintf(" quantity <nil> %d", price), id(200) + " metadata map[a:b] map[]",
		id(6) + " items[" + item + "].quantity 99 4", id(8) + " items[" + gone + "] <nil> " + gone,
		id(100) + " id <nil> " + id(100),
		"sub_unknown id sub_unknown <nil>", "sub_unknown_old id sub_unknown_old <nil>", "sub_unknown_undated id sub_unknown_undated <nil>",
	}
	for _, line := range want {
		if !strings.Contains(found+"\n", line+"\n") {
			t.Errorf("the differences lack %q", line)
		}
	}
	if n := strings.Count(found, "\n") + 1; n != len(want) || sum != (subscriptions.VerifyResult{Checked: 253, Drifted: 8}) {
		t.Errorf("the result is %+v and the differences are\n%s", sum, found)
	}
	v.config.Fix = v.Receiver
	if sum, _ := v.verify(t); sum != (subscriptions.VerifyResult{Checked: 253, Drifted: 8, Fixed: 5}) {
		t.Errorf("the result of the fix is %+v", sum)
	}
	if len(v.changes) != 5 {
		t.Errorf("OnChange was called %d times, want 5", len(v.changes))
	}
	for _, c := range v.changes {
		if c.Event != nil || (c.Before == nil) != (c.After.ID == id(100)) || c.After.LastEventID != "" {
			t.Errorf("OnChange was given %+v", c)
		}
	}
	exec(`DELETE FROM subscriptions WHERE id LIKE 'sub_unknown%' OR id = 'sub_live'`)
	if sum, found := v.verify(t); sum != (subscriptions.VerifyResult{Checked: 250}) || found != "" {
		t.Errorf("after the fix the result is %+v\n%s", sum, found)
	}
	v.expectTruth(t)
}

// An import stores every subscription, without OnChange if NoHooks is set. Later events continue from there.
func TestImport(t *testing.T) {
	t.Parallel()
	v := newVerified(t, 130, false)
	v.config.Fix, v.config.NoHooks = v.Receiver, true
	if sum, _ := v.verify(t); sum != (subscriptions.VerifyResult{Checked: 130, Drifted: 130, Fixed: 130}) {
		t.Errorf("it is %+v", sum)
	}
	if n := len(v.api.Requests()); n > 6 {
		t.Errorf("it takes %d requests for 130 subscriptions", n)
	}
	if len(v.changes) != 0 {
		t.Errorf("OnChange was called %d times", len(v.changes))
	}
	v.expectTruth(t)
	v.Expect(t, v.account.Events[0].Body, 200, webhooks.OutcomeStale)
	v.account.Wait(time.Hour)
	v.account.Subscriptions[0].Delete()
	v.Expect(t, v.account.Events[len(v.account.Events)-1].Body, 200, webhooks.OutcomeProcessed)
	v.expectTruth(t)
}

// An import with OnChange tells it so: nobody is activated by it. A later event is no import.
func TestImportWithOnChange(t *testing.T) {
	t.Parallel()
	v := newVerified(t, 30, false)
	v.config.Fix = v.Receiver
	if sum, _ := v.verify(t); sum.Fixed != 30 || len(v.changes) != 30 {
		t.Fatalf("it is %+v, with %d calls of OnChange", sum, len(v.changes))
	}
	for _, c := range v.changes {
		if !c.Imported || c.Event != nil || c.Before != nil || c.Activated() || c.Canceled() {
			t.Errorf("a change of the import is %+v: Activated %v, Canceled %v", c, c.Activated(), c.Canceled())
		}
	}
	v.account.Wait(time.Hour)
	v.account.Subscriptions[0].SetQuantity(77)
	v.Expect(t, v.account.Events[len(v.account.Events)-1].Body, 200, webhooks.OutcomeProcessed)
	if c := v.changes[30]; c.Imported || c.Event == nil || c.Before == nil {
		t.Errorf("a change of an event is %+v", c)
	}
}

// A subscription that changes during the comparison is no drift: both sides are read again.
func TestVerifyDuringChanges(t *testing.T) {
	t.Parallel()
	v := newVerified(t, 20, true)
	v.account.Wait(time.Hour)
	moving := v.account.Subscriptions[5]
	moving.SetQuantity(77) // Stripe has the change, and its event is in flight
	event := v.account.Events[len(v.account.Events)-1]
	asked := 0
	v.api.OnRequest = func(*http.Request) {
		if asked++; asked == 2 {
			v.Send(t, event.Body)
		}
	}
	if sum, found := v.verify(t); sum.Drifted != 0 || asked < 2 {
		t.Errorf("it is %+v after %d requests\n%s", sum, asked, found)
	}
}

// Fix continues after a subscription that cannot be stored, which remains as drift: also where OnChange parks, since there is
// no event that could wait for a person.
func TestFixContinues(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]error{"an error": errors.New("not this one"), "parks": webhooks.Park(errors.New("not this one"))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVerified(t, 30, false)
			v.refuse, v.refusal = v.account.Subscriptions[7].ID(), refusal
			v.config.Fix = v.Receiver
			if sum, _ := v.verify(t); sum != (subscriptions.VerifyResult{Checked: 30, Drifted: 30, Fixed: 29}) {
				t.Errorf("it is %+v", sum)
			}
			if stored, failures := v.Count(t, "subscriptions"), v.Count(t, "stripe_webhook_failures"); stored != 29 || failures != 0 {
				t.Errorf("%d are stored, and there are %d failures, want 29 and 0", stored, failures)
			}
		})
	}
}

// An interrupted run resumes at its position.
func TestVerifyResumes(t *testing.T) {
	t.Parallel()
	v := newVerified(t, 250, true)
	pgtest.Exec(t, v.Pool, `UPDATE subscriptions SET currency = 'eur' WHERE id = ANY($1)`, []string{v.account.Subscriptions[249].ID(), v.account.Subscriptions[1].ID()})
	ctx, cancel := context.WithCancel(t.Context())
	v.config.Progress = func(subscriptions.VerifyResult) { cancel() }
	first, err := subscriptions.Verify(ctx, v.Pool, &v.config)
	if !errors.Is(err, context.Canceled) || first.Checked != 100 || first.Drifted != 1 || first.Position == "" {
		t.Fatalf("interrupted it is %+v, %v", first, err)
	}
	v.config.Progress, v.config.After = nil, first.Position
	if rest, found := v.verify(t); rest.Checked < 150 || rest.Checked > 155 || rest.Drifted != 1 {
		t.Errorf("the rest is %+v\n%s", rest, found)
	}
}

// Each account that has rows is compared with requests as that account. An account that Stripe refuses is an error at the
// end.
func TestVerifyAccounts(t *testing.T) {
	t.Parallel()
	v := newVerified(t, 3, true)
	connected := stripesim.New(8, stripesim.Epoch)
	for range 4 {
		connected.Subscribe(stripesim.VersionBasil).Activate()
	}
	v.api.Connect("acct_1", connected)
	v.config.Fix, v.config.Accounts = v.Receiver, []string{"acct_1"}
	if sum, _ := v.verify(t); sum != (subscriptions.VerifyResult{Checked: 7, Drifted: 4, Fixed: 4}) {
		t.Errorf("the import of an account is %+v", sum)
	}
	v.config.Fix, v.config.Accounts = nil, nil
	pgtest.Exec(t, v.Pool, `UPDATE subscriptions SET status = 'unpaid' WHERE account_id = 'acct_1' AND id = $1`, connected.Subscriptions[2].ID())
	if sum, found := v.verify(t); sum != (subscriptions.VerifyResult{Checked: 7, Drifted: 1}) {
		t.Errorf("it is %+v\n%s", sum, found)
	}
	pgtest.Exec(t, v.Pool, `UPDATE subscriptions SET account_id = 'acct_0' WHERE id = $1`, connected.Subscriptions[2].ID())
	v.config.Each = nil
	sum, err := subscriptions.Verify(t.Context(), v.Pool, &v.config)
	// The position stays within the platform's own account, not in accounts after the one that failed.
	if err == nil || !strings.Contains(err.Error(), "acct_0") || sum.Checked != 7 || sum.Position != v.account.Subscriptions[0].ID() {
		t.Errorf("with an account that is no longer connected it is %+v, %v", sum, err)
	}
}

// Fix refuses a key of the mode that the receiver ignores, and stores nothing.
func TestFixOfTheOtherMode(t *testing.T) {
	t.Parallel()
	v := newVerified(t, 1, false)
	live := hooktest.On(t, v.Pool, webhooks.NewHandlers(), func(c *webhooks.Config) { c.Mode = webhooks.ModeLive })
	v.config.Fix = live.Receiver
	if _, err := subscriptions.Verify(t.Context(), v.Pool, &v.config); err == nil || !strings.Contains(err.Error(), "STRIPE_MODE") {
		t.Errorf("it says %v", err)
	}
}

// A row that a delivery writes between the comparison and the fix is compared again, not overwritten.
func TestFixOfARowThatChanges(t *testing.T) {
	t.Parallel()
	v := newVerified(t, 3, false)
	id := v.account.Subscriptions[1].ID()
	v.config.Fix = v.Receiver
	v.config.Each = func(d subscriptions.Difference) {
		if d.ID != id {
			return
		}
		v.account.Wait(time.Hour) // Stripe's object changes, and the event of it arrives
		v.account.Subscriptions[1].SetQuantity(55)
		v.Expect(t, v.account.Events[len(v.account.Events)-1].Body, 200, webhooks.OutcomeProcessed)
	}
	sum, err := subscriptions.Verify(t.Context(), v.Pool, &v.config)
	if err != nil || sum.Drifted != 3 || sum.Fixed != 3 {
		t.Errorf("it is %+v, %v", sum, err)
	}
	v.expectTruth(t)
	if last := pgtest.Scan[*string](t, v.Pool, `SELECT last_event_id FROM subscriptions WHERE id = $1`, id); last == nil {
		t.Error("the event's row was overwritten")
	}
}
