// Package tracing traces a host's route, its statements and the receiver with OpenTelemetry.
package tracing

import (
	"context"
	"net/http"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/otelwebhooks"
)

// Tables are the host's.
const Tables = `CREATE TABLE payments (invoice_id text PRIMARY KEY, cents bigint NOT NULL)`

// Pool returns a pool whose statements are spans.
func Pool(ctx context.Context, url string, provider trace.TracerProvider) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.Tracer = otelpgx.NewTracer(otelpgx.WithTracerProvider(provider))
	return pgxpool.NewWithConfig(ctx, config)
}

// Route returns the webhook's route. Each request has a span, with the delivery's below it, and below that the handler's, with its
// statements.
func Route(pool *pgxpool.Pool, secret string, provider trace.TracerProvider) (http.Handler, error) {
	type invoice struct {
		ID         string `json:"id"`
		AmountPaid int64  `json:"amount_paid"`
	}
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *invoice) error {
		_, err := tx.Exec(ctx, `INSERT INTO payments (invoice_id, cents) VALUES ($1, $2)`, inv.ID, inv.AmountPaid)
		return err
	}, webhooks.Name("book payment"))
	r, err := webhooks.New(pool, h, &webhooks.Config{
		Secrets: []string{secret},
		Tracer:  otelwebhooks.NewTracer(&otelwebhooks.Config{TracerProvider: provider}),
	})
	if err != nil {
		return nil, err
	}
	return otelhttp.NewHandler(r, "stripe", otelhttp.WithTracerProvider(provider)), nil
}
