package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// session is a browser with one page.
type session struct {
	*testing.T
	ctx     context.Context
	timeout time.Duration // bounds each step
	*witness
}

// browse starts a browser with a new profile, which is closed when the test ends. The first start reads hundreds of
// megabytes.
func browse(t *testing.T) session {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("there is no Chromium: make test installs it where it may")
	}
	s := session{t, nil, stepTimeout, newWitness()}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(profile(t)), chromedp.WSURLReadTimeout(stepTimeout), chromedp.CombinedOutput(s.witness))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	s.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithErrorf(s.errorf), chromedp.WithBrowserOption(chromedp.WithDialTimeout(stepTimeout)))
	t.Cleanup(func() { s.close(cancel) })
	chromedp.ListenTarget(s.ctx, s.note)
	// Not a context with a deadline: the browser would end with it.
	late := time.AfterFunc(stepTimeout, cancel)
	if err := chromedp.Run(s.ctx); err != nil || !late.Stop() {
		t.Fatalf("the browser has not started within %s: %v\n%s", stepTimeout, err, s.report())
	}
	return s
}

// profile returns an empty folder. Unlike that of TempDir, its removal at the end does not fail the test: processes of the browser may
// still be writing into it.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "stripeonce-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for late := time.Now().Add(askTime); os.RemoveAll(dir) != nil && time.Now().Before(late); {
			time.Sleep(pollInterval)
		}
	})
	return dir
}

// close ends the browser, and waits until it has ended, since it writes into its profile until then.
func (s session) close(kill context.CancelFunc) {
	defer kill()
	done := make(chan error, 1)
	go func() { done <- chromedp.Cancel(s.ctx) }()
	select {
	case <-done:
	case <-time.After(askTime):
	}
}

// try runs actions within the session's timeout. It returns even if chromedp does not.
func (s session) try(actions ...chromedp.Action) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- chromedp.Run(ctx, actions...) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("not within %s: %w", s.timeout, ctx.Err())
	}
}

func (s session) do(what string, actions ...chromedp.Action) {
	s.Helper()
	if err := s.try(actions...); err != nil {
		s.fail(what, err)
	}
}

// fail ends the test and prints the browser's recent events, and the page if it still responds.
func (s session) fail(what string, err error) {
	s.Helper()
	var text string
	s.timeout = askTime
	if pageErr := s.try(chromedp.Evaluate(`document.URL + ' (' + document.readyState + ')\n' + document.documentElement.outerHTML`, &text)); pageErr != nil {
		text = "not available: " + pageErr.Error()
	}
	s.Fatalf("%s: %v\n%s\nthe page: %.3000s", what, err, s.report(), text)
}

// open goes to a URL and waits for the page's heading.
func (s session) open(url, heading string) {
	s.Helper()
	if err := s.leave(heading, visit(url)); err != nil {
		s.fail("open "+url, err)
	}
}

// visit begins to load a page. Unlike chromedp.Navigate it does not wait for the page's events.
func visit(url string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		_, _, failure, _, err := page.Navigate(url).Do(ctx)
		if err == nil && failure != "" {
			err = errors.New(failure)
		}
		return err
	})
}

// follow clicks an element that leads to another page, and waits for that page's heading.
func (s session) follow(selector, heading string) {
	s.Helper()
	if err := s.leave(heading, chromedp.Click(selector, chromedp.NodeVisible, chromedp.ByQuery)); err != nil {
		s.fail("follow "+selector, err)
	}
}

// enter presses Enter in a field, and waits for the next page's heading.
func (s session) enter(selector, heading string) {
	s.Helper()
	if err := s.leave(heading, chromedp.SendKeys(selector, "\r", chromedp.ByQuery)); err != nil {
		s.fail("enter in "+selector, err)
	}
}

// leave runs an action that leads to another page, and waits until that is loaded. It marks the old page, since the next one
// may look the same.
func (s session) leave(heading string, action chromedp.Action) error {
	if err := s.try(chromedp.Evaluate(`window.left = true`, nil), action); err != nil {
		return err
	}
	there := `!window.left && document.readyState === 'complete' && !!document.querySelector('h1')?.innerText.includes(` + quoted(heading) + `)`
	return s.await("a page "+heading, there)
}

// await waits until an expression is true, also if the page is loaded again meanwhile.
func (s session) await(what, expression string) error {
	return s.try(chromedp.ActionFunc(func(ctx context.Context) error {
		for {
			var holds bool
			err := chromedp.Evaluate(expression, &holds).Do(ctx) // fails while the page changes
			if holds && err == nil {
				return nil
			}
			select {
			case <-time.After(pollInterval):
			case <-ctx.Done():
				return fmt.Errorf("there is not %s within %s: %w", what, s.timeout, errors.Join(ctx.Err(), err))
			}
		}
	}))
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

// picture writes a screenshot in the light and dark color scheme, if -screenshots is set.
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
