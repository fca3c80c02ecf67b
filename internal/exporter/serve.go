package exporter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"reflect"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/balance-exporter/balance_exporter/internal/logging"
	"github.com/balance-exporter/balance_exporter/internal/server"
)

// shutdownTime is how long scrapes in flight may take after SIGTERM.
const shutdownTime = 10 * time.Second

// Server returns the HTTP server of the exporter.
func (e *Exporter) Server() *server.Server {
	return server.New(server.Options{
		TelemetryPath: e.opts.TelemetryPath, ExternalURL: e.opts.ExternalURL, TimeoutOffset: e.opts.TimeoutOffset,
		Refresh: e.cache.Refresh, Serve: e.metrics.Serve,
		Names: e.cache.Names, Status: e.cache.Status, Subscribers: e.cache.Subscribers,
		StateReady: e.store.Ready, Reload: e.Reload, Demo: e.opts.Demo, Logger: e.logger,
	})
}

// serve answers scrapes until ctx ends.
func (e *Exporter) serve(ctx context.Context, reload <-chan os.Signal) error {
	s := e.Server()
	httpServer := s.HTTP()
	httpServer.BaseContext = func(l net.Listener) context.Context {
		e.logAddress(l)
		return context.Background()
	}
	failed := make(chan error, 1)
	go func() { failed <- web.ListenAndServe(httpServer, e.opts.Web, logging.Slog(e.logger)) }()
	for {
		select {
		case <-reload:
			if _, err := e.Reload(); err != nil {
				_ = level.Error(e.logger).Log("msg", "configuration not reloaded, the previous one stays active", "err", err)
			}
		case err := <-failed:
			return fmt.Errorf("cannot serve: %w", err)
		case <-ctx.Done():
			_ = level.Info(e.logger).Log("msg", "shutting down", "cause", context.Cause(ctx))
			s.Stopping()
			return shutDown(ctx, httpServer)
		}
	}
}

// shutDown waits for the scrapes in flight, and then closes their connections.
func shutDown(ctx context.Context, s *http.Server) error {
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	err := s.Shutdown(wait)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.Close()
	}
	if err != nil {
		return fmt.Errorf("shutting down: %w", err)
	}
	return nil
}

// logAddress logs where a person finds the metrics. The port of l is bound.
func (e *Exporter) logAddress(l net.Listener) {
	scheme, host := "http", l.Addr().String()
	if reflect.TypeOf(l) == reflect.TypeOf(tls.NewListener(l, &tls.Config{})) { //nolint:gosec // for its type
		scheme = "https"
	}
	if addr, ok := l.Addr().(*net.TCPAddr); ok && addr.IP.IsUnspecified() {
		host = fmt.Sprintf("localhost:%d", addr.Port)
	}
	_ = level.Info(e.logger).Log("msg", "serving metrics", "url", scheme+"://"+host+e.opts.TelemetryPath, "version", versionText())
}

func versionText() string {
	if version.Version == "" {
		return "development build"
	}
	return version.Version
}
