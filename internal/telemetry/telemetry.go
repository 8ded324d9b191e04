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
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/pook/stripeonce/internal/buildinfo"
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
	logger     *slog.Logger
}

// Start starts what the environment turns on; nil: nothing. The metrics are those that registry gathers. The error names the variable
// that is wrong. It connects to nothing: a collector that is not there is only logged.
func Start(ctx context.Context, registry prometheus.Gatherer, logger *slog.Logger) (*Telemetry, error) {
	traces := isSet(envEndpoint) || isSet(envTracesEndpoint) || isSet(envTracesExporter)
	metrics := isSet(envEndpoint) || isSet(envMetricsEndpoint) || isSet(envMetricsExporter)
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
	t := &Telemetry{propagator: autoprop.NewTextMapPropagator(), logger: logger}
	if traces {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s, OTEL_EXPORTER_OTLP_PROTOCOL: %w", envTracesExporter, err)
		}
		if !autoexport.IsNoneSpanExporter(exporter) {
			t.traces = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
		}
	}
	if metrics {
		autoexport.WithFallbackMetricProducer(func(context.Context) (metric.Producer, error) {
			return prometheusbridge.NewMetricProducer(prometheusbridge.WithGatherer(registry)), nil
		})
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s, OTEL_EXPORTER_OTLP_PROTOCOL: %w", envMetricsExporter, err), t.shutdown(ctx))
		}
		if !autoexport.IsNoneMetricReader(reader) {
			t.metrics = metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(about))
		}
	}
	return t, nil
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
			logger.Warn("OpenTelemetry: traces or metrics could not be exported", "error", err)
		}
	}))
}

// TracerProvider creates spans; nil: traces are not exported.
func (t *Telemetry) TracerProvider() trace.TracerProvider {
	if t == nil || t.traces == nil {
		return nil
	}
	return t.traces
}

// Middleware continues the trace of a proxy in front, whose headers OTEL_PROPAGATORS names: by default traceparent.
func (t *Telemetry) Middleware(next http.Handler) http.Handler {
	if t.TracerProvider() == nil {
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
	if err := t.shutdown(ctx); err != nil {
		t.logger.Warn("OpenTelemetry: the last traces or metrics could not be exported", "error", err)
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
