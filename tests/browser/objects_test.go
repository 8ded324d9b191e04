package browser

import (
	"strings"

	"github.com/chromedp/chromedp"
)

// objects goes from the mirrored types to an invoice, to its customer and back by the search. It returns the paths of what it has
// shown, each with its heading.
func (s session) objects() [][2]string {
	s.Helper()
	s.follow(`header nav a[href$="/objects"]`, "Objects")
	if kinds := s.text("tbody"); !strings.Contains(kinds, "invoice") || !strings.Contains(kinds, "customer") {
		s.Errorf("the mirrored types are\n%s", kinds)
	}
	s.follow(`tbody a[href*="type=invoice"]`, "Objects")
	rows := s.count("tbody tr")
	s.follow(`a[rel=next]`, "Objects")
	if rows != 50 || s.count("tbody tr") == 0 {
		s.Errorf("the first page has %d objects, the second %d", rows, s.count("tbody tr"))
	}
	s.do("filter", chromedp.SetValue(`input[name=status]`, "paid", chromedp.ByQuery))
	s.enter(`input[name=status]`, "Objects")
	if text := s.text("tbody"); !strings.Contains(text, "paid") || strings.Contains(text, "open") {
		s.Errorf("the paid invoices are\n%s", text)
	}
	s.picture("console-objects")

	invoice, customer := s.text(`tbody a[href*="/objects/invoice/"]`), s.text(`tbody a[href*="/customers/"]`)
	s.follow(`tbody a[href*="/objects/invoice/"]`, invoice)
	if text := s.text("main"); !strings.Contains(text, customer) || !strings.Contains(text, "invoice.") || s.count("pre[tabindex='0'] a") == 0 {
		s.Errorf("the invoice's page lacks its customer, its events or links to other objects:\n%s", text)
	}
	s.picture("console-object")
	s.follow(`dd a[href*="/customers/"]`, customer)
	for _, want := range []string{"Subscriptions", "Invoices", "Payments", "Payment methods", "Events", "sub_", invoice} {
		if !strings.Contains(s.text("main"), want) {
			s.Errorf("the customer's page lacks %q:\n%s", want, s.text("main"))
		}
	}
	s.picture("console-customer")
	shown := s.compare(customer)
	s.follow(`header nav a[href$="/objects"]`, "Objects")

	s.do("search", chromedp.SetValue(`header input[name=find]`, invoice, chromedp.ByQuery))
	s.enter(`header input[name=find]`, invoice)
	s.do("search", chromedp.SetValue(`header input[name=find]`, "in_unknown", chromedp.ByQuery))
	s.follow(`header form button`, "Search")
	if text := s.text("main"); !strings.Contains(text, "Nothing has this id") {
		s.Errorf("the search for an unknown id says\n%s", text)
	}
	return append(shown, [][2]string{{"/objects", "Objects"}, {"/objects?type=invoice", "Objects"}, {"/objects/invoice/" + invoice, invoice}, {"/customers/" + customer, customer}, {"/search", "Search"}, {"/runs", "Runs"}}...)
}

// compare compares everything of a customer with Stripe, beginning on the customer's page. The run's page refreshes itself until the run
// has ended. It returns the paths of what it has shown, each with its heading.
func (s session) compare(customer string) [][2]string {
	s.Helper()
	s.follow(`.actions a[href*="do=compare"]`, "Compare everything of "+customer)
	var ask string
	s.do("path", chromedp.Evaluate(`location.pathname + location.search`, &ask))
	s.picture("console-compare")
	s.do("reason", chromedp.SetValue(`input[name=reason]`, "ticket 7", chromedp.ByQuery))
	s.follow(`form.start button`, "verify")
	ended := `document.readyState === 'complete' && document.querySelector('h1 .pill')?.innerText === 'finished'`
	if err := s.await("the end of the run", ended); err != nil {
		s.fail("compare", err)
	}
	if text := s.text("main"); !strings.Contains(text, "console (stripeonce)") || !strings.Contains(text, "ticket 7") || !strings.Contains(text, customer) {
		s.Errorf("the run's page lacks who started it, why and of whom:\n%s", text)
	}
	s.picture("console-run")
	var run string
	s.do("path", chromedp.Evaluate(`location.pathname`, &run))
	s.follow(`header nav a[href$="/runs"]`, "Runs")
	if text := s.text("tbody"); !strings.Contains(text, "verify") || !strings.Contains(text, "finished") {
		s.Errorf("the runs are\n%s", text)
	}
	s.picture("console-runs")
	return [][2]string{
		{strings.TrimPrefix(ask, "/console"), "Compare everything of " + customer}, {strings.TrimPrefix(run, "/console"), "verify"},
		{"/runs/new?do=reconcile&window=1h", "Reconcile the last hour"},
	}
}
