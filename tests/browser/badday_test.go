package browser

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// From the warnings of a bad day to a group of failures, which is dismissed with a reason, with the mouse.
func TestBadDay(t *testing.T) {
	st := newSite(t)
	s := browse(t)
	s.do("size", chromedp.EmulateViewport(1200, 900))
	s.open(st.url+full, "Overview")
	if n := s.count(".banner"); n != 0 {
		t.Errorf("on a good day the overview warns:\n%s", s.text("main"))
	}
	s.picture("console-overview")
	st.goWrong(t)
	s.open(st.url+full, "Overview")
	for _, want := range []string{"Signatures fail", "153 events are failing", "7 events are parked", "A reconcile run found 12 missing events"} {
		if text := s.text("main"); !strings.Contains(text, want) {
			t.Errorf("the overview does not warn %q:\n%s", want, text)
		}
	}
	if text := s.text("#changed ~ .scroll tbody"); !strings.Contains(text, "invoice.*") || !strings.Contains(text, "in_") {
		t.Errorf("what changed is\n%s", text)
	}
	s.picture("console-bad-day")
	s.follow(`.banner a[href$="/failures?state=failing"]`, "Failures")
	if n, first := s.count("article.group"), s.text("article.group"); n != 5 || !strings.Contains(first, "Replay") {
		t.Errorf("there are %d groups, the first is\n%s", n, first)
	}
	s.open(st.url+full+"/failures", "Failures")
	s.picture("console-failures")
	s.do("phone", chromedp.EmulateViewport(375, 844))
	s.picture("console-failures-phone")
	s.open(st.url+full+"/events", "Ledger")
	s.picture("console-ledger-phone")
	s.open(st.url+full, "Overview")
	s.picture("console-bad-day-phone")

	s.do("size", chromedp.EmulateViewport(1200, 900))
	s.open(st.url+full+"/failures?type=customer.subscription.*", "Failures")
	s.follow(`.do a[href*="do=dismiss"]`, "Dismiss 41 events")
	s.picture("console-dismiss-group")
	s.do("reason", chromedp.SetValue(`input[name=reason]`, "the credits were granted by hand, ticket 4711", chromedp.ByQuery))
	s.follow(`form.start button`, "dismiss")
	if err := s.await("the end of the run", `document.readyState === 'complete' && document.querySelector('h1 .pill')?.innerText === 'finished'`); err != nil {
		s.fail("dismiss", err)
	}
	if text := s.text("main"); !strings.Contains(text, "41") || !strings.Contains(text, "ticket 4711") || !strings.Contains(text, "console (ada)") {
		t.Errorf("the run's page is\n%s", text)
	}
	s.picture("console-dismissed-group")
	s.open(st.url+full+"/failures?type=customer.subscription.*", "Failures")
	if text := s.text(".empty"); !strings.Contains(text, "No matching events") {
		t.Errorf("afterwards the failures are %q", text)
	}
	for _, problem := range s.complaints() {
		t.Error(problem)
	}
}
