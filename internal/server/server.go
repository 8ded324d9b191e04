// Package server is the HTTP server of `stripeonce serve`: the route, health, readiness and metrics.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
)

// WebhookPath is the path of the webhook route.
const WebhookPath = "/webhooks/stripe"

// The limits on a client's connection. Stripe sends small requests at once.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	readyTimeout      = 3 * time.Second
)

// StopTimeout bounds the wait for deliveries in flight when the server stops.
const StopTimeout = 20 * time.Second

// Server serves one receiver. Create it with New.
type Server struct {
	// Drain is how long the server still accepts deliveries after it is stopped, while /readyz reports that it is shutting
	// down: a load balancer needs that time to notice. 0: none.
	Drain time.Duration

	receiver *webhooks.Receiver
	echo     *echo.Echo
	registry *prometheus.Registry
	draining atomic.Bool
	logger   *slog.Logger
	http     *http.Server
}

// New returns a server. Serve starts it. /metrics has the receiver's metrics and those of collectors.
func New(r *webhooks.Receiver, logger *slog.Logger, collectors ...prometheus.Collector) *Server {
	s := &Server{receiver: r, logger: logger, echo: echo.New(), registry: prometheus.NewRegistry()}
	s.routes(collectors)
	s.http = &http.Server{
		Handler:           s.echo,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	return s
}

func (s *Server) routes(more []prometheus.Collector) {
	e := s.echo
	e.HTTPErrorHandler = answerError
	e.Use(s.closeWhileDraining)
	echov4.Mount(e, WebhookPath, s.receiver)
	e.GET("/healthz", func(c echo.Context) error {
		return c.JSON(http.StatusOK, map[string]string{"status": "ok"})
	})
	e.GET("/readyz", s.ready)
	s.registry.MustRegister(metrics.NewReceiver(s.receiver), metrics.NewBuild(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.registry.MustRegister(more...)
	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})))
}

// Metrics has the metrics of /metrics.
func (s *Server) Metrics() prometheus.Gatherer { return s.registry }

// Use wraps the server's handler. Call it before Serve.
func (s *Server) Use(middleware func(http.Handler) http.Handler) {
	s.http.Handler = middleware(s.http.Handler)
}

// closeWhileDraining makes clients open a new connection, which a load balancer directs to another server. Closing idle
// connections instead could cut a request in flight.
func (s *Server) closeWhileDraining(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.draining.Load() {
			c.Response().Header().Set("Connection", "close")
		}
		return next(c)
	}
}

func (s *Server) ready(c echo.Context) error {
	if s.draining.Load() {
		return c.JSON(http.StatusServiceUnavailable, map[string]string{"error": webhooks.ErrShutdown.Error()})
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), readyTimeout)
	defer cancel()
	err := s.receiver.Ready(ctx)
	if err == nil {
		return c.JSON(http.StatusOK, map[string]string{"status": "ready"})
	}
	s.logger.Warn("not ready", "error", err)
	return c.JSON(http.StatusServiceUnavailable, map[string]string{"error": reason(err)})
}

// reason returns why the receiver is not ready, without the driver's text, which names hosts and users.
func reason(err error) string {
	for _, plain := range []error{webhooks.ErrNotMigrated, webhooks.ErrShutdown, webhooks.ErrReadOnly, webhooks.ErrNotPermitted, webhooks.ErrRowSecurity,
		webhooks.ErrUnsuitable, webhooks.ErrNotReadBack, webhooks.ErrPooler} {
		if errors.Is(err, plain) {
			return err.Error()
		}
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return "PostgreSQL refuses: " + refused.Message + " (SQLSTATE " + refused.Code + ")"
	}
	return "PostgreSQL does not answer"
}

// answerError responds to requests that match no route, as JSON like all replies.
func answerError(err error, c echo.Context) {
	status := http.StatusInternalServerError
	var httpErr *echo.HTTPError
	if errors.As(err, &httpErr) {
		status = httpErr.Code
	}
	if !c.Response().Committed {
		_ = c.JSON(status, map[string]string{"error": http.StatusText(status)})
	}
}

// Serve serves on the listener until ctx ends, and for Drain after that. It then accepts no more requests, finishes those
// in flight within StopTimeout, and returns nil.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	if s.Drain > 0 {
		s.logger.Info("draining: not ready, but still accepting deliveries", "for", s.Drain)
		s.draining.Store(true)
		time.Sleep(s.Drain)
	}
	s.logger.Info("stopping: finishing deliveries in flight")
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), StopTimeout)
	defer cancel()
	if err := errors.Join(s.http.Shutdown(stop), s.receiver.Shutdown(stop)); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}
