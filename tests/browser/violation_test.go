package browser

import (
	"fmt"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
)

// violation is what the browser complains of: what the policy refuses, a script's error.
func violation(event any) []string {
	switch event := event.(type) {
	case *log.EventEntryAdded:
		if event.Entry.Level == log.LevelError {
			return []string{fmt.Sprintf("the browser says: %s (%s)", event.Entry.Text, event.Entry.URL)}
		}
	case *runtime.EventExceptionThrown:
		return []string{"an exception: " + event.ExceptionDetails.Error()}
	}
	return nil
}
