package eventtypes_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/eventtypes"
)

// The list is sorted, and has every type that the stripe-go of go.mod knows.
func TestList(t *testing.T) {
	t.Parallel()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/stripe/stripe-go/v79").Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "event.go"))
	if err != nil {
		t.Fatal(err)
	}
	list := eventtypes.List()
	if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
		t.Error("event_types.txt is not sorted, or has a type twice")
	}
	types := regexp.MustCompile(`EventType = "([^"]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(types) < 200 {
		t.Fatalf("only %d types are found in stripe-go", len(types))
	}
	for _, match := range types {
		if !slices.Contains(list, match[1]) {
			t.Errorf("event_types.txt lacks %s", match[1])
		}
	}
	for _, newer := range strings.Fields(`invoice.overpaid invoice.payment_attempt_required invoice_payment.paid refund.failed
		billing.credit_grant.created billing.credit_grant.updated billing.meter.created billing.meter.deactivated billing.meter.reactivated billing.meter.updated`) {
		if !slices.Contains(list, newer) {
			t.Errorf("event_types.txt lacks %s", newer)
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]bool{
		"invoice.paid": true, "invoice.*": true, "*": true, "customer.subscription.*": true, "billing.meter.*": true,
		"v2.core.account.updated": true, "v2.*": true, "v2.core.*": true, "v2.core.account[configuration.merchant].capability_status_updated": true,
		"billing.meter.no_meter_found": true, "test.event": true, "test.*": true,
		"invoice.payed": false, "invoices.*": false, "invoice": false, "Invoice.paid": false, "v1.invoice.paid": false, "tests.event": false, "v2x.*": false,
		"invoice.paid.*": false, "": false,
	} {
		if got := eventtypes.Matches(pattern); got != want {
			t.Errorf("%q matches: %t, want %t", pattern, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"invoice.payed": "invoice.paid", "invoice.payment_success": "invoice.payment_succeeded", "invoice_paid": "invoice.paid",
		"Invoice.Paid": "invoice.paid", "v1.invoice.paid": "invoice.paid", "checkout.session.complete": "checkout.session.completed",
		"subscription.updated": "customer.subscription.updated", "customer.subscription.cancelled": "",
		"invoices.*": "invoice.*", "subscription.*": "customer.subscription.*", "customers.subscription.*": "customer.subscription.*",
		"test.event": "", "a.b": "", "payment.received_by_bank": "",
	} {
		if got := eventtypes.Nearest(pattern); got != want {
			t.Errorf("nearest to %q is %q, want %q", pattern, got, want)
		}
	}
}
