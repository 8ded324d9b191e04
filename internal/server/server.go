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

// WebhookPath is where the route is mounted.
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

// StopTimeout bounds the wait for deliveries under way when the server stops.
const StopTimeout = 20 * time.Second

// Server serves one receiver. Create it with New.
type Server struct {
	// Drain is how long, once told to stop, it goes on taking deliveries while /readyz says that it stops:
	// the time that whatever is in front needs to notice. 0: none.
	Drain time.Duration

	receiver *webhooks.Receiver
	echo     *echo.Echo
	draining atomic.Bool
	logger   *slog.Logger
	http     *http.Server
}

// New makes the server; Serve starts it. /metrics shows the receiver's figures and those of collectors.
func New(r *webhooks.Receiver, logger *slog.Logger, collectors ...prometheus.Collector) *Server {
	s := &Server{receiver: r, logger: logger, echo: echo.New()}
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
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewReceiver(s.receiver), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(more...)
	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(registry, promhttp.HandlerOpts{})))
}

// closeWhileDraining has clients come back by another connection, which then leads elsewhere. To close idle
// connections instead would cut those on which a request is just on its way.
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

// reason says why the receiver is not ready. What the driver says of hosts and users is for the log.
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

// answerError answers what no route took, in the form that all replies have.
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

// Serve answers on the listener until ctx ends, and for Drain after that; then it accepts nothing more,
// finishes what is under way within StopTimeout, and returns nil.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	if s.Drain > 0 {
		s.logger.Info("draining: not ready any more, but still taking deliveries", "for", s.Drain)
		s.draining.Store(true)
		time.Sleep(s.Drain)
	}
	s.logger.Info("stopping: finishing the deliveries under way")
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), StopTimeout)
	defer cancel()
	if err := errors.Join(s.http.Shutdown(stop), s.receiver.Shutdown(stop)); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}
