package browser

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/inspector"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
)

const (
	maxRecent = 40       // how many events of the browser are kept
	maxOutput = 32 << 10 // how many bytes of its output
)

// witness records the browser's events, for the report of a failure.
type witness struct {
	mu       sync.Mutex
	start    time.Time
	pending  map[network.RequestID]string
	recent   []string
	output   []byte   // the end of Chromium's standard error
	problems []string // violations of the policy, and script errors
}

func newWitness() *witness {
	return &witness{start: time.Now(), pending: map[network.RequestID]string{}}
}

// note records an event of the browser.
func (w *witness) note(event any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch event := event.(type) {
	case *network.EventRequestWillBeSent:
		w.pending[event.RequestID] = event.Request.Method + " " + event.Request.URL
		w.remember("request %s", w.pending[event.RequestID])
	case *network.EventResponseReceived:
		w.pending[event.RequestID] += fmt.Sprintf(", answered %d", event.Response.Status)
	case *network.EventLoadingFinished:
		delete(w.pending, event.RequestID)
	case *network.EventLoadingFailed:
		w.remember("failed: %s: %s", w.pending[event.RequestID], event.ErrorText)
		delete(w.pending, event.RequestID)
	case *page.EventFrameNavigated:
		w.remember("at %s", event.Frame.URL)
	case *page.EventLifecycleEvent:
		w.remember("lifecycle: %s", event.Name)
	case *page.EventJavascriptDialogOpening:
		w.remember("a dialog waits: %s", event.Message)
	case *inspector.EventTargetCrashed:
		w.remember("the page crashed")
	case *runtime.EventConsoleAPICalled:
		for _, arg := range event.Args {
			w.remember("console: %s %s", event.Type, arg.Value)
		}
	case *runtime.EventExceptionThrown:
		w.problem("an exception: " + event.ExceptionDetails.Error())
	case *log.EventEntryAdded:
		text := fmt.Sprintf("the browser says: %s (%s)", event.Entry.Text, event.Entry.URL)
		w.remember("%s", text)
		if event.Entry.Level == log.LevelError {
			w.problem(text)
		}
	}
}

func (w *witness) remember(format string, args ...any) {
	line := fmt.Sprintf("%6.2fs  ", time.Since(w.start).Seconds()) + fmt.Sprintf(format, args...)
	w.recent = append(w.recent, fmt.Sprintf("%.200s", line)) // a URL may hold a whole picture
	w.recent = w.recent[max(0, len(w.recent)-maxRecent):]
}

func (w *witness) problem(text string) { w.problems = append(w.problems, text) }

// errorf records an error of chromedp.
func (w *witness) errorf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remember("chromedp: "+format, args...)
}

// Write records Chromium's output.
func (w *witness) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.output = append(w.output, text...)
	w.output = w.output[max(0, len(w.output)-maxOutput):]
	return len(text), nil
}

// complaints returns the problems so far.
func (w *witness) complaints() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.problems)
}

// report describes the browser's recent events and pending requests.
func (w *witness) report() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var pending []string
	for _, request := range w.pending {
		pending = append(pending, request)
	}
	slices.Sort(pending)
	var output []string
	for line := range strings.Lines(string(w.output)) {
		if !strings.Contains(line, "dbus/") { // most test machines have no D-Bus, which is not needed
			output = append(output, line)
		}
	}
	return fmt.Sprintf("pending requests: %q\nproblems: %q\nthe browser's last events, now at %.2fs:\n%s\nChromium's output:\n%s",
		pending, w.problems, time.Since(w.start).Seconds(), strings.Join(w.recent, "\n"), strings.Join(output, ""))
}
