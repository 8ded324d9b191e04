// Package browser tests the console with a real Chromium. It is a module of its own, so that importing stripeonce does not
// add its dependencies.
package browser

import (
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// stepTimeout bounds each step. It does not assert speed.
const (
	stepTimeout  = time.Minute
	demoTimeout  = 4 * time.Minute
	askTime      = 5 * time.Second // for requests to the browser after a failure
	pollInterval = 10 * time.Millisecond
)

var screenshots = flag.String("screenshots", "", "the `folder` that screenshots are written to")

// Show, search and page through the demo's data, and replay failures, with the mouse and with the Enter key.
func TestConsole(t *testing.T) {
	d := startDemo(t)
	s := browse(t)
	s.do("size", chromedp.EmulateViewport(1200, 900))
	s.open(d.console.String(), "Overview")

	if failing := s.text(".figure.bad .value"); failing != "3" {
		t.Errorf("%s events fail", failing)
	}
	if s.count("svg.chart rect") == 0 {
		t.Error("the chart has no bar")
	}
	var background string
	s.do("style", chromedp.Evaluate(`getComputedStyle(document.querySelector('.figure')).borderRadius`, &background))
	if background != "10px" {
		t.Errorf("the style is not loaded: %q", background)
	}
	if lag := s.text(".figure:nth-of-type(3) .value"); !strings.HasSuffix(lag, "s") { // milliseconds or seconds
		t.Errorf("the time from Stripe to effect is %s", lag)
	}

	s.follow(`header nav a[href$="/events"]`, "Ledger")
	rows := s.count("tbody tr")
	s.follow(`a[rel=next]`, "Ledger")
	if rows != 50 || s.count("tbody tr") == 0 {
		t.Errorf("the first page has %d rows, the second %d", rows, s.count("tbody tr"))
	}
	s.do("search", chromedp.SetValue(`input[name=type]`, "invoice.paid", chromedp.ByQuery))
	s.follow(".filter button", "Ledger")
	if n := s.count("tbody tr"); n == 0 || !strings.Contains(s.text("tbody"), "invoice.paid") || strings.Contains(s.text("tbody"), "customer.subscription") {
		t.Errorf("the search shows %d rows:\n%s", n, s.text("tbody"))
	}
	s.picture("console-ledger")

	s.follow(`header nav a[href$="/subscriptions"]`, "Subscriptions")
	id := s.text("tbody tr td a.id")
	s.do("search", chromedp.SetValue(`input[name=q]`, id, chromedp.ByQuery))
	s.enter(`input[name=q]`, "Subscriptions")
	if n := s.count("tbody tr"); n != 1 {
		t.Errorf("the search finds %d subscriptions", n)
	}
	s.follow("tbody tr td a.id", id)
	if !strings.Contains(s.text("main"), "si_") || s.count("main section:nth-of-type(3) tbody tr") == 0 {
		t.Errorf("the subscription's page lacks items or events:\n%s", s.text("main"))
	}
	s.picture("console-subscription")

	shown := append(s.objects(), [2]string{"", "Overview"}, [2]string{"/events", "Ledger"}, [2]string{"/failures", "Failures"},
		[2]string{"/subscriptions", "Subscriptions"}, [2]string{"/subscriptions/" + id, id})
	s.follow(`header nav a[href$="/failures"]`, "Failures")
	if n := s.count("article.group"); n == 0 || n > 3 || !strings.Contains(s.text("article.group"), "this handler fails on purpose") {
		t.Errorf("there are %d groups of failures:\n%s", n, s.text("main"))
	}
	for left := 3; left > 0; left-- {
		s.follow(`a[href$="/failures?view=list"]`, "Failures")
		if n := s.count("tbody tr"); n != left {
			t.Fatalf("%d failures are listed, want %d", n, left)
		}
		event := s.text("tbody tr td a.id")
		s.follow("tbody tr form button", event)
		if flash := s.text(".flash"); !strings.HasPrefix(flash, "Replayed: ") {
			t.Errorf("replay says %q", flash)
		}
		if left == 3 {
			s.picture("console-replayed")
		}
		s.follow(`header nav a[href$="/failures"]`, "Failures")
	}
	if text := s.text(".empty"); !strings.Contains(text, "No failing events") {
		t.Errorf("in the end the failures are %q", text)
	}

	// Each page fits a large screen and a phone without horizontal scrolling. Without ByQuery, chromedp would wait forever on a page that
	// contains the text "h1" in an id.
	d.send(t, "evt_1uIvH1gg0uoTCbj2LgHEyvB5")
	for _, width := range []int64{1280, 375} {
		s.do("size", chromedp.EmulateViewport(width, 844))
		for _, p := range shown {
			page, heading := p[0], p[1]
			s.open(d.console.String()+page, heading)
			var wide int
			s.do("width of "+page, chromedp.Evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &wide))
			if wide > 0 {
				t.Errorf("on a screen of %d pixels %q is %d pixels too wide", width, page, wide)
			}
		}
	}
	s.picture("console-phone")
	for _, problem := range s.complaints() {
		t.Error(problem)
	}
}

// A page that never finishes loading fails the step within its timeout, and the failure names the pending request.
func TestHang(t *testing.T) {
	release := make(chan struct{})
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang.css" {
			<-release
			return
		}
		_, _ = io.WriteString(w, `<!DOCTYPE html><link rel="stylesheet" href="/hang.css"><script>console.warn('so far')</script><h1>Hang</h1>`)
	}))
	t.Cleanup(site.Close)
	t.Cleanup(func() { close(release) }) // before the site is closed, which waits for the request
	s := browse(t)
	s.timeout = askTime
	if err := s.leave("Hang", visit(site.URL)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the page that hangs gives %v", err)
	}
	if report := s.report(); !strings.Contains(report, `"GET `+site.URL+`/hang.css"`) || !strings.Contains(report, "at "+site.URL) {
		t.Errorf("the report does not name the pending request:\n%s", report)
	}
}
