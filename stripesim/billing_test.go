package stripesim_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

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

// Without Billing, a seed gives the deliveries that it gave before there was Billing.
func TestWithoutBilling(t *testing.T) {
	t.Parallel()
	var scenarios []stripesim.Scenario
	for _, name := range []string{"cancel-at-period-end", "downgrade", "dunning", "many-items", "pause-collection", "resume", "trial-to-paid", "upgrade"} {
		s, err := stripesim.NamedScenario(name)
		if err != nil {
			t.Fatal(err)
		}
		scenarios = append(scenarios, s)
	}
	for seed, want := range map[uint64]string{
		1: "a18a462df1fb1eb4f6faecef030131026ca70a3dfb91109c3e92e0536a1fcf08",
		7: "aeb8b33ffeb7f3886f432875713d1eb259c1c5e22c3c80945d8ca15fb61f15c4",
	} {
		if got := everything(t, seed, scenarios); got != want {
			t.Errorf("seed %d gives %s, want %s", seed, got, want)
		}
	}
}
