package otelwebhooks_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/otelwebhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// A receiver whose deliveries are traced. The application's own TracerProvider takes the place of the recorder.
func ExampleNewTracer() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	spans := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(spans))

	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error {
		return errors.New("no such organization")
	}, webhooks.Name("credit"))
	r, err := webhooks.New(pool, h, &webhooks.Config{
		Secrets: []string{webhookstest.Secret},
		Tracer:  otelwebhooks.NewTracer(&otelwebhooks.Config{TracerProvider: provider}),
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	paid := `{"id":"evt_1","type":"invoice.paid","data":{"object":{"id":"in_1","object":"invoice"}}}`
	req := httptest.NewRequest(http.MethodPost, "/webhooks/stripe", strings.NewReader(paid))
	req.Header.Set("Stripe-Signature", webhookstest.Sign([]byte(paid), webhookstest.Secret))
	r.ServeHTTP(httptest.NewRecorder(), req)

	for _, span := range spans.GetSpans() {
		fmt.Printf("%s: %s\n", span.Name, span.Status.Description)
	}
	// Output:
	// handler credit: handler of invoice.paid: no such organization
	// stripe invoice.paid: handler of invoice.paid: no such organization
}
