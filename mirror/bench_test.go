package mirror

import (
	"testing"

	"github.com/pook/stripeonce/internal/redact"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// BenchmarkState decodes an invoice, removes its secrets, and digests it, as for each event.
func BenchmarkState(b *testing.B) {
	account := stripesim.New(1, stripesim.Epoch)
	account.Billing = true
	account.AddCustomer(stripesim.VersionBasil).AddInvoice(3).Finalize()
	ev, err := webhooks.ParseEvent(account.Events[len(account.Events)-1].Body)
	if err != nil {
		b.Fatal(err)
	}
	rule := ruleOf("invoice")
	b.SetBytes(int64(len(ev.Object)))
	b.ReportAllocs()
	for b.Loop() {
		clean := *ev
		clean.Object = redact.Secrets(ev.Object)
		o, err := rule.decode(&clean)
		if err != nil {
			b.Fatal(err)
		}
		o.digest(rule.ordering().Digest(o.Object))
	}
}
