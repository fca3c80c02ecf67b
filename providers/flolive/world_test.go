package flolive_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/flolive"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/providertest"
)

const iccidPath = "/api/v2/subscriber/iccid/8944501234567890123"

// parse returns the account of a configuration that has only the provider's keys,
// each on a line, and its warnings.
func parse(t testing.TB, dir string, keys ...string) (*config.Account, *config.File) {
	t.Helper()
	return providertest.Parse(t, flolive.Provider, "fleet", dir, keys...)
}

// world is an opened account before a simulator, through the real request chain.
type world struct {
	t        testing.TB
	dir      string      // of the configuration file
	limit    quota.Limit // of the gate; the zero value is generous
	sim      *flolivesim.Server
	faults   *simulate.Switch
	requests simulate.Recorder
	gate     *httpapi.Gate
	mask     *secret.Mask
	config   providers.Config
	account  providers.Account

	mu       sync.Mutex
	warnings []string
}

// Keys of the configuration for the most common account.
const (
	user     = "username: api@example.com"
	password = "password: correct-horse"
	oneTruck = `subscribers: {list: [{type: iccid, value: "8944501234567890123", name: truck-12, balance_ids: [data, mixed]}]}`
)

var generous = quota.Limit{Requests: 1_000_000, Per: time.Second, Burst: 1_000_000}

// newWorld opens an account with a user and a password. It has to be called in a
// bubble.
func newWorld(t testing.TB, options flolivesim.Options, keys ...string) *world {
	t.Helper()
	return openWorld(t, t.TempDir(), options, append([]string{user, password}, keys...)...)
}

func openWorld(t testing.TB, dir string, options flolivesim.Options, keys ...string) *world {
	t.Helper()
	if options.Subscribers == nil {
		options.Subscribers = flolivesim.Listed{truck}
	}
	w := &world{t: t, dir: dir, sim: flolivesim.New(options)}
	w.faults = simulate.NewSwitch(w.sim)
	w.open(keys...)
	return w
}

// open opens the account again, as a restart would.
func (w *world) open(keys ...string) {
	w.t.Helper()
	account, _ := parse(w.t, w.dir, keys...)
	var err error
	w.config, err = flolive.Provider.Configure(account.Section)
	require.NoError(w.t, err)
	w.gate = httpapi.NewGate(cmp.Or(w.limit, generous), w.config.Secrets()...)
	w.mask = secret.NewMask(w.config.Secrets()...)
	w.account, err = w.config.Open(providers.Env{
		Account: account.Name,
		HTTP: httpapi.New(httpapi.Options{
			Provider: "flolive", Account: account.Name, BaseURL: account.BaseURL, Timeout: account.Timeout,
			Transport: simulate.Transport(w.requests.Wrap(w.faults)),
			Gate:      w.gate, Slots: httpapi.NewSlots(1), Mask: w.mask, Observer: ignore{}, Logger: log.NewNopLogger(),
		}),
		Warn: func(msg string, args ...any) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.warnings = append(w.warnings, msg+" "+fmt.Sprint(args...))
		},
	})
	require.NoError(w.t, err)
}

type ignore struct{}

func (ignore) Request(string, string, string, time.Duration) {}

// source returns one of the sources that are known without asking.
func (w *world) source(i int) providers.Source { return w.account.Sources()[i] }

// fetch reads the first source.
func (w *world) fetch() (providers.Reading, error) { return w.source(0).Fetch(w.t.Context()) }

func (w *world) mustFetch() providers.Reading {
	w.t.Helper()
	reading, err := w.fetch()
	require.NoError(w.t, err)
	return reading
}

// fails reads the first source and returns the error.
func (w *world) fails() providers.Error {
	w.t.Helper()
	reading, err := w.fetch()
	require.Error(w.t, err)
	require.Empty(w.t, reading)
	e := *providers.AsError(err)
	require.NotContains(w.t, e.Message, truck.ICCID, "a named subscriber shows only its name")
	return e
}

// paths returns what was sent since the last call, without hosts and queries.
func (w *world) paths() []string {
	var paths []string
	for _, a := range w.requests.Arrivals() {
		paths = append(paths, a.Method+" "+strings.TrimPrefix(a.Path, "/api/v2"))
	}
	w.requests.Reset()
	return paths
}

// queries are collected in order by a rule that changes nothing.
func (w *world) queries() *[]string {
	var queries []string
	w.faults.Add(simulate.Rule{Fault: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			queries = append(queries, r.URL.RawQuery)
			next.ServeHTTP(rw, r)
		})
	}})
	return &queries
}

// bubble runs a test in the fake time of a bubble.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// write writes a file of the configuration's directory.
func (w *world) write(name, text string) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600))
}

// keysOf returns the keys of sources.
func keysOf(sources []providers.Source) []string {
	keys := []string{}
	for _, s := range sources {
		keys = append(keys, s.Key())
	}
	return keys
}

// subscribersOf reads sources and returns their labels.
func subscribersOf(t testing.TB, sources []providers.Source) []string {
	t.Helper()
	labels := []string{}
	for _, s := range sources {
		reading, err := s.Fetch(context.Background())
		require.NoError(t, err)
		labels = append(labels, reading.Subscriber)
	}
	return labels
}
