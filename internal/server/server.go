// Package server answers HTTP: metrics, the status page, health and reload.
package server

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/balance-exporter/balance_exporter/internal/exposition"
	"github.com/balance-exporter/balance_exporter/internal/logging"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Bounds on what a client may take. A scrape may wait for its deadline, so the
// answer has no bound here; the exposition sets one when it starts to write.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
)

// Options configure a [Server]. All fields are required.
type Options struct {
	TelemetryPath string
	// TimeoutOffset is taken off the time that Prometheus gives a scrape.
	TimeoutOffset time.Duration
	// Refresh brings the given kinds up to date, as far as it can until ctx ends.
	Refresh func(ctx context.Context, kinds []providers.Kind)
	// Serve writes metrics.
	Serve func(w http.ResponseWriter, r *http.Request, parts exposition.Parts)
	// Status tells the state of every account.
	Status func() []snapshot.Account
	// Reload loads the configuration again.
	Reload func() error
	// Demo says so on the status page.
	Demo   bool
	Logger log.Logger
}

// Server answers HTTP. Create one with [New].
type Server struct {
	opts     Options
	stopping atomic.Bool
}

// New returns a server.
func New(opts Options) *Server { return &Server{opts: opts} }

// HTTP returns the server for a listener, with its bounds on slow clients.
func (s *Server) HTTP() *http.Server {
	return &http.Server{
		Handler:           s.Routes(),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logging.Slog(s.opts.Logger).Handler(), slog.LevelWarn),
	}
}

// Stopping makes the server not ready, for the time in which it still answers.
func (s *Server) Stopping() { s.stopping.Store(true) }

// Routes returns the handler of all paths. No path but that of the metrics causes
// a provider to be asked.
func (s *Server) Routes() http.Handler {
	mux := http.NewServeMux()
	metrics := s.opts.TelemetryPath
	if strings.HasSuffix(metrics, "/") {
		metrics += "{$}" // and nothing below it
	}
	mux.HandleFunc("GET "+metrics, s.metrics)
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "healthy") })
	mux.HandleFunc("GET /-/ready", s.ready)
	mux.HandleFunc("POST /-/reload", s.reload)
	if s.opts.TelemetryPath != "/" {
		mux.HandleFunc("GET /{$}", s.statusPage)
	}
	return mux
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.stopping.Load() {
		say(w, http.StatusServiceUnavailable, "shutting down")
		return
	}
	say(w, http.StatusOK, "ready")
}

func (s *Server) reload(w http.ResponseWriter, _ *http.Request) {
	if err := s.opts.Reload(); err != nil {
		say(w, http.StatusInternalServerError, "the configuration was not reloaded, the one before stays in force: "+err.Error())
		return
	}
	say(w, http.StatusOK, "the configuration was reloaded")
}

func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n")) // a client that is gone is no fault of ours
}

func (s *Server) debug(keyvals ...any) { _ = level.Debug(s.opts.Logger).Log(keyvals...) }
