package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/pgtest"
)

// Where nothing can be started, there is no button and the page says why. The request is refused, too.
func TestNothingToStart(t *testing.T) {
	t.Parallel()
	all := url.Values{"do": {"reconcile"}, "window": {"1h"}}
	for name, c := range map[string]struct {
		configure func(*console.Config)
		pages     func(*office) []string
		buttons   int // on each of the pages
		why       string
		form      func(*office) url.Values
	}{
		"without a key": {
			func(c *console.Config) { c.APIKey = "" },
			func(o *office) []string {
				return []string{"/runs", "/customers/" + o.account.Subscriptions[0].Customer(), "/subscriptions/" + o.account.Subscriptions[0].ID()}
			}, 0, "Set STRIPE_API_KEY of serve, or console.Config.APIKey.", func(*office) url.Values { return all },
		},
		"with a key of the other mode": {
			func(c *console.Config) { c.APIKey = "sk_live_1" },
			func(o *office) []string { return []string{"/customers/" + o.account.Subscriptions[0].Customer()} }, 0, "The API key is of live mode, and this is of test mode.",
			func(o *office) url.Values {
				return url.Values{"do": {"fetch"}, "customer": {o.account.Subscriptions[0].Customer()}}
			},
		},
		"without the subscriptions' projection": {
			func(c *console.Config) { c.Subscriptions = nil },
			func(o *office) []string { return []string{"/subscriptions/" + o.account.Subscriptions[0].ID()} }, 1, "To fetch subscriptions, set console.Config.Subscriptions",
			func(o *office) url.Values {
				return url.Values{"do": {"fetch"}, "type": {"subscription"}, "id": {o.account.Subscriptions[0].ID()}}
			},
		},
		"of an unknown type": {
			nil, func(o *office) []string {
				pgtest.Exec(t, o.Pool, `INSERT INTO stripe_objects (livemode, object_type, id, object) VALUES (false, 'future', 'fut_1', '{}')`)
				return []string{"/objects/future/fut_1"}
			}, 0, "Objects of type future cannot be compared", func(*office) url.Values { return url.Values{"do": {"compare"}, "type": {"future"}, "id": {"fut_1"}} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, c.configure)
			for _, page := range c.pages(o) {
				if n := len(buttonLink.FindAllString(o.get(t, page, c.why), -1)); n != c.buttons {
					t.Errorf("%s has %d buttons", page, n)
				}
			}
			form := c.form(o)
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				path := map[string]string{http.MethodGet: "/runs/new?" + form.Encode(), http.MethodPost: "/runs"}[method]
				if status, _, text := o.do(t, method, path, form); status != http.StatusConflict || !strings.Contains(text, c.why) {
					t.Errorf("%s %s is %d:\n%s", method, path, status, text)
				}
			}
			if n := o.Count(t, "stripe_webhook_runs"); n != 0 {
				t.Errorf("there are %d runs", n)
			}
		})
	}
}

// Without the mirror's projection, objects are fetched, and the page says that their OnChange is not called. Without that of
// subscriptions, those of a customer are left out.
func TestFetchWithoutProjections(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *console.Config) { c.Subscriptions, c.Mirror = nil, nil })
	sub, _ := o.breakRows(t)
	ask, form := o.button(t, "/customers/"+sub.Customer(), "Fetch from Stripe")
	for _, want := range []string{"No <code>OnChange</code> of mirrored objects is called", "Subscriptions are left out", "<code>customer</code> <code>invoice</code>"} {
		if !strings.Contains(ask, want) {
			t.Errorf("it does not say %q:\n%s", want, ask)
		}
	}
	if strings.Contains(ask, "is called for each object") {
		t.Errorf("it says that OnChange is called:\n%s", ask)
	}
	if run, _ := o.press(t, form); !strings.HasSuffix(run.CountsText(), "drifted 1, fixed 1") || o.imported() != "" {
		t.Errorf("it fetches %s", run.CountsText())
	}
}

// A form of another site, of a user who may only look, or with anything unexpected starts nothing.
func TestRefusedForms(t *testing.T) {
	t.Parallel()
	readOnly := func(r *http.Request) bool { return r.Header.Get("X-User") == "guest" }
	o := newOffice(t, func(c *console.Config) { c.ReadOnly = readOnly })
	sub := o.account.Subscriptions[0]
	_, form := o.button(t, "/subscriptions/"+sub.ID(), "Fetch from Stripe")
	with := func(name, value string) url.Values {
		changed := url.Values{}
		for key := range form {
			changed.Set(key, form.Get(key))
		}
		changed.Set(name, value)
		return changed
	}
	for name, c := range map[string]struct {
		form    url.Values
		headers []string
		status  int
		text    string
	}{
		"of another site":         {form, []string{"Sec-Fetch-Site", "cross-site"}, 403, "The request came from another site."},
		"of a user who may look":  {form, []string{"X-User", "guest"}, 403, "This user may only look."},
		"with another task":       {with("do", "delete"), nil, 404, "Not found"},
		"with a customer, too":    {with("customer", "cus_1"), nil, 404, "Not found"},
		"without an id":           {with("id", " "), nil, 404, "Not found"},
		"with a NUL":              {with("id", "sub_\x00"), nil, 404, "Not found"},
		"with an endless id":      {with("id", strings.Repeat("x", 300)), nil, 404, "Not found"},
		"with a window of a year": {url.Values{"do": {"reconcile"}, "window": {"8760h"}}, nil, 404, "Not found"},
		"that is too long":        {with("reason", strings.Repeat("x", 100_000)), nil, 400, "The form cannot be read."},
	} {
		if status, _, text := o.do(t, http.MethodPost, "/runs", c.form, c.headers...); status != c.status || !strings.Contains(text, c.text) {
			t.Errorf("a form %s is %d, want %d %s:\n%s", name, status, c.status, c.text, text)
		}
	}
	if n := o.Count(t, "stripe_webhook_runs"); n != 0 {
		t.Errorf("there are %d runs", n)
	}
	if status, _, text := o.do(t, http.MethodGet, "/runs/new?"+form.Encode(), nil, "X-User", "guest"); status != 403 || !strings.Contains(text, "This user may only look.") {
		t.Errorf("the page that asks is %d:\n%s", status, text)
	}
	for _, path := range []string{"/runs", "/subscriptions/" + sub.ID(), "/customers/" + sub.Customer()} {
		status, _, text := o.do(t, http.MethodGet, path, nil, "X-User", "guest")
		if status != 200 || strings.Contains(text, "/runs/new") || strings.Contains(text, `method="post"`) {
			t.Errorf("%s is %d, and offers something to a user who may only look:\n%s", path, status, text)
		}
	}
}

// Values that differ are customers' data: they are shown by the process that compared, unless payloads are hidden. Another one shows
// the names of the fields.
func TestDifferencesElsewhere(t *testing.T) {
	t.Parallel()
	for _, hidden := range []bool{false, true} {
		o := newOffice(t, func(c *console.Config) { c.HidePayloads = hidden })
		sub, _ := o.breakRows(t)
		_, form := o.button(t, "/subscriptions/"+sub.ID(), "Compare with Stripe")
		_, path := o.press(t, form)
		if page := o.get(t, path, "status"); strings.Contains(page, "past_due") == hidden {
			t.Errorf("with hidden payloads %v it is\n%s", hidden, page)
		}
		elsewhere := httptest.NewRecorder()
		console.New(o.Pool, o.Receiver, &console.Config{HidePayloads: hidden}).ServeHTTP(elsewhere, httptest.NewRequest(http.MethodGet, path, nil))
		page, why := elsewhere.Body.String(), "The values are in the memory of the process that compared"
		if hidden {
			why = "Values are not shown here"
		}
		if strings.Contains(page, "past_due") || !strings.Contains(page, "<code>subscription/"+sub.ID()+".status</code>") || !strings.Contains(page, why) {
			t.Errorf("elsewhere it is\n%s", page)
		}
		if counts := pgtest.Scan[string](t, o.Pool, "SELECT counts::text FROM stripe_webhook_runs"); strings.Contains(counts, "past_due") {
			t.Errorf("the row has values: %s", counts)
		}
	}
}

// Objects of two accounts may have one id, which a person chose: the page's own is compared alone, with Stripe's of that account.
func TestCompareInOneAccount(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	o.api.Set("/v1/coupons/GOLD", map[string]any{"id": "GOLD", "object": "coupon", "created": 1700000000, "livemode": false, "name": "Gold"})
	pgtest.Exec(t, o.Pool, `INSERT INTO stripe_objects (account_id, livemode, object_type, id, object, stripe_created_at)
		SELECT account, false, 'coupon', 'GOLD', '{"id": "GOLD", "object": "coupon", "created": 1700000000, "livemode": false, "name": "Old"}', to_timestamp(1700000000)
		FROM unnest(ARRAY['', 'acct_1', 'acct_2']) AS account`)
	for account, own := range map[string]string{"acct_1": "account acct_1, ", "": ""} {
		before := len(o.api.Requests())
		_, form := o.button(t, "/objects/coupon/GOLD?livemode=false&account="+account, "Fetch from Stripe")
		run, _ := o.press(t, form)
		if run.CountsText() != "checked 1, drifted 1, fixed 1" || run.ArgumentsText() != own+"fix true, hooks true, only GOLD, types coupon" {
			t.Errorf("of account %q it is %s: %s, %s", account, run.ArgumentsText(), run.CountsText(), run.Error)
		}
		for _, req := range o.api.Requests()[before:] {
			if got := req.Header.Get("Stripe-Account"); got != account {
				t.Errorf("for account %q it asks for %s of account %q", account, req.URL.Path, got)
			}
		}
	}
	if old := pgtest.Scan[string](t, o.Pool, `SELECT coalesce(string_agg(account_id, ','), '') FROM stripe_objects WHERE object ->> 'name' = 'Old'`); old != "acct_2" {
		t.Errorf("the rows of %q are left as they were, want acct_2's", old)
	}
}
