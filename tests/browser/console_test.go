// Package browser looks at the console with a real Chromium. It is a module of its own, so that nobody who imports
// stripeonce meets what drives the browser.
package browser

import (
	"bufio"
	"context"
	"flag"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// patience bounds every wait. It is no assertion on speed.
const (
	patience     = 2 * time.Minute
	pollInterval = 10 * time.Millisecond
)

var screenshots = flag.String("screenshots", "", "the `folder` that screenshots are written to")

// demo runs `stripeonce demo --keep` and returns its console's URL, with user and password in it.
func demo(t *testing.T) *url.URL {
	t.Helper()
	program := filepath.Join(t.TempDir(), "stripeonce")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./cmd/stripeonce")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(program, "demo", "--keep", "--subscriptions", "60")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	var console *url.URL
	address, login := regexp.MustCompile(`The console: (\S+)`), regexp.MustCompile(`user (\S+), password (\S+)`)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if m := address.FindStringSubmatch(lines.Text()); m != nil {
			if console, err = url.Parse(m[1]); err != nil {
				t.Fatal(err)
			}
		}
		if m := login.FindStringSubmatch(lines.Text()); m != nil && console != nil {
			console.User = url.UserPassword(m[1], m[2])
			return console
		}
	}
	t.Fatal("the demo ended without a console")
	return nil
}

// browse starts a browser, which is closed at the end.
func browse(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("there is no Chromium: tools/ensure-chromium installs it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, patience)
	t.Cleanup(cancel)
	return ctx
}

type session struct {
	*testing.T
	ctx context.Context
}

func (s session) do(what string, actions ...chromedp.Action) {
	s.Helper()
	if err := chromedp.Run(s.ctx, actions...); err != nil {
		var page string
		_ = chromedp.Run(s.ctx, chromedp.OuterHTML("html", &page))
		s.Fatalf("%s: %v\n%.3000s", what, err, page)
	}
}

// follow clicks what leads to another page, and waits for that page's heading.
func (s session) follow(selector, heading string) {
	s.Helper()
	s.leave(heading, chromedp.Click(selector, chromedp.NodeVisible, chromedp.ByQuery))
}

// leave does what leads to another page. The page that is left is marked, since the next one may look the same.
func (s session) leave(heading string, action chromedp.Action) {
	s.Helper()
	s.do("leave", chromedp.Evaluate(`window.left = true`, nil), action)
	there := `!window.left && document.readyState === 'complete' && document.querySelector('h1').innerText.includes(` + quoted(heading) + `)`
	for arrived := false; !arrived; time.Sleep(pollInterval) {
		if err := chromedp.Run(s.ctx, chromedp.Evaluate(there, &arrived)); err != nil && s.ctx.Err() != nil { // while it changes there is no page to ask
			s.Fatalf("there is no page %q: %v", heading, err)
		}
	}
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `\'`) + "'" }

func (s session) text(selector string) (text string) {
	s.Helper()
	s.do("read "+selector, chromedp.Text(selector, &text, chromedp.NodeVisible, chromedp.ByQuery))
	return text
}

func (s session) count(selector string) (n int) {
	s.Helper()
	s.do("count "+selector, chromedp.Evaluate(`document.querySelectorAll(`+quoted(selector)+`).length`, &n))
	return n
}

// picture writes a screenshot, if they are wanted, in light and dark.
func (s session) picture(name string) {
	s.Helper()
	if *screenshots == "" {
		return
	}
	for scheme, suffix := range map[string]string{"light": "", "dark": "-dark"} {
		var png []byte
		s.do("picture "+name, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
			chromedp.CaptureScreenshot(&png))
		if err := os.WriteFile(filepath.Join(*screenshots, name+suffix+".png"), png, 0o644); err != nil {
			s.Fatal(err)
		}
	}
	s.do("light again", emulation.SetEmulatedMedia())
}

// Look, search, page, and mend what fails, with a mouse and with a keyboard's Enter, on the demo's own data.
func TestConsole(t *testing.T) {
	console := demo(t)
	s := session{t, browse(t)}
	var problems []string
	chromedp.ListenTarget(s.ctx, func(event any) { problems = append(problems, violation(event)...) })
	s.do("open", chromedp.EmulateViewport(1200, 900), chromedp.Navigate(console.String()), chromedp.WaitVisible("h1"))

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
	s.picture("console-overview")

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
	s.leave("Subscriptions", chromedp.SendKeys(`input[name=q]`, "\r", chromedp.ByQuery))
	if n := s.count("tbody tr"); n != 1 {
		t.Errorf("the search finds %d subscriptions", n)
	}
	s.follow("tbody tr td a.id", id)
	if !strings.Contains(s.text("main"), "si_") || s.count("main section:nth-of-type(3) tbody tr") == 0 {
		t.Errorf("the subscription's page lacks items or events:\n%s", s.text("main"))
	}
	s.picture("console-subscription")

	s.follow(`header nav a[href$="/failures"]`, "Failures")
	s.picture("console-failures")
	for left := 3; left > 0; left-- {
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
	if text := s.text(".empty"); !strings.Contains(text, "Nothing fails") {
		t.Errorf("in the end the failures are %q", text)
	}

	// A phone shows each page without scrolling it sideways.
	s.do("phone", chromedp.EmulateViewport(390, 844))
	for _, page := range []string{"", "/events", "/failures", "/subscriptions", "/subscriptions/" + id} {
		var wide int
		s.do("phone "+page, chromedp.Navigate(console.String()+page), chromedp.WaitVisible("h1"),
			chromedp.Evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &wide))
		if wide > 0 {
			t.Errorf("on a phone %q is %d pixels too wide", page, wide)
		}
	}
	s.picture("console-phone")
	for _, problem := range problems {
		t.Error(problem)
	}
}
