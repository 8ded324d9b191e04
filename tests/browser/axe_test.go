package browser

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const (
	axeFolder = "node_modules/axe-core/"
	// pagesPath lists the patterns of the console's pages. A test of the console compares it with the pages that are served.
	pagesPath = "../../console/testdata/pages.txt"
)

// readAxe returns axe-core's source, of the version in package-lock.json. npm installs it where it is missing.
func readAxe(t *testing.T) string {
	t.Helper()
	want := versionIn(t, "package.json")
	if versionIn(t, axeFolder+"package.json") != want {
		out, err := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund").CombinedOutput()
		if err != nil {
			t.Skipf("there is no axe-core %s, and npm ci did not install it (make test installs npm where it may): %v\n%s", want, err, out)
		}
	}
	source, err := os.ReadFile(axeFolder + "axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// versionIn returns the version of axe-core that a package.json requires or has; empty without that file.
func versionIn(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	var manifest struct {
		Version         string
		DevDependencies map[string]string
	}
	if err == nil {
		err = json.Unmarshal(text, &manifest)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return cmp.Or(manifest.DevDependencies["axe-core"], manifest.Version)
}

// finding is a violation of one of axe's rules.
type finding struct {
	ID, Help string
	Nodes    []struct {
		HTML           string
		FailureSummary string
	}
}

// visits are the paths of the pages to check: each page of the console, full and empty, with errors, and as a user who may only look has it
// where it differs.
func (s *site) visits(t *testing.T) (paths []string) {
	t.Helper()
	sub := s.scan(t, `SELECT id FROM subscriptions ORDER BY id LIMIT 1`)
	invoice := s.scan(t, `SELECT id FROM stripe_objects WHERE object_type = 'invoice' ORDER BY id LIMIT 1`)
	customer := s.scan(t, `SELECT customer_id FROM subscriptions ORDER BY id LIMIT 1`)
	processed := s.scan(t, `SELECT event_id FROM stripe_webhook_events WHERE outcome = 'processed' AND event_type LIKE 'invoice%' ORDER BY processed_at DESC LIMIT 1`)
	both := []string{
		"", "?span=30d", "/events", "/events?type=zzz", "/events?customer=" + customer, "/events/" + processed, "/events/" + failing, "/events/" + parked, "/events/" + dismissed,
		"/failures", "/failures?view=list", s.group(t, ""), "/failures?type=zzz", "/failures?group=000000000000", "/subscriptions", "/subscriptions/" + sub, "/subscriptions?q=x", "/objects",
		"/objects?type=invoice", "/objects?type=invoice&status=zzz", "/objects/invoice/" + invoice, "/customers/" + customer, "/search", "/search?find=zzz", "/runs", "/runs?kind=erase",
		"/runs/" + runMissing, "/runs/" + runFailed, "/runs/" + runProgress, "/runs/" + runDiffers,
	}
	for _, path := range both {
		paths = append(paths, full+path)
		if strings.ReplaceAll(s.text(t, looks+path), looks, full) != s.text(t, full+path) {
			paths = append(paths, looks+path)
		}
	}
	for _, path := range []string{
		"/runs/new?do=reconcile&window=1h", "/runs/new?do=compare&livemode=false&customer=" + customer, "/runs/new?do=fetch&livemode=false&type=invoice&id=" + invoice, s.group(t, "replay"), s.group(t, "dismiss"),
		"/events/" + processed + "/reprocess", "/events/evt_unknown", "/events?until=x", "/runs/new?do=dismiss&group=000000000000", "/zzz",
	} {
		paths = append(paths, full+path)
	}
	paths = append(paths, looks+s.group(t, "dismiss"), hidden+"/events/"+failing, hidden+"/subscriptions/"+sub, hidden+"/runs/"+runDiffers, broken+"/events")
	for _, path := range []string{"", "/events", "/failures", "/subscriptions", "/objects", "/search", "/runs"} {
		paths = append(paths, empty+path)
	}
	return paths
}

// text returns the text of a page.
func (s *site) text(t *testing.T, path string) string {
	t.Helper()
	response, err := http.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// unvisited returns the patterns of the console's pages that no path leads to.
func unvisited(t *testing.T, paths []string) (patterns []string) {
	t.Helper()
	text, err := os.ReadFile(pagesPath)
	if err != nil {
		t.Fatal(err)
	}
	mux, left := http.NewServeMux(), map[string]bool{}
	for _, pattern := range strings.Fields(string(text)) {
		mux.Handle("GET "+pattern, http.NotFoundHandler())
		left["GET "+pattern] = true
	}
	for _, path := range paths {
		path = strings.TrimPrefix(path, full)
		if path == "" || path[0] != '/' {
			path = "/" + path
		}
		_, pattern := mux.Handler(httptest.NewRequest(http.MethodGet, path, nil))
		delete(left, pattern)
	}
	for pattern := range left {
		patterns = append(patterns, pattern)
	}
	return patterns
}

// axe finds nothing on any page, in both color schemes, at the widths of a large screen and of a phone, and no page is wider than these.
func TestAccessible(t *testing.T) {
	source := readAxe(t)
	st := newSite(t)
	st.goWrong(t)
	paths := st.visits(t)
	if left := unvisited(t, paths); len(left) > 0 {
		t.Errorf("the test visits no page of %v", left)
	}
	s := browse(t)
	for _, path := range paths {
		s.open(st.url+path, "")
		s.do("no further loading", page.StopLoading(), chromedp.Evaluate(source, nil))
		s.check(path, 375, "light", `{resultTypes: ['violations']}`)
		s.check(path, 1280, "light", `{resultTypes: ['violations']}`)
		// The only rules about colors, at the width that shows the most.
		s.check(path, 1280, "dark", `{resultTypes: ['violations'], runOnly: ['color-contrast', 'link-in-text-block']}`)
	}
}

// check runs axe with options on the page that is open.
func (s session) check(path string, width int64, scheme, options string) {
	s.Helper()
	var text string
	var wide int
	await := func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }
	s.do(fmt.Sprintf("axe on %s, %d, %s", path, width, scheme), chromedp.EmulateViewport(width, 844),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		chromedp.Evaluate(`axe.run(document, `+options+`).then(r => JSON.stringify(r.violations))`, &text, await),
		chromedp.Evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &wide))
	var findings []finding
	if err := json.Unmarshal([]byte(text), &findings); err != nil {
		s.Fatalf("axe returns %q: %v", text, err)
	}
	for _, f := range findings {
		s.Errorf("%s at %d pixels, %s: %s: %s, %d times, the first: %s\n%s", path, width, scheme, f.ID, f.Help, len(f.Nodes), f.Nodes[0].HTML, f.Nodes[0].FailureSummary)
	}
	if wide > 0 {
		s.Errorf("%s at %d pixels is %d pixels too wide", path, width, wide)
	}
}
