package console_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/webhooks"
)

// The pages about objects say how objects get there while nothing is mirrored, and that a migration is missing. The other pages
// do not need the table.
func TestNothingMirrored(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.shows(t, "/objects", "Nothing is mirrored", "STRIPEONCE_MIRROR", "mirror.Register")
	s.shows(t, "/objects?type=invoice", "Nothing is mirrored")
	s.shows(t, "/search?find=in_1", "Nothing has this id")
	s.get(t, "/objects/invoice/in_1", 404)
	s.get(t, "/customers/cus_1", 404)
	s.Expect(t, subscriptionOf("cus_1", "sub_1"), 200, webhooks.OutcomeProcessed)
	s.shows(t, "/customers/cus_1", "The customer object is not stored", "STRIPEONCE_MIRROR", "sub_1", "evt_sub_1", "No mirrored object of the types invoice,")
	pgtest.Exec(t, s.Pool, `DROP TABLE stripe_objects CASCADE`)
	if page := s.get(t, "/objects", 503); !strings.Contains(page, "lacks a migration") {
		t.Errorf("without the table it is\n%s", page)
	}
	s.shows(t, "/customers/cus_1", "lacks the table <code>stripe_objects</code>", "sub_1", "evt_sub_1")
	for id, want := range map[string]string{"sub_1": "/subscriptions/sub_1", "evt_sub_1": "/events/evt_sub_1", "cus_1": "/customers/cus_1?livemode=false"} {
		s.leads(t, id, want)
	}
}

// Objects that row level security hides are not "nothing".
func TestHiddenTable(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	role := "console_" + strings.ToLower(rand.Text()[:12])
	pgtest.Exec(t, s.Pool, "CREATE ROLE "+role)
	t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY " + role, "DROP ROLE " + role} {
			_, _ = s.Pool.Exec(context.Background(), sql)
		}
	})
	pgtest.Exec(t, s.Pool, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO "+role)
	pgtest.Exec(t, s.Pool, "ALTER TABLE stripe_objects ENABLE ROW LEVEL SECURITY")
	config := s.Pool.Config()
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SET ROLE "+role)
		return err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	var log bytes.Buffer
	pages := console.New(pool, s.Receiver, &console.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	answer := httptest.NewRecorder()
	pages.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/objects", nil))
	if answer.Code != http.StatusServiceUnavailable || !strings.Contains(log.String(), "no policy allows SELECT on stripe_objects") {
		t.Errorf("it is %d, and the log\n%s", answer.Code, &log)
	}
}

func subscriptionOf(customer, id string) []byte {
	return hooktest.Event("evt_"+id, "customer.subscription.created", 1, fmt.Sprintf(`{"id":%q,"object":"subscription","customer":%q,"status":"active","created":1000,
		"items":{"data":[{"id":"si_1","quantity":7,"price":{"id":"price_1","product":"prod_1"}}]}}`, id, customer))
}

// leads checks where the search for an id leads.
func (s *stage) leads(t *testing.T, id, want string) {
	t.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(s.server.URL + mountedAt + "/search?find=" + id)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusSeeOther || to != mountedAt+want {
		t.Errorf("the search for %s leads to %d %q, want %q", id, resp.StatusCode, to, want)
	}
}

// billing delivers a customer's objects.
func (s *stage) billing(t *testing.T) {
	t.Helper()
	s.Expect(t, subscriptionOf("cus_1", "sub_1"), 200, webhooks.OutcomeProcessed)
	for id, object := range map[string]string{
		"customer.created":         `{"id":"cus_1","object":"customer","created":1000,"name":"Jenny <Rosen>","email":"jenny@example.com"}`,
		"invoice.paid":             `{"id":"in_1","object":"invoice","created":1001,"customer":"cus_1","subscription":"sub_1","status":"paid","total":123456,"currency":"usd","number":"F-1","charge":"ch_1"}`,
		"charge.succeeded":         `{"id":"ch_1","object":"charge","created":1002,"customer":"cus_1","status":"succeeded","amount":123456,"currency":"jpy"}`,
		"refund.created":           `{"id":"re_1","object":"refund","created":1003,"charge":"ch_1","status":"pending","amount":5,"currency":"usd"}`,
		"charge.dispute.created":   `{"id":"du_1","object":"dispute","created":1004,"charge":"ch_of_another","status":"lost","amount":5,"currency":"usd"}`,
		"payment_method.attached":  `{"id":"pm_1","object":"payment_method","created":1005,"customer":"cus_1","type":"card","card":{"brand":"visa","last4":"4242"}}`,
		"product.created":          `{"id":"gold/1","object":"product","created":1006,"name":"Gold"}`,
		"product.deleted":          `{"id":"old","object":"product","deleted":true}`,
		"customer.tax_id.created":  `{"id":"txi_1","object":"tax_id","created":1007,"customer":"cus_1"}`,
		"invoice.finalized":        `{"id":"in_2","object":"invoice","created":1008,"customer":"cus_2","status":"open","lines":{"object":"list","has_more":true,"data":[]}}`,
		"payment_intent.succeeded": `{"id":"pi_1","object":"payment_intent","created":1009,"status":"succeeded"}`,
	} {
		s.Expect(t, hooktest.Event("evt_"+id, id, 10, object), 200, webhooks.OutcomeProcessed)
	}
}

// Objects of every type are listed, found and shown, with links to what belongs to them.
func TestObjects(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil, "customer", "invoice", "charge", "refund", "dispute", "payment_method", "payment_intent", "product", "tax_id")
	s.billing(t)
	s.shows(t, "/objects", `<option>charge</option>`, mountedAt+"/objects?livemode=false&amp;type=refund", "tables of their own")
	s.shows(t, "/objects?type=invoice", "in_1<", "in_2<", "1,234.56 USD · F-1", "incomplete", mountedAt+"/customers/cus_1?livemode=false", mountedAt+"/objects/invoice/in_1?livemode=false")
	s.lacks(t, "/objects?type=invoice&status=open", "in_1<")
	s.shows(t, "/objects?type=invoice&status=open", "in_2<")
	s.shows(t, "/objects?type=invoice&customer=cus_1", "in_1<")
	s.lacks(t, "/objects?type=invoice&customer=cus_1", "in_2<")
	s.shows(t, "/objects?type=invoice&id=in_2", "in_2<")
	s.shows(t, "/objects?type=invoice&id=in_3", "No matching objects")
	s.shows(t, "/objects?type=invoice&livemode=true", "No matching objects")
	s.lacks(t, "/objects?type=product", ">old<")
	s.shows(t, "/objects?type=product&deleted=only", ">old<", `<span class="pill bad">deleted</span>`)
	s.get(t, "/objects?type=product&before=yesterday+x", 404)

	s.shows(t, "/objects/invoice/in_1?livemode=false", "1,234.56 USD", mountedAt+"/customers/cus_1?livemode=false", mountedAt+"/subscriptions/sub_1", "evt_invoice.paid",
		"https://dashboard.stripe.com/test/invoices/in_1", `<a href="`+mountedAt+`/search?find=ch_1">&#34;charge&#34;: &#34;ch_1&#34;</a>`)
	s.shows(t, "/objects/invoice/in_1", "in_1")
	s.get(t, "/objects/invoice/in_1?livemode=true", 404)
	s.shows(t, "/objects/invoice/in_2", "incomplete", "more elements of a list")
	s.shows(t, "/objects/product/gold%2F1", "Gold", "https://dashboard.stripe.com/test/products/gold%2F1")
	s.shows(t, "/objects/refund/re_1", "https://dashboard.stripe.com/test/search?query=re_1")
	s.shows(t, "/objects/charge/ch_1", "123,456 JPY")
	s.shows(t, "/events/evt_customer.created", mountedAt+"/customers/cus_1")
	s.shows(t, "/events/evt_invoice.paid", mountedAt+"/search?find=in_1")
	s.shows(t, "/subscriptions/sub_1", mountedAt+"/customers/cus_1?livemode=false", "https://dashboard.stripe.com/test/subscriptions/sub_1")

	for id, want := range map[string]string{
		"in_1": "/objects/invoice/in_1?livemode=false", "cus_1": "/customers/cus_1?livemode=false", "evt_invoice.paid": "/events/evt_invoice.paid",
		"sub_1": "/subscriptions/sub_1", "gold%2F1": "/objects/product/gold%2F1?livemode=false", "cus_2": "/customers/cus_2?livemode=false",
	} {
		s.leads(t, id, want)
	}
	s.Expect(t, hooktest.Event("evt_coupon", "coupon.created", 10, `{"id":"half"}`), 200, webhooks.OutcomeIgnored)
	s.leads(t, "half", "/events?object=half")
	s.shows(t, "/search", "Search for an id")
	s.shows(t, "/search?find=x%3Cb%3E", "Nothing has this id")
}

// A customer's page gathers what belongs to the customer.
func TestCustomer(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil, "customer", "invoice", "charge", "refund", "dispute", "payment_method", "payment_intent", "product", "tax_id")
	s.billing(t)
	page := s.get(t, "/customers/cus_1", 200)
	last := 0
	for _, want := range []string{"Jenny &lt;Rosen&gt; · jenny@example.com", `"subscriptions">Subscriptions<`, "sub_1<", ">Invoices<", "in_1<", ">Payments<", "re_1<", "ch_1<",
		">Payment methods<", "visa •••• 4242", ">Other objects<", "txi_1<", ">Events<", "of 7 objects of this customer"} {
		at := strings.Index(page, want)
		if at < last {
			t.Errorf("%q is missing, or not in its place", want)
		}
		last = max(at, last)
	}
	for _, event := range []string{"evt_customer.created", "evt_sub_1", "evt_invoice.paid", "evt_refund.created", "evt_charge.succeeded", "evt_payment_method.attached"} {
		if !strings.Contains(page, `/events/`+event+`"`) {
			t.Errorf("the event %s is missing", event)
		}
	}
	for _, other := range []string{"du_1<", "in_2<", "pi_1<", "evt_product"} {
		if strings.Contains(page, other) {
			t.Errorf("it shows another customer's %s", other)
		}
	}
	s.shows(t, "/customers/cus_2", "in_2<", "The customer object is not stored")
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_objects (account_id, livemode, object_type, id, customer_id, status, stripe_created_at, object)
		SELECT 'acct_1', TRUE, 'invoice', 'in_many_' || n, 'cus_1', 'open', to_timestamp(2000 + n), '{}' FROM generate_series(1, 30) AS n`)
	s.shows(t, "/customers/cus_1?account=acct_1&livemode=true", "in_many_30<", "The customer object is not stored")
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_objects (account_id, livemode, object_type, id, customer_id, object) VALUES ('acct_1', TRUE, 'customer', 'cus_1', 'cus_1', '{}')`)
	s.shows(t, "/customers/cus_1", "in_1<", "live mode, <span class=\"id\">acct_1</span>", mountedAt+"/customers/cus_1?account=acct_1&amp;livemode=true")
	there := s.get(t, "/customers/cus_1?account=acct_1&livemode=true", 200)
	whole := mountedAt + "/objects?account=acct_1&amp;customer=cus_1&amp;livemode=true&amp;type=invoice"
	if strings.Count(there, `">in_many_`) != 10 || !strings.Contains(there, whole) || strings.Contains(there, "sub_1<") {
		t.Errorf("of the other account it shows\n%s", there)
	}
	if page := s.get(t, html.UnescapeString(strings.TrimPrefix(whole, mountedAt)), 200); strings.Count(page, `">in_many_`) != 30 {
		t.Errorf("the whole list is\n%s", page)
	}
	s.get(t, "/customers/cus_1?account=acct_2", 404)
	s.get(t, "/customers/cus_1?account=acct_2&livemode=true", 404)
}

// A customer's page shows the active entitlements, and says where it does not know all of them.
func TestCustomerEntitlements(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil, "customer", mirror.Entitlements[0])
	s.Expect(t, hooktest.Event("evt_1", "customer.created", 9, `{"id":"cus_1","object":"customer","created":1000}`), 200, webhooks.OutcomeProcessed)
	s.shows(t, "/customers/cus_1", "No mirrored entitlements")
	summary := func(id string, second int64, more bool, keys ...string) {
		var data []string
		for _, key := range keys {
			data = append(data, fmt.Sprintf(`{"id":"ent_%[1]s","feature":"feat_%[1]s","lookup_key":%[1]q}`, key))
		}
		s.Expect(t, hooktest.Event(id, mirror.Entitlements[0]+".updated", second, fmt.Sprintf(
			`{"object":"entitlements.active_entitlement_summary","customer":"cus_1","entitlements":{"object":"list","has_more":%v,"data":[%s]}}`,
			more, strings.Join(data, ","))), 200, webhooks.OutcomeProcessed)
	}
	summary("evt_s_1", 10, false, "sso", "audit")
	s.shows(t, "/customers/cus_1", ">Entitlements<", "feat_sso<", "ent_audit<", mountedAt+"/objects/entitlements.active_entitlement_summary/cus_1?livemode=false")
	s.lacks(t, "/customers/cus_1", "Incomplete: the customer")
	summary("evt_s_2", 11, true, "audit")
	s.shows(t, "/customers/cus_1", "feat_audit<", "Incomplete: the customer")
	s.lacks(t, "/customers/cus_1", "feat_sso<")
	summary("evt_s_3", 12, false)
	s.shows(t, "/customers/cus_1", "No active entitlements.")
}

var nextPage = regexp.MustCompile(`rel="next" href="([^"]*)"`)

// follow reads a listing page by page, and returns the ids of its rows.
func (s *stage) follow(t *testing.T, path string) (ids []string, pages int) {
	t.Helper()
	row := regexp.MustCompile(`href="` + mountedAt + `/objects/[a-z_]+/([^"?]+)\?`)
	for ; path != "" && pages < 20; pages++ {
		page := s.get(t, path, 200)
		for _, match := range row.FindAllStringSubmatch(page, -1) {
			ids = append(ids, match[1])
		}
		path = ""
		if next := nextPage.FindStringSubmatch(page); next != nil {
			path = strings.TrimPrefix(html.UnescapeString(next[1]), mountedAt)
		}
	}
	return ids, pages
}

// A listing has each object once, those of one second and those without a time too. A rare status is found however many others
// there are, and a count stops.
func TestObjectPages(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_objects (livemode, object_type, id, status, deleted, stripe_created_at, object)
		SELECT FALSE, 'price', 'price_' || n, CASE WHEN n % 24000 = 11 THEN 'rare' ELSE 'common' END, n % 7 = 0, to_timestamp(1000 + n / 4), '{}'
		FROM generate_series(1, 45000) AS n`)
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_objects (livemode, object_type, id, status, stripe_created_at, object)
		SELECT TRUE, 'plan', 'plan_' || n, 'active', CASE WHEN n % 2 = 0 THEN to_timestamp(1000 + n / 4) END, '{}' FROM generate_series(1, 130) AS n`)
	ids, pages := s.follow(t, "/objects?type=plan")
	seen := map[string]bool{}
	for _, id := range ids {
		seen[id] = true
	}
	if len(ids) != 130 || len(seen) != 130 || pages != 3 || ids[0] != "plan_130" {
		t.Errorf("it lists %d objects, %d different ones, on %d pages: %v", len(ids), len(seen), pages, ids)
	}
	if ids, pages := s.follow(t, "/objects?type=price&status=rare"); fmt.Sprint(ids) != "[price_24011 price_11]" || pages != 3 {
		t.Errorf("of a rare status it lists %v on %d pages", ids, pages)
	}
	s.shows(t, "/objects?type=price&status=rare", "20,000 objects were searched for this page")
	s.shows(t, "/objects", ">1,000&#43;</td>", ">130</td>")
}

// HidePayloads hides objects and what is read of them.
func TestHiddenObjects(t *testing.T) {
	t.Parallel()
	s := newStage(t, &console.Config{HidePayloads: true}, "customer")
	s.Expect(t, hooktest.Event("evt_1", "customer.created", 1, `{"id":"cus_1","object":"customer","created":1000,"email":"jenny@example.com"}`), 200, webhooks.OutcomeProcessed)
	for _, path := range []string{"/objects?type=customer", "/objects/customer/cus_1", "/customers/cus_1"} {
		s.lacks(t, path, "jenny")
		s.shows(t, path, "cus_1")
	}
}

func (s *stage) lacks(t *testing.T, path, other string) {
	t.Helper()
	if page := s.get(t, path, 200); strings.Contains(page, other) {
		t.Errorf("%s shows %q", path, other)
	}
}

// A listing says in a few words what an object is, whatever its members are.
func TestSummaries(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	for i, c := range []struct{ object, want string }{
		{`{"amount":1234567,"currency":"usd"}`, "12,345.67 USD"},
		{`{"amount":-5,"currency":"eur","description":"a refund"}`, "-0.05 EUR · a refund"},
		{`{"unit_amount":1500,"currency":"jpy","nickname":"Gold"}`, "1,500 JPY · Gold"},
		{`{"total":1500,"amount":7,"currency":"kwd","number":"F-1"}`, "1.500 KWD · F-1"},
		{`{"percent_off":12.5,"name":"Half","amount_off":null}`, "12.5 % · Half"},
		{`{"amount":"many","currency":7,"name":["x"],"email":"a@example.com","card":"visa"}`, "a@example.com"},
		{`{"description":"` + strings.Repeat("ä", 61) + `"}`, strings.Repeat("ä", 60) + "…"},
	} {
		kind := fmt.Sprintf("kind%d", i)
		pgtest.Exec(t, s.Pool, `INSERT INTO stripe_objects (livemode, object_type, id, object) VALUES (TRUE, '`+kind+`', 'x', '`+c.object+`')`)
		s.shows(t, "/objects?type="+kind, ">"+c.want+"</td>")
	}
}
