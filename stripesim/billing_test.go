package stripesim_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/stripesim"
)

// everything plays a mixture and all scenarios in one account, with connected accounts and a lost event, and returns a hash of
// the events in both versions, their thin events, a storm's plan and the truth.
func everything(t *testing.T, seed uint64, scenarios []stripesim.Scenario) string {
	t.Helper()
	account := stripesim.New(seed, start)
	account.Connected = []string{"acct_1A"}
	account.Live(stripesim.Life{Subscriptions: 60, Bursts: true})
	account.Play(scenarios, 2*len(scenarios))
	_, lost := account.Subscriptions[3].FailPaymentUnheard(true)
	account.Subscriptions[3].Renew()
	hash := sha256.New()
	hash.Write(lost)
	for _, d := range stripesim.Wild.Plan(seed, account.Events) {
		hash.Write(d.Body())
		hash.Write(d.Event.Thin(true))
		hash.Write(d.Event.In(stripesim.VersionBeforeBasil))
	}
	var truth bytes.Buffer
	if err := stripesim.WriteTruth(&truth, account); err != nil {
		t.Fatal(err)
	}
	hash.Write(truth.Bytes())
	return hex.EncodeToString(hash.Sum(nil))
}

// A seed gives these deliveries until the simulation itself changes: then update the hashes.
func TestSeedIsStable(t *testing.T) {
	t.Parallel()
	slowUnderRace(t)
	var scenarios []stripesim.Scenario
	for _, name := range []string{"cancel-at-period-end", "downgrade", "dunning", "many-items", "pause-collection", "resume", "trial-to-paid", "upgrade"} {
		s, err := stripesim.NamedScenario(name)
		if err != nil {
			t.Fatal(err)
		}
		scenarios = append(scenarios, s)
	}
	for seed, want := range map[uint64]string{
		1: "16fdf5b6b7875bd38eb6936392dc28b9e0c13a6a812794f421ed885fc6a2ba98",
		7: "d60cec44184f3baa6eebcfef658029f5627dcd6473550db842861b4874bb781a",
	} {
		if got := everything(t, seed, scenarios); got != want {
			t.Errorf("seed %d gives %s, want %s", seed, got, want)
		}
	}
}

// billed returns an account with Billing, in which a mixture and all scenarios were played.
func billed(seed uint64) *stripesim.Account {
	account := stripesim.New(seed, start)
	account.Billing, account.Connected = true, []string{"acct_1A"}
	account.Live(stripesim.Life{Subscriptions: 60, Bursts: true})
	account.Play(stripesim.Scenarios(), len(stripesim.Scenarios()))
	return account
}

// summaryType is an object without an id.
const summaryType = "entitlements.active_entitlement_summary"

type objectKey struct{ account, kind, id string }

// silent are the types of which other events than updates have a new state, too.
var silent = []string{
	"subscription", "payment_intent", "charge", "dispute", "payment_method", "setup_intent", "checkout.session", "credit_note",
	"subscription_schedule", "payout",
}

// Each update with its previous attributes put back is the object of the event before it, in both versions. The last object is
// the truth. Events that are no updates have no previous attributes.
func TestBillingPreviousAttributes(t *testing.T) {
	t.Parallel()
	slowUnderRace(t)
	account := billed(3)
	for _, version := range []string{stripesim.VersionBeforeBasil, stripesim.VersionBasil} {
		last, lastType, updates := map[objectKey]object{}, map[objectKey]string{}, map[string]int{}
		for _, e := range account.Events {
			ev := decode(t, e.In(version))
			kind, _ := ev.Data.Object["object"].(string)
			k := objectKey{e.AccountID, kind, e.ObjectID}
			if kind == summaryType {
				k.id, _ = ev.Data.Object["customer"].(string)
			}
			before, former := last[k], lastType[k]
			switch {
			case kind == summaryType:
				if ev.Data.Previous != nil {
					t.Errorf("%s has previous attributes", e.ID)
				}
			case e.Type == "charge.refund.updated": // a second event of one change
				if former != "refund.updated" || len(ev.Data.Previous) == 0 || !reflect.DeepEqual(ev.Data.Object, before) {
					t.Errorf("%s %s is not the same as %s", e.Type, e.ID, former)
				}
			case strings.HasSuffix(e.Type, ".updated") || ev.Data.Previous != nil:
				updates[kind]++
				if got := restore(ev.Data.Object, ev.Data.Previous); !reflect.DeepEqual(comparison(got), comparison(before)) || len(ev.Data.Previous) == 0 {
					t.Fatalf("%s %s with its previous attributes put back is not the object before it:\n%s", e.Type, e.ID, e.In(version))
				}
			case strings.HasSuffix(e.Type, ".created"):
				if before != nil && !strings.HasSuffix(former, ".deleted") {
					t.Errorf("%s %s comes after %s", e.Type, e.ID, former)
				}
			case !slices.Contains(silent, kind) && former != "invoice.created" && !reflect.DeepEqual(comparison(ev.Data.Object), comparison(before)):
				t.Errorf("%s %s changes the object of %s", e.Type, e.ID, former)
			}
			last[k], lastType[k] = ev.Data.Object, e.Type
		}
		for _, o := range account.Objects() {
			k := objectKey{o.AccountID, o.Type, o.ID}
			var truth object
			if err := json.Unmarshal(o.In(version), &truth); err != nil {
				t.Fatal(err)
			}
			if o.Deleted != strings.HasSuffix(lastType[k], ".deleted") && o.Type != "subscription" {
				t.Errorf("%s: deleted is %v after %s", o.ID, o.Deleted, lastType[k])
			}
			if o.Deleted {
				last[k] = object{"id": o.ID, "object": o.Type, "deleted": true}
			}
			if !reflect.DeepEqual(comparison(truth), comparison(last[k])) {
				t.Errorf("the last event of %s is not its object", o.ID)
			}
			delete(last, k)
		}
		for k := range last {
			t.Errorf("%v has events, but is no object", k)
		}
		for _, kind := range []string{"subscription", "customer", "product", "price", "invoice"} {
			if updates[kind] < 20 {
				t.Errorf("only %d updates of a %s", updates[kind], kind)
			}
		}
		for _, kind := range []string{
			"charge", "refund", "dispute", "payment_method", "credit_note", "subscription_schedule", "coupon", "promotion_code", "tax_id", "payout",
		} {
			if updates[kind] < 3 {
				t.Errorf("only %d updates of a %s", updates[kind], kind)
			}
		}
	}
}

// The same seed gives the same events. Those of subscriptions have the ids and types that they have without Billing.
func TestBillingDeterministic(t *testing.T) {
	t.Parallel()
	slowUnderRace(t)
	a, b := billed(7), billed(7)
	if !slices.EqualFunc(a.Events, b.Events, func(x, y *stripesim.Event) bool { return bytes.Equal(x.Body, y.Body) }) {
		t.Error("one seed gave two histories")
	}
	life := stripesim.Life{Subscriptions: 60, Bursts: true}
	with, without := stripesim.New(7, start), grown(7, life)
	with.Billing = true
	with.Live(life)
	list := func(account *stripesim.Account) (events []string) {
		for _, ev := range account.Events {
			if ev.ObjectID != "" && ev.ObjectID == ev.SubscriptionID {
				events = append(events, fmt.Sprint(ev.ID, ev.Type, ev.Created, ev.ObjectID, firstItem(decode(t, ev.Body).Data.Object)))
			}
		}
		return events
	}
	if !slices.Equal(list(with), list(without)) {
		t.Error("the events of subscriptions differ with Billing")
	}
}

// typesSince returns the types of the events since the nth.
func typesSince(account *stripesim.Account, n int) (types []string) {
	for _, ev := range account.Events[n:] {
		types = append(types, ev.Type)
	}
	return types
}

// One change of a subscription makes several events of several objects within the second.
func TestBillingOfOneChange(t *testing.T) {
	t.Parallel()
	account := stripesim.New(1, start)
	account.Billing = true
	sub := account.Subscribe(stripesim.VersionBasil)
	sub.Activate()
	sub.CustomerObject().SetBalance(-300)
	for _, c := range []struct {
		change func()
		want   string
	}{
		{sub.Renew, "customer.subscription.updated invoice.created invoice.updated invoice.finalized customer.updated payment_intent.created charge.succeeded payment_intent.succeeded invoice.updated invoice.paid invoice.payment_succeeded"},
		{func() { sub.Upgrade(3) }, "customer.subscription.updated entitlements.active_entitlement_summary.updated invoice.created invoice.finalized payment_intent.created charge.succeeded payment_intent.succeeded invoice.updated invoice.paid invoice.payment_succeeded"},
		{sub.FailPayment, "customer.subscription.updated invoice.created invoice.updated invoice.finalized payment_intent.created charge.failed payment_intent.payment_failed invoice.updated invoice.payment_failed customer.updated customer.subscription.updated"},
		{sub.FailPayment, "charge.failed payment_intent.payment_failed invoice.updated invoice.payment_failed"},
		{func() { sub.LatestInvoice().MarkUncollectible() }, "invoice.updated invoice.marked_uncollectible customer.updated"},
		{func() { sub.LatestInvoice().Void() }, "payment_intent.canceled invoice.updated invoice.voided"},
		{sub.CustomerObject().Delete, "customer.subscription.deleted entitlements.active_entitlement_summary.updated customer.deleted"},
	} {
		account.Wait(time.Hour)
		n := len(account.Events)
		c.change()
		if got := strings.Join(typesSince(account, n), " "); got != c.want {
			t.Errorf("the events are\n%s, want\n%s", got, c.want)
		}
	}
	if st := sub.Status(); st != "canceled" {
		t.Errorf("the subscription of a deleted customer is %s", st)
	}
}

// The scenarios about other objects turn Billing on.
func TestBillingScenarios(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"checkout": {
			"checkout.session.completed", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed", "checkout.session.expired",
		},
		"customer-deleted":   {"customer.deleted", "customer.subscription.deleted"},
		"dispute":            {"charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed", "charge.dispute.funds_reinstated"},
		"entitlement-change": {"entitlements.active_entitlement_summary.updated"},
		"refund":             {"charge.refunded", "refund.created", "charge.refund.updated", "refund.failed", "credit_note.created"},
		"invoice-voided":     {"invoice.voided", "invoice.marked_uncollectible", "invoice.deleted"},
	} {
		s, err := stripesim.NamedScenario(name)
		if err != nil {
			t.Fatal(err)
		}
		account := stripesim.New(1, start)
		account.Play([]stripesim.Scenario{s}, 2)
		types := typesSince(account, 0)
		for _, eventType := range want {
			if !account.Billing || !slices.Contains(types, eventType) {
				t.Errorf("%s makes no %s", name, eventType)
			}
		}
	}
}

// Without Billing, the events are those of subscriptions and the important ones of their invoices. The truth follows from them. A
// lost event leaves the rest as it is.
func TestWithoutBilling(t *testing.T) {
	t.Parallel()
	account := grown(4, stripesim.Life{Subscriptions: 60, Bursts: true})
	n := len(account.Events)
	sub := account.Subscribe(stripesim.VersionBasil)
	sub.Activate()
	if got := strings.Join(typesSince(account, n), " "); got != "customer.subscription.created invoice.paid customer.subscription.updated" {
		t.Errorf("the first events are %s", got)
	}
	n = len(account.Events)
	lost, _ := sub.FailPaymentUnheard(false)
	if lost.Type != "customer.subscription.updated" || len(account.Events) != n || sub.Status() != "past_due" {
		t.Errorf("the lost event is %s, the subscription %s", lost.Type, sub.Status())
	}
	sub.Activate()
	statuses := map[string]string{}
	for _, ev := range account.Events {
		if status, ok := decode(t, ev.Body).Data.Object["status"].(string); ok {
			statuses[ev.ObjectID] = status
		}
	}
	kinds := map[string]int{}
	for _, o := range account.Objects() {
		var state struct{ Status string }
		if err := json.Unmarshal(o.In(stripesim.VersionBasil), &state); err != nil || state.Status != statuses[o.ID] {
			t.Errorf("%s is %s, after events up to %s (%v)", o.ID, state.Status, statuses[o.ID], err)
		}
		kinds[o.Type+" "+state.Status]++
	}
	if kinds["invoice paid"] < 60 || kinds["invoice open"] < 5 {
		t.Errorf("the objects are %v", kinds)
	}
}

// An invoice is created once, and a failed payment is that of the next period. Trials and pauses end with a new period.
func TestInvoicesArePossible(t *testing.T) {
	t.Parallel()
	account := stripesim.New(1, start)
	account.Billing = true
	account.Play(stripesim.Scenarios(), 2*len(stripesim.Scenarios()))
	createdAt, paid, period := map[string]float64{}, map[string]bool{}, map[string]int64{}
	for _, e := range account.Events {
		o := decode(t, e.In(stripesim.VersionBeforeBasil)).Data.Object
		switch created, _ := o["created"].(float64); {
		case strings.HasPrefix(e.Type, "invoice."):
			if at, known := createdAt[e.ObjectID]; known && at != created || !known && e.Type != "invoice.created" {
				t.Errorf("%s %s is created at %v, before at %v", e.Type, e.ObjectID, created, at)
			}
			if createdAt[e.ObjectID] = created; e.Type == "invoice.payment_failed" && paid[e.ObjectID] {
				t.Errorf("the payment of the paid invoice %s fails", e.ObjectID)
			}
			paid[e.ObjectID] = paid[e.ObjectID] || e.Type == "invoice.paid"
		case e.ObjectID == e.SubscriptionID && o["status"] == "active":
			end, _ := o["current_period_end"].(float64)
			if period[e.ObjectID] = int64(end); e.Created > int64(end) {
				t.Errorf("%s is active %d s after the end of its period", e.ObjectID, e.Created-int64(end))
			}
		}
	}
}

// The truth has the subscriptions first, and then each other object once, in the version of its events and with its account.
func TestBillingTruth(t *testing.T) {
	t.Parallel()
	slowUnderRace(t)
	account := billed(2)
	var truth bytes.Buffer
	if err := stripesim.WriteTruth(&truth, account); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(truth.String()), "\n")
	all := account.Objects()
	if len(lines) != len(all) {
		t.Fatalf("the truth has %d objects, want %d", len(lines), len(all))
	}
	versions := map[string]string{}
	for _, ev := range account.Events {
		var body struct {
			Version string `json:"api_version"`
		}
		if err := json.Unmarshal(ev.Body, &body); err != nil {
			t.Fatal(err)
		}
		if ev.ObjectID == "" {
			ev.ObjectID, _ = decode(t, ev.Body).Data.Object["customer"].(string)
		}
		versions[ev.ObjectID] = body.Version
	}
	seen := map[objectKey]bool{}
	for i, line := range lines {
		var got, want object
		if json.Unmarshal([]byte(line), &got) != nil || json.Unmarshal(all[i].Whole(versions[all[i].ID]), &want) != nil {
			t.Fatalf("line %d is %s", i+1, line)
		}
		if all[i].AccountID != "" {
			want["account"] = all[i].AccountID
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("line %d is %s", i+1, line)
		}
		k := objectKey{all[i].AccountID, all[i].Type, all[i].ID}
		if seen[k] || (got["object"] == "subscription") != (i < len(account.Subscriptions)) || (got["deleted"] == true) != all[i].Deleted {
			t.Errorf("line %d is of %v", i+1, k)
		}
		seen[k] = true
	}
}
