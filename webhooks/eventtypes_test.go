package webhooks_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/webhooks"
)

// New warns of a registered type that Stripe does not send, once for each, and says which one was meant.
func TestUnknownTypeIsWarnedOf(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), "postgres:///nowhere") // never asked for a connection
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	for pattern, want := range map[string]string{
		"invoice.payed": "did you mean invoice.paid?", "invoices.*": "did you mean invoice.*?", "house.burned": "newer than this version's list",
		"invoice.paid": "", "invoice.*": "", "*": "", "v2.core.account.updated": "", "v2.*": "", "test.event": "",
	} {
		h := webhooks.NewHandlers()
		for range 2 {
			webhooks.On(h, pattern, func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error { return nil })
		}
		var log bytes.Buffer
		config := &webhooks.Config{Secrets: []string{hooktest.Secret}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		if _, err := webhooks.New(pool, h, config); err != nil {
			t.Fatal(err)
		}
		said := strings.TrimSpace(log.String())
		if want == "" && said != "" || want != "" && (!strings.Contains(said, want) || !strings.Contains(said, "level=WARN") ||
			!strings.Contains(said, "type="+pattern) || strings.Contains(said, "\n")) {
			t.Errorf("of %q the log is %q, want %q", pattern, said, want)
		}
	}
}
