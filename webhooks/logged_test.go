package webhooks_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/pook/stripeonce/webhooks"
)

// logged is a receiver's log that a test reads.
type logged struct{ lockedBuffer }

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(&l.lockedBuffer, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logged) config(c *webhooks.Config) { c.Logger = l.logger() }

func (l *logged) want(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if log := l.String(); !strings.Contains(log, text) {
			t.Errorf("the log lacks %q:\n%s", text, log)
		}
	}
}
