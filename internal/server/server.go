// Package server serves HTTP: metrics, the status page, health and reload.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"path"
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

// Bounds on slow clients. A scrape may wait until its deadline, so there is no bound on
// the answer here; the exposition sets one when it starts to write.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
)

// Options configure a [Server]. All fields are required.
type Options struct {
	TelemetryPath string
	// ExternalURL is where users reach the server, for links; "" if it is not known.
	// [CheckExternalURL] has passed it.
	ExternalURL string
	// TimeoutOffset is subtracted from the scrape timeout that Prometheus sends.
	TimeoutOffset time.Duration
	// Refresh refreshes the sources of the given kinds that are due, until ctx ends, of
	// the given accounts; nil means all.
	Refresh func(ctx context.Context, kinds []providers.Kind, accounts []snapshot.Name)
	// Serve writes metrics; the request's context has the deadline of the scrape.
	Serve func(w http.ResponseWriter, r *http.Request, parts exposition.Parts)
	// Names returns the names of all accounts.
	Names func() []snapshot.Name
	// Status returns the state of every account.
	Status func() []snapshot.Account
	// StateReady returns why the state has never been reached; nil if it has.
	StateReady func(ctx context.Context) error
	// Subscribers returns at most most of the lowest and of the failing subscribers of
	// an account.
	Subscribers func(name snapshot.Name, most int) (lowest, failing []snapshot.Subscriber)
	// Reload loads the configuration again, and returns what has changed in one line.
	Reload func() (changes string, err error)
	// Demo marks the status page as a demo.
	Demo   bool
	Logger log.Logger
}

// Server serves HTTP. Create one with [New].
type Server struct {
	opts     Options
	stopping atomic.Bool
	// reserve is how long a scrape needs after its refreshes, in nanoseconds.
	reserve atomic.Int64
}

// New returns a server.
func New(opts Options) *Server { return &Server{opts: opts} }

// CheckPath returns what is wrong with a path for the metrics; nil for nothing.
func CheckPath(telemetryPath string) error {
	switch {
	case !strings.HasPrefix(telemetryPath, "/"):
		return errors.New("must start with /")
	case strings.HasPrefix(telemetryPath, "/-/"):
		return errors.New("must not be below /-/, which has the health and reload endpoints")
	case telemetryPath == accountPath || telemetryPath == statusPath:
		return errors.New("must not be the path of a page of the exporter; for example /metrics")
	case strings.ContainsAny(telemetryPath, " {}?#%"):
		return errors.New("must not contain spaces or any of {}?#%")
	case telemetryPath != path.Clean(telemetryPath) && telemetryPath != path.Clean(telemetryPath)+"/":
		return errors.New("must be a clean path, without //, /./ or /../; for example /metrics")
	}
	return nil
}

// CheckExternalURL returns what is wrong with the address of the server for users; nil
// for nothing or if it is not given.
func CheckExternalURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("must be a whole URL without user, query and fragment; for example https://ops.example.com/balances/")
	}
	return nil
}

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

// Stopping makes /-/ready fail while the last scrapes are served.
func (s *Server) Stopping() { s.stopping.Store(true) }

// Routes returns the handler of all paths. Only that of the metrics causes requests to
// providers.
func (s *Server) Routes() http.Handler {
	mux := http.NewServeMux()
	metrics := s.opts.TelemetryPath
	if strings.HasSuffix(metrics, "/") {
		metrics += "{$}" // and nothing below it
	}
	mux.HandleFunc("GET "+metrics, s.metrics)
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "healthy") })
	mux.HandleFunc("GET /-/ready", s.ready)
	// A page of another origin must not reload the configuration in a browser.
	mux.Handle("POST /-/reload", http.NewCrossOriginProtection().Handler(http.HandlerFunc(s.reload)))
	mux.HandleFunc("GET "+statusPath, s.statusJSON)
	if s.opts.TelemetryPath != "/" {
		mux.HandleFunc("GET /{$}", s.overview)
		mux.HandleFunc("GET "+accountPath, s.accountPage)
	}
	return mux
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.stopping.Load() {
		say(w, http.StatusServiceUnavailable, "shutting down")
		return
	}
	if err := s.opts.StateReady(r.Context()); err != nil {
		say(w, http.StatusServiceUnavailable, "the state has not been reached yet: "+err.Error())
		return
	}
	say(w, http.StatusOK, "ready")
}

func (s *Server) reload(w http.ResponseWriter, _ *http.Request) {
	changes, err := s.opts.Reload()
	if err != nil {
		say(w, http.StatusInternalServerError, "configuration not reloaded, the previous one stays active: "+err.Error())
		return
	}
	say(w, http.StatusOK, "configuration reloaded: "+changes)
}

func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n")) // the client may have gone
}

func (s *Server) debug(keyvals ...any) { _ = level.Debug(s.opts.Logger).Log(keyvals...) }
