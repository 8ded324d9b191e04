package erasure

import (
	"slices"
	"testing"
	"time"
)

// An object is found by its own id and its customer's, or where it names no customer by those of its payment.
func TestIDs(t *testing.T) {
	t.Parallel()
	for object, want := range map[string][]string{
		`{"id":"in_1","customer":"cus_1","charge":"ch_1"}`:                                    {"in_1", "cus_1"},
		` {"id":"in_1","customer":{"id":"cus_1","name":"Minna"}} `:                            {"in_1", "cus_1"},
		`{"id":"re_1","customer":null,"charge":"ch_1","payment_intent":{"id":"pi_1"}}`:        {"re_1", "ch_1", "pi_1"},
		`{"id":"inpay_1","invoice":"in_1","payment":{"payment_intent":"pi_1","type":"card"}}`: {"inpay_1", "in_1", "pi_1"},
		`{"id":"mandate_1","payment_method":"pm_1"}`:                                          {"mandate_1", "pm_1"},
		`{"object":"entitlements.active_entitlement_summary","customer":"cus_1"}`:             {"cus_1"},
		`{"id":7,"customer":[]}`: nil,
		`"cus_1"`:                nil,
		`{"id":"in_1"`:           nil,
		``:                       nil,
	} {
		if got := IDs([]byte(object)); !slices.Equal(got, want) {
			t.Errorf("%s has the ids %v, want %v", object, got, want)
		}
	}
	if got := Before([]byte(`{"customer":"cus_1"}`)); !slices.Equal(got, []string{"cus_1"}) {
		t.Errorf("the customer before is %v", got)
	}
}

// A subject is erased in its own mode and account alone, and unnoted unless its own id is known.
func TestState(t *testing.T) {
	t.Parallel()
	key, customer := parse(Hash("cus_1") + " t " + Hash("cus_1") + " acct_1")
	own, _ := parse(Hash("cus_2") + " f " + Hash("cus_2") + " ")
	noted, _ := parse(Hash("in_2") + " f " + Hash("cus_2") + " ")
	rows := map[mark]string{key: customer, own: Hash("cus_2"), noted: Hash("cus_2")}
	for name, c := range map[string]struct {
		subject         Subject
		erased, unnoted bool
	}{
		"a new object":                   {Subject{Account: "acct_1", Livemode: true, ID: "in_1", IDs: []string{"in_1", "cus_1"}}, true, true},
		"the customer":                   {Subject{Account: "acct_1", Livemode: true, ID: "cus_1", IDs: []string{"cus_1"}}, true, false},
		"an object without an id":        {Subject{Account: "acct_1", Livemode: true, IDs: []string{"cus_1"}}, true, false},
		"the other mode":                 {Subject{Account: "acct_1", ID: "in_1", IDs: []string{"in_1", "cus_1"}}, false, false},
		"another account":                {Subject{Account: "acct_2", Livemode: true, ID: "in_1", IDs: []string{"in_1", "cus_1"}}, false, false},
		"the receiver's own":             {Subject{Account: "acct_2", OwnAccount: true, ID: "in_2", IDs: []string{"cus_2", "in_2"}}, true, false},
		"not the receiver's own":         {Subject{Account: "acct_2", ID: "in_2", IDs: []string{"in_2", "cus_2"}}, false, false},
		"the receiver's, without a name": {Subject{OwnAccount: true, ID: "in_3", IDs: []string{"in_3", "cus_2"}}, true, true},
		"another customer":               {Subject{OwnAccount: true, ID: "in_3", IDs: []string{"in_3", "cus_3"}}, false, false},
	} {
		if got := c.subject.stateIn(rows); got.Erased != c.erased || got.Unnoted != c.unnoted {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A flag holds for the lease from when the lookup was sent, unless there are erasures.
func TestFlag(t *testing.T) {
	t.Parallel()
	var f Flag
	if !f.MustLook() {
		t.Error("a receiver that knows nothing need not look")
	}
	f.Learn(time.Now(), false)
	if f.MustLook() {
		t.Error("a receiver that knows of none must look")
	}
	f.Learn(time.Now().Add(-Lease-time.Second), false)
	if !f.MustLook() {
		t.Error("after the lease it need not look")
	}
	f.Learn(time.Now(), true)
	if !f.MustLook() {
		t.Error("where there are erasures it need not look")
	}
}
