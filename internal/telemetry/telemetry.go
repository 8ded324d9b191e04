// Package telemetry exports the traces and metrics of the program as OpenTelemetry's standard environment variables say.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	prometheusbridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"golang.org/x/time/rate"

	"github.com/pook/stripeonce/internal/buildinfo"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/otelwebhooks"
)

// FlushTimeout bounds the export of what is left when the program stops.
const FlushTimeout = 3 * time.Second

// errorEvery spaces the warnings of exports that fail.
const errorEvery = time.Minute

// The variables that turn exports on. Others, such as OTEL_SERVICE_NAME, which deployments often set for all programs, do not.
const (
	envDisabled        = "OTEL_SDK_DISABLED"
	envEndpoint        = "OTEL_EXPORTER_OTLP_ENDPOINT"
	envTracesEndpoint  = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	envMetricsEndpoint = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
	envTracesExporter  = "OTEL_TRACES_EXPORTER"
	envMetricsExporter = "OTEL_METRICS_EXPORTER"
)

// Telemetry exports traces and metrics. The nil Telemetry exports nothing.
type Telemetry struct {
	traces     *sdktrace.TracerProvider
	metrics    *metric.MeterProvider
	propagator propagation.TextMapPropagator
	about      *resource.Resource
	logger     *slog.Logger
}

// Start starts the export of traces, if the environment turns on an export; nil: it does not. The error names the variable that is
// wrong. It connects to nothing: a collector that is not there is only logged.
func Start(ctx context.Context, logger *slog.Logger) (*Telemetry, error) {
	traces := isSet(envEndpoint) || isSet(envTracesEndpoint) || isSet(envTracesExporter)
	metrics := exportsMetrics()
	if strings.EqualFold(os.Getenv(envDisabled), "true") || !traces && !metrics {
		return nil, nil
	}
	if err := check(); err != nil {
		return nil, err
	}
	warnOfErrors(logger)
	about, err := describe(ctx)
	if err != nil {
		return nil, err
	}
	t := &Telemetry{propagator: autoprop.NewTextMapPropagator(), about: about, logger: logger}
	if traces {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s, OTEL_EXPORTER_OTLP_PROTOCOL: %w", envTracesExporter, err)
		}
		if !autoexport.IsNoneSpanExporter(exporter) {
			t.traces = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
		}
	}
	return t, nil
}

func exportsMetrics() bool {
	return isSet(envEndpoint) || isSet(envMetricsEndpoint) || isSet(envMetricsExporter)
}

// Metrics starts the export of the metrics that registry gathers, if the environment turns it on. The error names the variable that is
// wrong.
func (t *Telemetry) Metrics(ctx context.Context, registry prometheus.Gatherer) error {
	if t == nil || !exportsMetrics() {
		return nil
	}
	autoexport.WithFallbackMetricProducer(func(context.Context) (metric.Producer, error) {
		return prometheusbridge.NewMetricProducer(prometheusbridge.WithGatherer(registry)), nil
	})
	reader, err := autoexport.NewMetricReader(ctx)
	if err != nil {
		return fmt.Errorf("%s, OTEL_EXPORTER_OTLP_PROTOCOL: %w", envMetricsExporter, err)
	}
	if !autoexport.IsNoneMetricReader(reader) {
		t.metrics = metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(t.about))
	}
	return nil
}

func isSet(name string) bool { return os.Getenv(name) != "" }

// check refuses an endpoint that the exporters would take for another one without a word.
func check() error {
	for _, name := range []string{envEndpoint, envTracesEndpoint, envMetricsEndpoint} {
		value := os.Getenv(name)
		at, err := url.Parse(value)
		switch {
		case value == "":
		case err != nil, at.Scheme != "http" && at.Scheme != "https" && at.Scheme != "unix", at.Host == "" && at.Scheme != "unix":
			return fmt.Errorf("%s is not a URL: use one such as http://localhost:4318, or with OTEL_EXPORTER_OTLP_PROTOCOL=grpc http://localhost:4317", name)
		}
	}
	return nil
}

// describe returns what traces and metrics say of this program. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have precedence.
func describe(ctx context.Context) (*resource.Resource, error) {
	about, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName("stripeonce"), semconv.ServiceVersion(buildinfo.Read().Version)),
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(), resource.WithFromEnv(),
	)
	if errors.Is(err, resource.ErrPartialResource) { // such as no host name
		return about, nil
	}
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return about, nil
}

// warnOfErrors logs exports that fail, such as to a collector that is not there: one a minute.
func warnOfErrors(logger *slog.Logger) {
	limiter := rate.NewLimiter(rate.Every(errorEvery), 1)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		if limiter.Allow() {
			logger.Warn("could not export traces or metrics with OpenTelemetry", "error", err)
		}
	}))
}

// Tracer traces a receiver; nil: traces are not exported.
func (t *Telemetry) Tracer() webhooks.Tracer {
	if t == nil || t.traces == nil {
		return nil
	}
	return otelwebhooks.NewTracer(&otelwebhooks.Config{TracerProvider: t.traces})
}

// Middleware continues the trace of a proxy in front, whose headers OTEL_PROPAGATORS names: by default traceparent.
func (t *Telemetry) Middleware(next http.Handler) http.Handler {
	if t == nil || t.traces == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx := t.propagator.Extract(req.Context(), propagation.HeaderCarrier(req.Header))
		next.ServeHTTP(w, req.WithContext(ctx))
	})
}

// Stop exports what is left within FlushTimeout. What could not be exported is lost, which is logged.
func (t *Telemetry) Stop(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), FlushTimeout)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- t.shutdown(ctx) }() // what is exported may hang, such as a metric that is read from the database
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		t.logger.Warn("could not export the last traces or metrics with OpenTelemetry", "error", err)
	}
}

// shutdown ends both exports at the same time, so that one that hangs leaves time to the other.
func (t *Telemetry) shutdown(ctx context.Context) error {
	traces, metrics := make(chan error, 1), make(chan error, 1)
	go func() {
		if t.traces == nil {
			traces <- nil
			return
		}
		traces <- t.traces.Shutdown(ctx)
	}()
	go func() {
		if t.metrics == nil {
			metrics <- nil
			return
		}
		metrics <- t.metrics.Shutdown(ctx)
	}()
	return errors.Join(<-traces, <-metrics)
}
