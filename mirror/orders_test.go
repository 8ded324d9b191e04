package mirror_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// short are histories of one object of up to eight events, most of them within one second.
var short = map[string]func(a *stripesim.Account) (id string){
	"customer: renamed, labeled and deleted in one second": func(a *stripesim.Account) string {
		c := a.AddCustomer(stripesim.VersionBasil)
		c.SetName("Ada", "ada@example.com")
		c.SetMetadata("plan", "gold")
		c.SetBalance(-500)
		c.Delete()
		return c.ID()
	},
	"customer: nested hashes": func(a *stripesim.Account) string {
		c := a.AddCustomer(stripesim.VersionBeforeBasil)
		c.SetAddress(stripesim.Address{City: "Berlin", Country: "DE"})
		c.SetInvoiceFooter("Thank you")
		c.SetAddress(stripesim.Address{City: "Paris", Country: "FR"})
		return c.ID()
	},
	"product: archived and renamed": func(a *stripesim.Account) string {
		p := a.AddProduct(stripesim.VersionBasil, "", "Gold")
		p.SetName("Platinum", "The best")
		p.SetActive(false)
		p.SetMetadata("a", "1")
		return p.ID()
	},
	"product: deleted, and created again under its id": func(a *stripesim.Account) string {
		p := a.AddProduct(stripesim.VersionBasil, "starter", "Starter")
		p.SetName("Starter kit", "For a start")
		a.Wait(time.Second)
		p.Delete()
		a.Wait(time.Second)
		p = a.AddProduct(stripesim.VersionBasil, "starter", "Starter again")
		p.SetMetadata("a", "1")
		return p.ID()
	},
	"price: nickname and lookup key": func(a *stripesim.Account) string {
		p := a.AddProduct(stripesim.VersionBasil, "", "Gold").AddPrice(1000, "month")
		p.SetNickname("gold")
		p.SetLookupKey("gold_monthly")
		p.SetNickname("gold monthly")
		p.SetActive(false)
		return p.ID()
	},
	"invoice: finalized and paid in one second": func(a *stripesim.Account) string {
		i := a.AddCustomer(stripesim.VersionBasil).AddInvoice(2)
		a.Wait(time.Second)
		i.Finalize()
		i.Pay()
		return i.ID()
	},
	"invoice: failed, uncollectible, and paid all the same": func(a *stripesim.Account) string {
		i := a.AddCustomer(stripesim.VersionBeforeBasil).AddInvoice(1)
		i.Finalize()
		a.Wait(time.Second)
		i.MarkUncollectible()
		a.Wait(time.Second)
		i.Pay()
		return i.ID()
	},
	"invoice: voided": func(a *stripesim.Account) string {
		i := a.AddCustomer(stripesim.VersionBasil).AddInvoice(3)
		i.Finalize()
		i.SetMetadata("a", "1")
		i.Void()
		return i.ID()
	},
}

// Every order of a short history of one object, or every hundredth of a longer one, ends as Stripe's object.
func TestEveryOrderOfShortHistories(t *testing.T) {
	t.Parallel()
	histories := maps.Clone(short)
	maps.Copy(histories, shortOfBilling)
	for name, live := range histories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			account := stripesim.New(1, stripesim.Epoch)
			account.Billing = true
			id := live(account)
			events := slices.DeleteFunc(slices.Clone(account.Events), func(ev *stripesim.Event) bool { return ev.ObjectID != id })
			if len(events) < 2 || len(events) > 8 {
				t.Fatalf("it has %d events", len(events))
			}
			w := newWorld(t, nil)
			w.api.Store(stripesim.NewAPI(account))
			kind := ""
			for _, o := range account.Objects() {
				if o.ID == id {
					kind = o.Type
				}
			}
			orders := 0
			hooktest.Permutations(len(events), func(order []int) {
				if orders++; orders%sampled(len(events)) != 0 || pgtest.Quick() && orders%20 != 0 {
					return
				}
				for _, i := range order {
					if err := w.apply(stripesim.Delivery{Event: events[i], Times: 1}); err != nil {
						t.Fatalf("order %v: %v", order, err)
					}
				}
				findings, err := judge.Objects(t.Context(), w.host.Pool, account, kind)
				findings = slices.DeleteFunc(findings, func(f judge.Finding) bool { return !strings.Contains(f.What, id) })
				if err != nil || len(findings) > 0 {
					t.Errorf("order %v: %v, %v", order, findings, err)
				}
				w.reset(t)
			})
		})
	}
}

// sampled is one in how many orders of so many events is tried: all of up to six events, and some 400 of more.
func sampled(events int) int {
	switch {
	case events <= 6:
		return 1
	case events == 7:
		return 13
	default:
		return 101
	}
}

// The histories of other objects in docs/ordering.md. An event is written "type@second state", or "type@second before→after" for
// an update. The state is an invoice's status, or a customer's name.
func TestHistories(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/ordering.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| history of another object | deliveries | outcomes | stored |\n| --- | --- | --- | --- |\n")
	if !found {
		t.Fatal("docs/ordering.md has no table of them")
	}
	n := 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		n++
		t.Run(cells[0], func(t *testing.T) {
			t.Parallel()
			checkHistory(t, cells[0], cells[1], cells[2], cells[3])
		})
	}
	if n < 10 {
		t.Errorf("the table has %d histories", n)
	}
}

func checkHistory(t *testing.T, name, deliveries, outcomes, stored string) {
	t.Helper()
	object, _, _ := strings.Cut(name, ":")
	member := map[string]string{"invoice": "status", "customer": "name"}[object]
	h := webhooks.NewHandlers()
	mirror.Register(h, &mirror.Config{Types: []string{object}, Logger: hooktest.NoLog()})
	host := hooktest.New(t, h, nil)
	var got []string
	for i, delivery := range strings.Split(deliveries, ", ") {
		kind, state, _ := strings.Cut(delivery, " ")
		kind, at, _ := strings.Cut(kind, "@")
		before, after, isUpdate := strings.Cut(state, "→")
		previous := ""
		if isUpdate {
			previous = fmt.Sprintf(`{%q:%q}`, member, before)
		} else {
			after = state
		}
		body := fmt.Sprintf(`{"id":"x_1","object":%q,%q:%q,"created":1767225600}`, object, member, after)
		reply := host.Send(t, event(fmt.Sprintf("evt_%d", 9-i), object+"."+kind, int64(at[0]-'0'), body, previous))
		got = append(got, string(reply.Outcome()))
	}
	row := pgtest.Scan[string](t, host.Pool, `SELECT object ->> '`+member+`' || CASE WHEN deleted THEN ' deleted' ELSE '' END FROM stripe_objects`)
	if strings.Join(got, ", ") != outcomes || row != stored {
		t.Errorf("the outcomes are %v, and %q is stored; want %s and %q", got, row, outcomes, stored)
	}
}
