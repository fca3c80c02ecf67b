// Package exporter puts the program together:
//
//	configuration → accounts → cache → collectors → exposition → server
//
// docs/architecture.md shows it on one page.
package exporter

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/balance-exporter/balance_exporter/collector"
	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/demo"
	"github.com/balance-exporter/balance_exporter/internal/exposition"
	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/logging"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/server"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers/all"
)

// gcPercent is how much the heap grows until garbage is collected. What the exporter holds
// hardly changes, so that collecting more often than by default (100) costs little, and a
// fleet takes a quarter less memory: BenchmarkFleet in internal/cache.
const gcPercent = 35

// Options are the command line; see flags.go for their meaning.
type Options struct {
	ConfigFile  string
	ConfigCheck bool
	Demo        bool
	Once        bool
	HealthCheck bool

	StateURL          string
	StatePasswordFile string // empty for none
	StatePrefix       string

	TimeoutOffset time.Duration
	MaxWait       time.Duration

	TelemetryPath string
	ExternalURL   string
	Web           *web.FlagConfig

	LogLevel, LogFormat string
}

// Run runs the program until its work is done or ctx ends. A value from reload makes
// it load the configuration again. Metrics of --once and the plan of --config.check
// go to stdout, logs and messages for a person to stderr.
func Run(ctx context.Context, opts Options, reload <-chan os.Signal, stdout, stderr io.Writer) error {
	if set := debug.SetGCPercent(gcPercent); set != 100 {
		debug.SetGCPercent(set) // by GOGC
	}
	if opts.HealthCheck {
		return HealthCheck(ctx, *opts.Web.WebListenAddresses)
	}
	if err := server.CheckPath(opts.TelemetryPath); err != nil {
		return fmt.Errorf("--web.telemetry-path %q: %w", opts.TelemetryPath, err)
	}
	if err := server.CheckExternalURL(opts.ExternalURL); err != nil {
		return fmt.Errorf("--web.external-url %q: %w", opts.ExternalURL, err)
	}
	masks := secret.NewMask()
	logger, err := logging.New(stderr, opts.LogLevel, opts.LogFormat, masks.String)
	if err != nil {
		return err
	}
	logging.RedirectStd(logger) // net/http logs there
	e := New(opts, logger, masks, func(name string, c config.HTTP) (http.RoundTripper, error) {
		return httpapi.NewTransport(name, c, nil)
	})
	if opts.Demo {
		network := demo.Network()
		defer network.Close()
		e.transport = Simulated(network)
	}
	if opts.ConfigCheck {
		return e.check(stdout, stderr)
	}
	return e.run(ctx, reload, stdout, stderr)
}

// run opens the exporter and then serves, or refreshes once.
func (e *Exporter) run(ctx context.Context, reload <-chan os.Signal, stdout, stderr io.Writer) error {
	opened := make(chan error, 1)
	go func() { opened <- e.Open() }()
	select {
	case err := <-opened:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return context.Cause(ctx) // a slow file does not delay the end
	}
	defer e.Close()
	if e.opts.Once {
		return e.once(ctx, stdout, stderr)
	}
	return e.serve(ctx, reload)
}

// Exporter is the running program.
type Exporter struct {
	opts   Options
	logger log.Logger
	masks  *secret.Mask
	// transport returns the transport of an account.
	transport func(name string, c config.HTTP) (http.RoundTripper, error)
	// dialState dials the server of the state; nil for the network.
	dialState func(ctx context.Context, network, address string) (net.Conn, error)

	requests *collector.Requests
	process  *collector.Process
	state    *collector.State
	store    state.Store
	opener   *opener
	cache    *cache.Cache
	own      *prometheus.Registry // the exporter's own metrics
	metrics  *exposition.Exposition

	reloading sync.Mutex
	accounts  []cache.Account // in use
}

// New returns an exporter that is not open yet. It fills masks with the secrets of its
// accounts.
func New(opts Options, logger log.Logger, masks *secret.Mask, transport func(name string, c config.HTTP) (http.RoundTripper, error)) *Exporter {
	return &Exporter{opts: opts, logger: logger, masks: masks, transport: transport}
}

// Simulated returns what makes the transports of accounts on a simulated network.
func Simulated(network *simulate.Network) func(name string, c config.HTTP) (http.RoundTripper, error) {
	return func(name string, c config.HTTP) (http.RoundTripper, error) {
		c.TLS.CA = simulate.CA()
		return httpapi.NewTransport(name, c, network.DialContext)
	}
}

// Open loads the configuration and opens its accounts, with their stored state.
func (e *Exporter) Open() error {
	e.process = collector.NewProcess(func() []collector.CachedBytes { return e.metrics.Cached() })
	accounts, err := e.load()
	if err != nil {
		return err
	}
	// The state comes second: a bad configuration must not touch it.
	e.state = collector.NewState()
	own, err := e.openState()
	if err != nil {
		return err
	}
	e.requests = collector.NewRequests()
	e.opener = &opener{
		store: e.store, observer: e.requests, logger: e.logger, transport: e.transport,
		slots: httpapi.NewSlots(largeAnswers), masks: e.masks, own: own,
	}
	e.cache = cache.New(cache.Options{Store: e.store, Logger: e.logger, MaxWait: e.opts.MaxWait})
	e.own = prometheus.NewPedanticRegistry()
	e.own.MustRegister(
		collector.NewStatus(e.cache.Status), e.requests, e.process, e.state,
		versioncollector.NewCollector("balance_exporter"),
	)
	e.metrics = exposition.New(exposition.Options{
		Groups: e.cache.Groups, Own: e.own, Registerer: e.handlerMetrics(), Logger: e.logger,
	})
	if _, err := e.use(accounts); err != nil {
		e.Close()
		return err
	}
	return nil
}

// openState opens the state. It returns the mask of its password, which all logs hide
// already.
func (e *Exporter) openState() (*secret.Mask, error) {
	var password *secret.Value
	if file := e.opts.StatePasswordFile; file != "" {
		password = secret.File(file)
		if _, err := password.Get(); err != nil {
			return nil, fmt.Errorf("--state.password-file: %w", err)
		}
	}
	own := secret.NewMask(password)
	e.masks.Replace(own)
	var err error
	e.store, err = state.Open(e.opts.StateURL, state.Options{
		Logger: e.logger, Observer: e.state, Password: password, Prefix: e.opts.StatePrefix, Dial: e.dialState,
	})
	if err != nil {
		return nil, fmt.Errorf("--state.url: %w", err)
	}
	return own, nil
}

// handlerMetrics returns the registry for the metrics about the process and its
// handler. With --once there is no handler, and these metrics are left out.
func (e *Exporter) handlerMetrics() prometheus.Registerer {
	if e.opts.Once {
		return nil
	}
	e.own.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		// Without memstats: the go_memstats_alloc_bytes gauge and counter collide
		// in OpenMetrics.
		collectors.NewGoCollector(collectors.WithGoCollectorMemStatsMetricsDisabled()),
	)
	return e.own
}

// Close ends all fetches and the use of the store.
func (e *Exporter) Close() {
	e.cache.Close()
	if err := e.store.Close(); err != nil {
		_ = level.Error(e.logger).Log("msg", "cannot close the state", "err", err)
	}
}

// Reload loads the configuration again, and returns what has changed in one line. If
// the configuration is bad, the previous one stays active.
func (e *Exporter) Reload() (changes string, err error) {
	e.reloading.Lock()
	defer e.reloading.Unlock()
	accounts, err := e.load()
	if err == nil {
		changes, err = e.use(accounts)
	}
	return changes, err
}

// load reads and checks the configuration, and records the outcome.
func (e *Exporter) load() ([]account, error) {
	accounts, warnings, err := e.read()
	e.process.Reloaded(err == nil)
	for _, warning := range warnings {
		_ = level.Warn(e.logger).Log("msg", warning)
	}
	return accounts, err
}

// read reads and checks the web configuration and the configuration, from its file or
// that of the demo. For --config.check it runs the examples of recipes as well.
func (e *Exporter) read() ([]account, []string, error) {
	if e.opts.Web != nil && e.opts.Web.WebConfigFile != nil {
		if err := checkWebConfig(*e.opts.Web.WebConfigFile); err != nil {
			return nil, nil, err
		}
	}
	var file *config.File
	var err error
	if e.opts.Demo {
		file, err = config.Parse("demo.yml", ".", demo.Config(), os.LookupEnv, all.Known)
	} else {
		file, err = config.Load(e.opts.ConfigFile, all.Known)
	}
	if file == nil {
		return nil, nil, err
	}
	faults := []error{err}
	for _, p := range file.Providers {
		if p.Check != nil && e.opts.ConfigCheck {
			faults = append(faults, p.Check())
		}
	}
	return configure(file, config.Join(faults...))
}

// use makes accounts the ones to read, and returns what has changed.
func (e *Exporter) use(accounts []account) (changes string, err error) {
	opened, err := e.opener.open(accounts)
	if err != nil {
		return "", err
	}
	for _, a := range opened {
		e.requests.Expect(a.Provider, a.Name)
	}
	for _, warning := range e.opener.warnings {
		_ = level.Warn(e.logger).Log("msg", warning)
	}
	d := compare(e.accounts, opened)
	for _, name := range lowAmong(d.removed, e.cache.Status()) {
		_ = level.Warn(e.logger).Log("msg", "an account that was low is no longer configured: no alert fires when it is empty", "account", name)
	}
	e.accounts = opened
	e.cache.Replace(opened)
	_ = level.Info(e.logger).Log("msg", "configuration loaded", "accounts", len(opened), "changes", d)
	return d.String(), nil
}
