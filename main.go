// Command balance_exporter is a Prometheus exporter for balances and rates of
// telecom providers.
//
// The data goes one way: flags → configuration → accounts → cache → collectors →
// exposition → server. docs/architecture.md shows it on one page.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/balance-exporter/balance_exporter/collector"
	"github.com/balance-exporter/balance_exporter/internal/accounts"
	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/demo"
	"github.com/balance-exporter/balance_exporter/internal/exposition"
	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/logging"
	"github.com/balance-exporter/balance_exporter/internal/server"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers/all"
)

// shutdownTime is how long scrapes under way may take after SIGTERM.
const shutdownTime = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program, without its process: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	exited := -1
	f, err := parseFlags(args, stdout, func(code int) { exited = max(exited, code) })
	if exited >= 0 {
		return exited
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "balance_exporter: %v, try --help\n", err)
		return 1
	}
	if err := runWith(ctx, f, stdout, stderr); err != nil {
		_, _ = fmt.Fprintf(stderr, "balance_exporter: %v\n", err)
		return 1
	}
	return 0
}

func runWith(ctx context.Context, f flags, stdout, stderr io.Writer) error {
	logger, err := logging.New(stderr, f.logLevel, f.logFormat)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(f.telemetryPath, "/") || strings.HasPrefix(f.telemetryPath, "/-/") || strings.ContainsAny(f.telemetryPath, " {}") {
		return fmt.Errorf("--web.telemetry-path %q: expected a path that starts with / and is not below /-/", f.telemetryPath)
	}
	transport := httpapi.NewTransport
	if f.demo {
		network := demo.Network()
		transport = func(string, config.HTTP) (http.RoundTripper, error) { return network, nil }
	}
	e := newExporter(f, logger, transport)
	if f.configCheck {
		return e.check(stdout, stderr)
	}
	if err := e.open(); err != nil {
		return err
	}
	defer e.close()
	if f.once {
		return e.once(ctx, stdout, stderr)
	}
	return e.serve(ctx)
}

// exporter is the parts of the running program.
type exporter struct {
	flags    flags
	logger   log.Logger
	loader   *accounts.Loader
	requests *collector.Requests
	process  *collector.Process
	store    state.Store
	cache    *cache.Cache
	own      *prometheus.Registry // the exporter's own metrics
	metrics  *exposition.Exposition

	reloading sync.Mutex
}

// newExporter returns an exporter that has no accounts yet. transport makes the
// bottom of each account's request chain.
func newExporter(f flags, logger log.Logger, transport func(string, config.HTTP) (http.RoundTripper, error)) *exporter {
	e := &exporter{flags: f, requests: collector.NewRequests()}
	e.process = collector.NewProcess(func() []collector.KeptBytes { return e.metrics.Kept() })
	e.logger = logging.Masked(logger, func(text string) string { return e.loader.Mask(text) })
	e.loader = accounts.NewLoader(e.requests, e.logger, transport)
	return e
}

// open brings the accounts in, with what the state has kept of them.
func (e *exporter) open() error {
	loaded, err := e.load()
	if err != nil {
		return err
	}
	// The state comes second: a bad configuration must not touch it.
	e.store, err = state.Open(e.flags.stateURL, e.logger)
	if err != nil {
		return err
	}
	e.cache = cache.New(cache.Options{Store: e.store, Logger: e.logger, MaxWait: e.flags.maxWait})
	e.own = prometheus.NewPedanticRegistry()
	e.own.MustRegister(
		collector.NewStatus(e.cache.Status), e.requests, e.process,
		versioncollector.NewCollector("balance_exporter"),
	)
	e.metrics = exposition.New(exposition.Options{
		Groups: e.cache.Groups, Own: e.own, Registerer: e.handlerMetrics(), Logger: e.logger,
	})
	e.use(loaded)
	return nil
}

// handlerMetrics returns where the metrics about the process and its handler go:
// to the others, except when there is no handler.
func (e *exporter) handlerMetrics() prometheus.Registerer {
	if e.flags.once {
		return nil
	}
	e.own.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		// Without the memstats: their go_memstats_alloc_bytes gauge and counter
		// collide in OpenMetrics.
		collectors.NewGoCollector(collectors.WithGoCollectorMemStatsMetricsDisabled()),
	)
	return e.own
}

// close ends what open has begun.
func (e *exporter) close() {
	e.cache.Close()
	if err := e.store.Close(); err != nil {
		_ = level.Error(e.logger).Log("msg", "cannot close the state", "err", err)
	}
}

// load reads the configuration, the file's or the demo's, and notes whether that
// worked.
func (e *exporter) load() ([]accounts.Account, error) {
	loaded, warnings, err := e.read()
	e.process.Reloaded(err == nil)
	for _, warning := range warnings {
		_ = level.Warn(e.logger).Log("msg", warning)
	}
	return loaded, err
}

func (e *exporter) read() ([]accounts.Account, []string, error) {
	if !e.flags.demo {
		return e.loader.Load(e.flags.configFile)
	}
	file, err := config.Parse("demo.yml", ".", demo.Config(), os.LookupEnv, accounts.Defaults, all.Names())
	if err != nil {
		return nil, nil, err
	}
	return e.loader.Open(file)
}

// check prints what the configuration demands.
func (e *exporter) check(stdout, stderr io.Writer) error {
	loaded, warnings, err := e.read()
	if err != nil {
		return err
	}
	warnings = append(warnings, accounts.WritePlan(stdout, loaded)...)
	for _, warning := range warnings {
		_, _ = fmt.Fprintln(stderr, "warning:", warning)
	}
	return nil
}

// reload makes the configuration as it is now the one in force. If it is bad, the
// one before stays.
func (e *exporter) reload() error {
	e.reloading.Lock()
	defer e.reloading.Unlock()
	loaded, err := e.load()
	if err != nil {
		return err
	}
	e.use(loaded)
	return nil
}

func (e *exporter) use(loaded []accounts.Account) {
	next := make([]cache.Account, len(loaded))
	for i, a := range loaded {
		next[i] = a.Account
		e.requests.Expect(a.Provider, a.Name)
	}
	for _, warning := range accounts.WritePlan(io.Discard, loaded) {
		_ = level.Warn(e.logger).Log("msg", warning)
	}
	e.cache.Replace(next)
	_ = level.Info(e.logger).Log("msg", "configuration loaded", "accounts", len(next))
}

// server returns what answers HTTP.
func (e *exporter) server() *server.Server {
	return server.New(server.Options{
		TelemetryPath: e.flags.telemetryPath, TimeoutOffset: e.flags.timeoutOffset,
		Refresh: e.cache.Refresh, Serve: e.metrics.Serve, Status: e.cache.Status,
		Reload: e.reload, Demo: e.flags.demo, Logger: e.logger,
	})
}

// serve answers scrapes until ctx ends.
func (e *exporter) serve(ctx context.Context) error {
	s := e.server()
	go e.reloadOnHangup(ctx)
	httpServer := s.HTTP()
	_ = level.Info(e.logger).Log("msg", "balance_exporter serves", "url", e.address(), "version", cmp.Or(version.Version, "development build"))
	failed := make(chan error, 1)
	go func() { failed <- web.ListenAndServe(httpServer, e.flags.web, logging.Slog(e.logger)) }()
	select {
	case err := <-failed:
		return fmt.Errorf("cannot serve: %w", err)
	case <-ctx.Done():
	}
	_ = level.Info(e.logger).Log("msg", "shutting down", "cause", context.Cause(ctx))
	s.Stopping()
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := httpServer.Shutdown(wait); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("shutting down: %w", err)
	}
	return nil
}

func (e *exporter) reloadOnHangup(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-hangup:
			if err := e.reload(); err != nil {
				_ = level.Error(e.logger).Log("msg", "the configuration was not reloaded, the one before stays in force", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// address is where a person looks at the metrics.
func (e *exporter) address() string {
	scheme, host := "http", defaultAddress
	if len(*e.flags.web.WebListenAddresses) > 0 {
		host = (*e.flags.web.WebListenAddresses)[0]
	}
	if *e.flags.web.WebConfigFile != "" {
		scheme = "https"
	}
	if strings.HasPrefix(host, ":") {
		host = "localhost" + host
	}
	return scheme + "://" + host + e.flags.telemetryPath
}
