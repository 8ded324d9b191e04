package console_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// office is a receiver, a simulated account with two subscribers whose events were all delivered, and a console with its API key.
type office struct {
	*hooktest.Host
	account *stripesim.Account
	api     *stripesim.API
	pages   *console.Console
	server  *httptest.Server

	mu      sync.Mutex
	changed []string // the objects whose OnChange was called by an import
}

func newOffice(t *testing.T, configure func(*console.Config)) *office {
	t.Helper()
	o := &office{account: stripesim.New(3, time.Now().Add(-2*time.Hour))}
	o.account.Billing = true
	for range 2 {
		o.account.Subscribe(stripesim.VersionBasil).Activate()
		o.account.Wait(time.Second)
	}
	o.api = stripesim.NewAPI(o.account)
	stripe := httptest.NewServer(o.api)
	t.Cleanup(stripe.Close)
	h := webhooks.NewHandlers()
	config := &console.Config{APIKey: " sk_test_1\n", APIBase: stripe.URL, Logger: hooktest.NoLog(), User: func(r *http.Request) string { return r.Header.Get("X-User") }}
	config.Subscriptions = subscriptions.Register(h, &subscriptions.Config{OnChange: func(_ context.Context, _ pgx.Tx, c subscriptions.Change) error {
		return o.note(c.After.ID, c.Imported)
	}})
	config.Mirror = mirror.Register(h, &mirror.Config{Types: []string{"customer", "invoice"}, OnChange: func(_ context.Context, _ pgx.Tx, c mirror.Change) error {
		return o.note(c.After.ID, c.Imported)
	}})
	o.Host = hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", stripe.URL })
	for _, ev := range o.account.Events {
		if reply := o.Send(t, ev.Body); !reply.OK() {
			t.Fatal(reply)
		}
	}
	if configure != nil {
		configure(config)
	}
	o.pages = console.New(o.Pool, o.Receiver, config)
	t.Cleanup(o.pages.Close)
	o.server = httptest.NewServer(http.StripPrefix("/admin", o.pages))
	t.Cleanup(o.server.Close)
	return o
}

func (o *office) note(id string, imported bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if imported {
		o.changed = append(o.changed, id)
	}
	return nil
}

// imported returns the objects whose OnChange was called by an import since the last call.
func (o *office) imported() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.changed
	o.changed = nil
	return strings.Join(list, " ")
}

// do makes a request as a browser does, and returns the status, the redirect's target and the text.
func (o *office) do(t *testing.T, method, path string, form url.Values, headers ...string) (status int, location, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, o.server.URL+"/admin"+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimPrefix(resp.Header.Get("Location"), "/admin"), string(body)
}

// get returns a page.
func (o *office) get(t *testing.T, path string, want ...string) string {
	t.Helper()
	status, _, text := o.do(t, http.MethodGet, path, nil)
	if status != http.StatusOK {
		t.Fatalf("%s is %d:\n%s", path, status, text)
	}
	for _, part := range want {
		if !strings.Contains(text, part) {
			t.Errorf("%s does not show %q:\n%s", path, part, text)
		}
	}
	return text
}

var (
	buttonLink  = regexp.MustCompile(`href="/admin(/runs/new\?[^"]*)">([^<]*)<`)
	hiddenInput = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

// button follows a page's button to the page that asks, and returns that page and its form.
func (o *office) button(t *testing.T, page, label string) (text string, form url.Values) {
	t.Helper()
	for _, match := range buttonLink.FindAllStringSubmatch(o.get(t, page), -1) {
		if match[2] == label {
			text = o.get(t, strings.ReplaceAll(match[1], "&amp;", "&"), `method="post" action="/admin/runs"`)
			form = url.Values{}
			for _, input := range hiddenInput.FindAllStringSubmatch(text, -1) {
				form.Set(input[1], input[2])
			}
			return text, form
		}
	}
	t.Fatalf("%s has no button %q", page, label)
	return "", nil
}

// press presses the button on the page that asks, and waits for the run's end.
func (o *office) press(t *testing.T, form url.Values) (run *operations.Run, page string) {
	t.Helper()
	var status int
	var location, text string
	pgtest.Await(t, "the run before has ended", func() bool { // its record ends a moment before
		status, location, text = o.do(t, http.MethodPost, "/runs", form, "X-User", "ada")
		return status != http.StatusConflict
	})
	id, found := strings.CutPrefix(location, "/runs/")
	if status != http.StatusSeeOther || !found {
		t.Fatalf("it leads to %d %q:\n%s", status, location, text)
	}
	return o.ended(t, id), location
}

// ended waits for the end of a run.
func (o *office) ended(t *testing.T, id string) (run *operations.Run) {
	t.Helper()
	pgtest.Await(t, "the run ends", func() bool {
		var err error
		if run, err = operations.New(o.Pool, nil).Run(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return run.FinishedAt != nil
	})
	return run
}

// breakRows makes rows differ from Stripe's objects.
func (o *office) breakRows(t *testing.T) (sub *stripesim.Subscription, invoice string) {
	t.Helper()
	sub = o.account.Subscriptions[0]
	pgtest.Exec(t, o.Pool, `UPDATE subscriptions SET status = 'past_due' WHERE id = $1`, sub.ID())
	invoice = pgtest.Scan[string](t, o.Pool, `UPDATE stripe_objects SET object = object || '{"number": "<wrong>"}', digest = NULL
		WHERE object_type = 'invoice' AND customer_id = $1 RETURNING id`, sub.Customer())
	return sub, invoice
}

// An object is compared with Stripe's, which changes nothing, and is fetched, which stores it and calls OnChange. Its run says who
// did that and why.
func TestCompareAndFetchObject(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	sub, invoice := o.breakRows(t)
	for page, c := range map[string]struct{ id, kind, field, here, there string }{
		"/subscriptions/" + sub.ID():  {sub.ID(), "subscription", "status", "&#34;past_due&#34;", "&#34;active&#34;"},
		"/objects/invoice/" + invoice: {invoice, "invoice", "number", "&#34;\\u003cwrong\\u003e&#34;", "&#34;"},
	} {
		ask, form := o.button(t, page, "Compare with Stripe")
		if !strings.Contains(ask, "Nothing is changed") || !strings.Contains(ask, ">No handler runs.</p>") || !strings.Contains(ask, "<code>"+c.kind+"</code>") {
			t.Errorf("before the comparison it says\n%s", ask)
		}
		form.Set("reason", "ticket <7>")
		run, path := o.press(t, form)
		differs := c.kind + "/" + c.id + "." + c.field
		if run.CountsText() != "checked 1, drifted 1, fixed 0" || strings.Join(run.Differences(), " ") != differs || run.Kind != operations.RunVerify ||
			run.Operator != "console (ada)" || run.Reason != "ticket <7>" || run.Error != "" {
			t.Errorf("the comparison's run is %+v: %s, %s", run, run.CountsText(), run.Differences())
		}
		if want := "fix false, only " + c.id + ", types " + c.kind; run.ArgumentsText() != want {
			t.Errorf("its arguments are %s, want %s", run.ArgumentsText(), want)
		}
		o.get(t, path, "ticket &lt;7&gt;", "console (ada)", ">"+c.field+"</td>", "<code>"+c.here+"</code>", c.there, `href="/admin/search?find=`+c.id+`"`, ">finished<")
		if got := o.imported(); got != "" {
			t.Errorf("the comparison calls OnChange of %s", got)
		}

		ask, form = o.button(t, page, "Fetch from Stripe")
		if !strings.Contains(ask, "The <code>OnChange</code> of the receiver <code>host</code> in this process is called") || strings.Contains(ask, "console.Config.Mirror") {
			t.Errorf("before it fetches it says\n%s", ask)
		}
		if run, _ = o.press(t, form); !strings.HasSuffix(run.CountsText(), "drifted 1, fixed 1") || run.ArgumentsText() != "fix true, hooks true, only "+c.id+", types "+c.kind {
			t.Errorf("it fetches %s: %s", run.ArgumentsText(), run.CountsText())
		}
		if got := o.imported(); got != c.id {
			t.Errorf("OnChange was called of %q, want %s", got, c.id)
		}
		_, form = o.button(t, page, "Compare with Stripe")
		if run, _ = o.press(t, form); run.CountsText() != "checked 1, drifted 0, fixed 0" {
			t.Errorf("afterwards the comparison finds %s", run.CountsText())
		}
	}
}

// Everything of a customer is compared and fetched, and nothing of another one.
func TestCompareAndFetchCustomer(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	sub, invoice := o.breakRows(t)
	other := o.account.Subscriptions[1]
	pgtest.Exec(t, o.Pool, `UPDATE subscriptions SET status = 'past_due' WHERE id = $1`, other.ID())
	page := "/customers/" + sub.Customer()
	ask, form := o.button(t, page, "Compare with Stripe")
	for _, want := range []string{"Compare everything of " + sub.Customer(), "<code>subscription</code> <code>customer</code> <code>invoice</code>"} {
		if !strings.Contains(ask, want) {
			t.Errorf("it does not say %q:\n%s", want, ask)
		}
	}
	run, path := o.press(t, form)
	if want := "subscription/" + sub.ID() + ".status invoice/" + invoice + ".number"; run.CountsText() != "checked 3, drifted 2, fixed 0" || strings.Join(run.Differences(), " ") != want {
		t.Errorf("the comparison finds %s: %s", run.CountsText(), run.Differences())
	}
	o.get(t, path, sub.ID(), invoice, "past_due", `href="/admin/search?find=`+sub.Customer()+`"`)
	_, form = o.button(t, page, "Fetch from Stripe")
	run, _ = o.press(t, form)
	if got := o.imported(); !strings.HasSuffix(run.CountsText(), "drifted 2, fixed 2") || got != sub.ID()+" "+invoice {
		t.Errorf("it fetches %s, and calls OnChange of %s", run.CountsText(), got)
	}
	if status := pgtest.Scan[string](t, o.Pool, `SELECT status FROM subscriptions WHERE id = $1`, other.ID()); status != "past_due" {
		t.Errorf("the other customer's subscription is %s", status)
	}
}

// Missing events are applied from the page of runs.
func TestReconcileFromConsole(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	sub := o.account.Subscriptions[0]
	o.api.Do(func(*stripesim.Account) { sub.SetQuantity(9) })
	ask, form := o.button(t, "/runs", "Reconcile the last three days")
	for _, want := range []string{"applies those that the ledger lacks", "The handlers of the receiver <code>host</code>", "<code>customer.subscription.*</code>", "15 minutes"} {
		if !strings.Contains(ask, want) {
			t.Errorf("it does not say %q:\n%s", want, ask)
		}
	}
	run, path := o.press(t, form)
	if run.Kind != operations.RunReconcile || run.ArgumentsText() != "since 72h0m0s" || !strings.Contains(run.CountsText(), "missing 1") || !strings.Contains(run.CountsText(), "applied 1") {
		t.Errorf("the run is %+v: %s, %s", run, run.ArgumentsText(), run.CountsText())
	}
	if n := pgtest.Scan[int](t, o.Pool, `SELECT quantity::int FROM subscriptions WHERE id = $1`, sub.ID()); n != 9 {
		t.Errorf("the quantity is %d", n)
	}
	o.get(t, path, "reconcile <span", "<dt>missing</dt><dd>1 </dd>", ">finished<")
	for label, since := range map[string]string{"Reconcile the last hour": "1h0m0s", "Reconcile the last day": "24h0m0s"} {
		_, form = o.button(t, "/runs", label)
		if run, _ = o.press(t, form); run.ArgumentsText() != "since "+since || !strings.Contains(run.CountsText(), "missing 0") {
			t.Errorf("%s is %s: %s", label, run.ArgumentsText(), run.CountsText())
		}
	}
	connected := stripesim.New(8, time.Now().Add(-time.Hour))
	connected.ID = "acct_1"
	connected.Subscribe(stripesim.VersionBasil).Activate()
	o.api.Connect("acct_1", connected)
	form.Set("account", " acct_1 ")
	if run, _ = o.press(t, form); !strings.HasPrefix(run.ArgumentsText(), "account acct_1, since ") || !strings.Contains(run.CountsText(), "applied 3") {
		t.Errorf("a connected account's is %s: %s, %s", run.ArgumentsText(), run.CountsText(), run.Error)
	}
	o.get(t, "/runs?kind=reconcile", path[len("/runs/"):])
	if page := o.get(t, "/runs?kind=verify"); strings.Contains(page, "run_") {
		t.Errorf("it lists other kinds:\n%s", page)
	}
}

// One run is in progress at a time. Its page refreshes itself until its end. Close interrupts it, and none is started after that.
func TestOneRunAtATime(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	asked, goOn := make(chan struct{}, 100), make(chan struct{})
	o.api.Do(func(*stripesim.Account) {
		o.api.OnRequest = func(*http.Request) {
			asked <- struct{}{}
			<-goOn
		}
	})
	t.Cleanup(func() { close(goOn) })
	page := "/subscriptions/" + o.account.Subscriptions[0].ID()
	_, form := o.button(t, page, "Compare with Stripe")
	status, path, text := o.do(t, http.MethodPost, "/runs", form)
	if status != http.StatusSeeOther {
		t.Fatalf("it is %d:\n%s", status, text)
	}
	pgtest.Receive(t, "the request to Stripe", asked)
	for _, shown := range []string{path, "/runs"} {
		resp, err := http.Get(o.server.URL + "/admin" + shown)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.Header.Get("Refresh") != "3" || !strings.Contains(string(body), "This page reloads") || !strings.Contains(string(body), ">running<") {
			t.Errorf("%s has the header Refresh %q:\n%s", shown, resp.Header.Get("Refresh"), body)
		}
	}
	status, _, text = o.do(t, http.MethodPost, "/runs", form)
	if status != http.StatusConflict || !strings.Contains(text, "A run is in progress that was started from this console") || !strings.Contains(text, `href="/admin`+path+`"`) {
		t.Errorf("a second one is %d:\n%s", status, text)
	}
	o.pages.Close()
	run := o.ended(t, path[len("/runs/"):])
	if run.State() != operations.RunFailed || run.Error != "interrupted: the process is stopping" {
		t.Errorf("after Close the run is %+v", run)
	}
	resp, err := http.Get(o.server.URL + "/admin" + path)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if refresh := resp.Header.Get("Refresh"); refresh != "" {
		t.Errorf("after its end the page has the header Refresh %q", refresh)
	}
	if status, _, text = o.do(t, http.MethodPost, "/runs", form); status != http.StatusConflict || !strings.Contains(text, "The process is stopping.") {
		t.Errorf("after Close it is %d:\n%s", status, text)
	}
	if n := o.Count(t, "stripe_webhook_runs"); n != 1 {
		t.Errorf("there are %d runs", n)
	}
}

// A run that takes too long is stopped, and another one can be started.
func TestRunTimeout(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *console.Config) { c.RunTimeout = 50 * time.Millisecond })
	goOn := make(chan struct{})
	o.api.Do(func(*stripesim.Account) { o.api.OnRequest = func(*http.Request) { <-goOn } })
	_, form := o.button(t, "/runs", "Reconcile the last hour")
	run, _ := o.press(t, form)
	close(goOn)
	if run.State() != operations.RunFailed || !strings.HasPrefix(run.Error, "stopped after 50ms (console.Config.RunTimeout)") {
		t.Errorf("the run is %+v", run)
	}
	pgtest.Await(t, "another run can be started", func() bool {
		status, _, _ := o.do(t, http.MethodPost, "/runs", form)
		return status == http.StatusSeeOther
	})
}
