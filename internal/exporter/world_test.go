package exporter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	stdlog "log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
)

func init() {
	// net/http complains there of providers that misbehave.
	stdlog.SetOutput(io.Discard)
}

// world is the whole program among simulated providers. Each account has hosts of its
// own, where a [watch] checks every request. A world lives in a synctest bubble; at
// its end the exporter and the network are closed.
type world struct {
	t        *testing.T
	rng      *rand.Rand // nil if the world is always the same
	network  *simulate.Network
	accounts []*simAccount
	dir      string

	// sqlite makes the state survive restarts and kills; else it is in memory.
	sqlite bool
	kills  int
	logger log.Logger

	exporter *Exporter
	routes   atomic.Pointer[http.Handler]

	mu    sync.Mutex
	story []string // what happened, for the report of a failure
}

// simAccount is an account, as it is configured now and as it is simulated.
type simAccount struct {
	simulate.Case
	name     string
	api      simulate.Account
	scheme   string
	limit    quota.Limit
	interval time.Duration
	maxAge   time.Duration
	timeout  time.Duration
	removed  bool // from the configuration

	faults *simulate.Switch // in front of base
	base   *simulate.Switch // in front of the simulator, for a test that replaces good answers
	watch  *watch
}

// newWorld returns a world without accounts.
func newWorld(t *testing.T, rng *rand.Rand) *world {
	w := &world{t: t, rng: rng, network: &simulate.Network{}, dir: memoryDir(t), logger: log.NewNopLogger()}
	t.Cleanup(w.network.Close)
	t.Cleanup(func() {
		if w.exporter != nil {
			w.exporter.Close()
		}
	})
	return w
}

// memoryDir returns a directory in memory, if there is one: otherwise hundreds of
// exporters that start and stop wait for the disk.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "balance_exporter") //nolint:usetesting // t.TempDir is on a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// add adds an account of a case; with w.rng, any variation of it.
func (w *world) add(c simulate.Case) *simAccount {
	provider, ok := alltest.Provider(c.Provider)
	require.True(w.t, ok, c.Provider)
	a := &simAccount{
		Case: c, name: fmt.Sprintf("a%d", len(w.accounts)), api: c.Open(w.rng), scheme: "http",
		limit: provider.RateLimit, interval: time.Minute, maxAge: time.Hour, timeout: 30 * time.Second,
	}
	servers := map[string]http.Handler{}
	a.base = simulate.NewSwitch(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		servers[r.Host].ServeHTTP(rw, r)
	}))
	a.faults = simulate.NewSwitch(a.base)
	a.watch = newWatch(a)
	for name, server := range a.api.Hosts {
		servers[a.host(name)] = server
		w.network.Handle(a.host(name), a.watch)
	}
	w.accounts = append(w.accounts, a)
	return a
}

// host returns the address of one of the account's hosts; "" names that of the base
// URL.
func (a *simAccount) host(name string) string {
	return strings.TrimPrefix(name+"."+a.name+".example", ".")
}

// configuration returns the YAML of the accounts that are not removed.
func (w *world) configuration() string {
	var b strings.Builder
	b.WriteString("accounts:\n")
	for _, a := range w.accounts {
		if a.removed {
			continue
		}
		fmt.Fprintf(&b, "  - name: %s\n    provider: %s\n    base_url: %s://%s\n    timeout: %s\n    rate_limit: {requests: %d, per: %s, burst: %d}\n",
			a.name, a.Provider, a.scheme, a.host(""), a.timeout, a.limit.Requests, a.limit.Per, a.limit.Burst)
		if len(a.api.Hosts) > 1 {
			b.WriteString("    hosts:\n")
		}
		for name := range a.api.Hosts {
			if name != "" {
				fmt.Fprintf(&b, "      %s: %s://%s\n", name, a.scheme, a.host(name))
			}
		}
		for _, line := range a.api.Lines(a.interval, a.maxAge) {
			b.WriteString("    " + line + "\n")
		}
	}
	return b.String()
}

func (w *world) configFile() string { return filepath.Join(w.dir, "balance_exporter.yml") }

func (w *world) stateFile() string { return filepath.Join(w.dir, fmt.Sprintf("state-%d", w.kills)) }

func (w *world) stateURL() string {
	if w.sqlite {
		return "sqlite:" + w.stateFile()
	}
	return "memory:"
}

func (w *world) configure() {
	require.NoError(w.t, os.WriteFile(w.configFile(), []byte(w.configuration()), 0o600))
}

// open starts an exporter on the stored state.
func (w *world) open() {
	w.configure()
	opts := Options{
		ConfigFile: w.configFile(), StateURL: w.stateURL(), TelemetryPath: "/metrics",
		TimeoutOffset: 500 * time.Millisecond, MaxWait: 2 * time.Second,
	}
	e := New(opts, w.logger, secret.NewMask(), Simulated(w.network))
	require.NoError(w.t, e.Open(), w.configuration())
	w.exporter = e
	for _, a := range w.accounts {
		a.watch.learn(w.describe(a))
	}
	routes := e.Server().Routes()
	w.routes.Store(&routes)
}

// describe returns the descriptions of the account's sources that are known without
// a request.
func (w *world) describe(a *simAccount) []providers.Description {
	var all []providers.Description
	var add func(sources providers.Roster)
	add = func(sources providers.Roster) {
		for s := range providers.Sources(sources) {
			all = append(all, s.Describe())
			add(s.Describe().Known)
		}
	}
	for _, o := range w.exporter.opener.opened {
		if o.Name == a.name {
			add(providers.List(o.Sources))
		}
	}
	return all
}

// restart stops the exporter in good order and starts the next one.
func (w *world) restart() {
	w.exporter.Close()
	w.open()
}

// kill stops the exporter as SIGKILL does and starts the next one: what is not in the
// files at this moment is lost.
func (w *world) kill() {
	synctest.Wait() // every goroutine waits: no request is sent from here on
	before := w.stateFile()
	w.kills++
	for _, suffix := range []string{"", "-wal", ".quota", ".quota-wal"} {
		content, err := os.ReadFile(before + suffix)
		if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(suffix, "-wal") {
			continue
		}
		require.NoError(w.t, err)
		require.NoError(w.t, os.WriteFile(w.stateFile()+suffix, content, 0o600))
	}
	w.exporter.Close()
	w.open()
}

// step restarts the exporter with the clock set back by d while it was down, or
// forward if d is negative.
func (w *world) step(d time.Duration) {
	w.exporter.Close()
	accounts, _, err := w.exporter.read()
	require.NoError(w.t, err)
	store, err := state.Open(w.stateURL(), state.Options{Logger: w.logger})
	require.NoError(w.t, err)
	for _, a := range accounts {
		shiftState(w.t, store, a.id, d)
	}
	require.NoError(w.t, store.Close())
	if d < 0 {
		// A clock set forward looks like time that has passed.
		for _, a := range w.accounts {
			a.watch.reset()
		}
	}
	w.open()
}

// shiftState moves every stored time of an account.
func shiftState(t *testing.T, store state.Store, id string, d time.Duration) {
	shift := func(times ...*time.Time) {
		for _, at := range times {
			if !at.IsZero() {
				*at = at.Add(d)
			}
		}
	}
	_, err := store.Update(context.Background(), id, func(a quota.Account, _ time.Time) quota.Account {
		shift(&a.FullAt, &a.BlockedUntil, &a.LimitedAt)
		return a
	})
	require.NoError(t, err)
	var outcomes []state.Outcome
	require.NoError(t, store.Load(context.Background(), id, nil, func(key string, s *snapshot.Snapshot, _ uint64) {
		moved := *s
		shift(&moved.FetchedAt, &moved.TriedAt, &moved.DueAt)
		outcomes = append(outcomes, state.Outcome{Key: key, Snapshot: &moved})
	}))
	_, err = store.Publish(context.Background(), id, outcomes)
	require.NoError(t, err)
}

// reload puts the configuration as the accounts are now into force.
func (w *world) reload() {
	w.configure()
	_, err := w.exporter.Reload()
	require.NoError(w.t, err, w.configuration())
}

// get requests a path as Prometheus does, with a timeout in seconds.
func (w *world) get(path string, timeout float64) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil)
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", strconv.FormatFloat(timeout, 'f', -1, 64))
	answer := httptest.NewRecorder()
	(*w.routes.Load()).ServeHTTP(answer, req)
	return answer
}

// metrics scrapes and returns the value of each series. The scrape must succeed.
func (w *world) metrics(path string) map[string]string {
	w.t.Helper()
	answer := w.get(path, 60)
	require.Equal(w.t, http.StatusOK, answer.Code, answer.Body)
	return seriesOf(answer.Body.String())
}

// seriesOf returns the value of each series of an answer.
func seriesOf(text string) map[string]string {
	series := map[string]string{}
	for line := range strings.Lines(text) {
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			series[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return series
}

// valuesOf returns the values of the account's series of a metric, by series.
func (a *simAccount) valuesOf(series map[string]string, metric string) map[string]string {
	found := map[string]string{}
	for name, value := range series {
		if strings.HasPrefix(name, metric+"{") && strings.Contains(name, fmt.Sprintf("account=%q", a.name)) {
			found[name] = value
		}
	}
	return found
}

// record records what happens.
func (w *world) record(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.story = append(w.story, time.Now().Format("15:04:05.000000000 ")+fmt.Sprintf(format, args...))
}

// history returns what has happened.
func (w *world) history() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.story, "\n")
}

// requireUnbroken fails the test if a request was sent that was not allowed.
func (w *world) requireUnbroken() {
	for _, a := range w.accounts {
		if fault := a.watch.fault(a.limit); fault != "" {
			w.t.Fatalf("%s (%s/%s, every %s): %s\n%s", a.name, a.Provider, a.Name, a.interval, fault, w.history())
		}
	}
}

// restore ends every fault.
func (w *world) restore() {
	for _, a := range w.accounts {
		a.faults.Clear()
	}
}

// up reports whether the last refresh of every source worked.
func (w *world) up() bool {
	for _, a := range w.exporter.cache.Status() {
		for _, s := range a.Sources {
			if !s.Up || s.Fleet != nil && s.Fleet.Fresh < s.Fleet.Total() {
				return false
			}
		}
	}
	return true
}

// failures returns what fails, and why.
func (w *world) failures() string {
	var b strings.Builder
	for _, a := range w.exporter.cache.Status() {
		for _, s := range a.Sources {
			fmt.Fprintf(&b, "%s/%s %s: up %t, fleet %+v, failure %+v, due %s, cool-down until %s\n",
				a.Provider, a.Account, s.Part.Kind, s.Up, s.Fleet, s.Failure, clock(s.NextDue), clock(a.CooldownUntil))
		}
	}
	return b.String()
}

func clock(t time.Time) string { return t.Format("15:04:05.000000000") }
