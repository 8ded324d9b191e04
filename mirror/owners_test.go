package mirror_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/webhooks"
)

// wallet is Stripe's API with customers, one a page, and payment methods, which it lists by customer alone.
type wallet struct {
	mu       sync.Mutex
	methods  map[string][]string // by customer
	detached []string
	requests []string
}

func method(id, customer string) string {
	return fmt.Sprintf(`{"id":%q,"object":"payment_method","created":1767225600,"livemode":false,"customer":%s}`, id, customer)
}

func (s *wallet) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, strings.TrimPrefix(req.URL.Path, "/v1/")+" "+req.URL.Query().Get("customer"))
	customers := slices.Sorted(func(yield func(string) bool) {
		for id := range s.methods {
			if !yield(id) {
				return
			}
		}
	})
	switch id, one := strings.CutPrefix(req.URL.Path, "/v1/payment_methods/"); {
	case req.URL.Path == "/v1/customers":
		from := slices.Index(customers, req.URL.Query().Get("starting_after")) + 1
		fmt.Fprintf(w, `{"object":"list","has_more":%v,"data":[{"id":%q,"object":"customer","livemode":false}]}`, from+1 < len(customers), customers[from])
	case req.URL.Path == "/v1/payment_methods":
		var list []string
		for _, id := range s.methods[req.URL.Query().Get("customer")] {
			list = append(list, method(id, `"`+req.URL.Query().Get("customer")+`"`))
		}
		fmt.Fprintf(w, `{"object":"list","has_more":false,"data":[%s]}`, strings.Join(list, ","))
	case one && slices.Contains(s.detached, id):
		fmt.Fprint(w, method(id, "null"))
	default:
		for customer, ids := range s.methods {
			if slices.Contains(ids, id) {
				fmt.Fprint(w, method(id, `"`+customer+`"`))
				return
			}
		}
		http.Error(w, `{"error":{"type":"invalid_request_error","code":"resource_missing","message":"no such payment method"}}`, http.StatusNotFound)
	}
}

// Objects that Stripe lists by customer alone are compared and imported customer by customer.
func TestObjectsListedByCustomer(t *testing.T) {
	t.Parallel()
	s := &wallet{methods: map[string][]string{"cus_1": {"pm_1", "pm_2"}, "cus_2": nil, "cus_3": {"pm_3"}}, detached: []string{"pm_4"}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	h := webhooks.NewHandlers()
	types := []string{"payment_method"}
	mirror.Register(h, &mirror.Config{Types: types, Logger: hooktest.NoLog()})
	host := hooktest.New(t, h, nil)
	host.Expect(t, event("evt_4", "payment_method.attached", 1, method("pm_4", `"cus_1"`), ""), http.StatusOK, webhooks.OutcomeProcessed)
	var drifted []string
	config := &mirror.VerifyConfig{
		Types: types, APIKey: "sk_test_1", APIBase: server.URL, Rate: 1e6, Fix: host.Receiver,
		Each: func(d mirror.Difference) { drifted = append(drifted, d.ID+" "+d.Field) },
	}
	once := *config
	once.Fix, once.Each = nil, nil
	if sum, err := mirror.Verify(t.Context(), host.Pool, &once); err != nil || sum.Checked != 4 || sum.Drifted != 4 {
		t.Errorf("without Fix, each object is counted once: %+v, %v", sum, err)
	}
	jobs, err := mirror.Jobs(host.Pool, config)
	if err != nil {
		t.Fatal(err)
	}
	var positions []string
	page := func(_ context.Context, v engine.Verified) error {
		positions = append(positions, v.Position.ID)
		return nil
	}
	if sum, err := jobs[0].Import(t.Context(), time.Time{}, engine.Position{ID: "cus_1"}, page); err != nil || sum.Fixed != 1 || !slices.Equal(positions, []string{"cus_2", "cus_3"}) {
		t.Errorf("from the second customer on: %+v, %v, %v", sum, positions, err)
	}
	if sum, err := mirror.Verify(t.Context(), host.Pool, config); err != nil || sum.Fixed != 3 {
		t.Errorf("with what is missing, and what was detached: %+v, %v", sum, err)
	}
	want := []string{"pm_1 id", "pm_2 id", "pm_3 id", "pm_4 customer"}
	if slices.Sort(drifted); !slices.Equal(drifted, want) {
		t.Errorf("%v drifted, want %v", drifted, want)
	}
	s.requests = nil
	if sum, err := mirror.Verify(t.Context(), host.Pool, config); err != nil || sum.Drifted != 0 {
		t.Errorf("of equal sides: %+v, %v", sum, err)
	}
	if n := len(s.requests); n != 4+3+3+1 {
		t.Errorf("it took %d requests, want one for each row, each page of customers, each customer, and the test clocks: %q", n, s.requests)
	}
	rows := pgtest.Scan[string](t, host.Pool, `SELECT string_agg(concat_ws(' ', id, customer_id), ', ' ORDER BY id) FROM stripe_objects`)
	if rows != "pm_1 cus_1, pm_2 cus_1, pm_3 cus_3, pm_4" {
		t.Errorf("the rows are %s", rows)
	}
}
