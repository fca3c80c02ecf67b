package flolive_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/flolive"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
)

const iccidPath = "/api/v2/subscriber/iccid/8944501234567890123"

// parse returns the account of a configuration that has only the provider's keys,
// each on a line, and its warnings.
func parse(t testing.TB, dir string, keys ...string) (*config.Account, *config.File) {
	t.Helper()
	p := flolive.Provider
	text := fmt.Sprintf("accounts:\n  - name: fleet\n    provider: %s\n    %s\n", p.Name, strings.Join(keys, "\n    "))
	empty := func(string) (string, bool) { return "", false }
	file, err := config.Parse("balance_exporter.yml", dir, []byte(text), empty, config.Only(p))
	require.NoError(t, err)
	return file.Accounts[0], file
}

// configure returns the checked configuration of an account.
func configure(t testing.TB, dir string, keys ...string) providers.Account {
	t.Helper()
	account, _ := parse(t, dir, keys...)
	configured, err := flolive.Provider.Configure(account.Section)
	require.NoError(t, err)
	return configured
}

// fakeHTTP is a [providers.HTTP] in front of a handler. It follows the contract of
// internal/httpapi as far as a provider depends on it.
type fakeHTTP struct {
	handler http.Handler
	mask    *secret.Mask
	prefix  string // path of the base URL

	mu    sync.Mutex
	every time.Duration // between two requests; 0 does not wait
	next  time.Time     // when the next request may be sent
}

func (f *fakeHTTP) Mask(text string) { f.mask.Add(text) }

func (f *fakeHTTP) Do(ctx context.Context, call providers.Call) error {
	err := f.do(ctx, call)
	if err == nil {
		return nil
	}
	e := providers.Error{Reason: providers.ReasonBadResponse, Message: "reading the answer: " + err.Error()}
	if known := (*providers.Error)(nil); errors.As(err, &known) {
		e = *known
	}
	e.Message, e.Err = f.mask.String(e.Message), nil
	for _, cause := range []error{providers.ErrNotAsked, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, cause) {
			e.Err = cause
		}
	}
	return &e
}

func (f *fakeHTTP) do(ctx context.Context, call providers.Call) error {
	f.mu.Lock()
	wait := time.Until(f.next)
	f.next = time.Now().Add(max(wait, 0) + f.every)
	f.mu.Unlock()
	if f.every > 0 {
		time.Sleep(wait)
	}
	r := httptest.NewRequestWithContext(ctx, cmp.Or(call.Method, http.MethodGet), "https://floportal.flolive.net", bytes.NewReader(call.Body))
	r.URL.Path, _ = strings.CutSuffix(f.prefix+call.Path, "/")
	r.URL.RawQuery = call.Query
	for name, values := range call.Header {
		r.Header[name] = values
	}
	if call.Authorize != nil {
		header, err := call.Authorize()
		if err != nil {
			return err
		}
		for name, values := range header {
			r.Header[name] = values
		}
	}
	rw := httptest.NewRecorder()
	func() {
		defer func() {
			if r := recover(); r != nil && r != http.ErrAbortHandler { //nolint:errorlint // net/http compares the same way
				panic(r)
			}
		}()
		f.handler.ServeHTTP(rw, r)
	}()
	if err := ctx.Err(); err != nil {
		return &providers.Error{Reason: providers.ReasonTimeout, Message: "no answer", Err: err}
	}
	body, err := io.ReadAll(rw.Result().Body)
	if err != nil || len(body) > 1<<20 {
		return fmt.Errorf("the body is larger than 1 MiB")
	}
	err = call.Parse(providers.Answer{
		Status: rw.Code, Header: rw.Header(), Body: body,
		Quote: func(text string, limit int) string { return providers.OneLine(f.mask.String(text), limit) },
	})
	if e := (*providers.Error)(nil); errors.As(err, &e) {
		if seconds, _ := strconv.Atoi(rw.Header().Get("Retry-After")); e.RetryAfter == 0 {
			e.RetryAfter = time.Duration(seconds) * time.Second
		}
		if e.Reason == providers.ReasonAuth && call.Renewable != nil {
			call.Renewable()
		}
	}
	return err
}

// truck has the balances of the documentation's samples.
var truck = flolivesim.Subscriber{
	ID:    "0f0e0d0c-0000-4000-8000-00000000000a",
	ICCID: "8944501234567890123",
	IMEI:  "350000000000006",
	Pairs: []flolivesim.Pair{
		{IMSI: "234500000000001", MSISDN: "447000000001"},
		{IMSI: "234500000000002", MSISDN: "447000000002"},
	},
	Offers: []flolivesim.Offer{
		{ID: "data", Name: "Data", Type: "USAGE", Balances: []flolivesim.Balance{
			{ID: "e7fcef24-5c03-41dd-9e33-995b7d6f32b1", Unit: "KB", Value: "50.3"},
		}},
		{ID: "mixed", Name: "Mixed", Type: "MONEY", Balances: []flolivesim.Balance{
			{ID: "0f0e0d0c-0000-4000-8000-000000000001", Unit: "USD", Value: "12.75"},
			{ID: "0f0e0d0c-0000-4000-8000-000000000002", Unit: "SMS", Value: `"40"`},
		}},
		{ID: "rate", Name: "Rate", Type: "RATE"},
	},
}

// world is an opened account in front of a simulator.
type world struct {
	t        testing.TB
	dir      string      // of the configuration file
	limit    quota.Limit // the zero value does not wait
	sim      *flolivesim.Server
	faults   *simulate.Switch
	requests simulate.Recorder
	mask     *secret.Mask
	config   providers.Account
	sources  []providers.Source

	mu       sync.Mutex
	warnings []string
}

// Keys of the configuration for the most common account.
const (
	user     = "username: api@example.com"
	password = "password: correct-horse"
	oneTruck = `subscribers: {list: [{type: iccid, value: "8944501234567890123", name: truck-12, balance_ids: [data, mixed]}]}`
)

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
	configured, err := flolive.Provider.Configure(account.Section)
	require.NoError(w.t, err)
	w.openConfigured(configured, strings.TrimSuffix(account.BaseURL.Path, "/"))
}

// openConfigured opens an account whose base URL has the path prefix.
func (w *world) openConfigured(configured providers.Account, prefix string) {
	w.t.Helper()
	w.config = configured
	w.mask = secret.NewMask(w.config.Secrets...)
	fake := &fakeHTTP{handler: w.requests.Wrap(w.faults), mask: w.mask, prefix: prefix}
	if w.limit.Requests > 0 {
		fake.every = w.limit.Per / time.Duration(w.limit.Requests)
	}
	var err error
	w.sources, err = w.config.Open(providers.Env{
		Account: "fleet", HTTP: fake,
		Warn: func(msg string, args ...any) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.warnings = append(w.warnings, strings.TrimSpace(msg+" "+fmt.Sprintln(args...)))
		},
	})
	require.NoError(w.t, err)
}

// source returns one of the sources that are known without asking.
func (w *world) source(i int) providers.Source { return w.sources[i] }

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
	e.Err = nil // only the provider looks at it
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
func keysOf(sources providers.Roster) []string {
	keys := []string{}
	for i := range sources.Len() {
		keys = append(keys, sources.Key(i))
	}
	return keys
}

// namesOf returns the labels that sources describe.
func namesOf(sources providers.Roster) []string {
	names := []string{}
	for s := range providers.Sources(sources) {
		names = append(names, s.Describe().Name)
	}
	return names
}

// subscribersOf reads sources and returns their labels.
func subscribersOf(t testing.TB, sources providers.Roster) []string {
	t.Helper()
	labels := []string{}
	for s := range providers.Sources(sources) {
		reading, err := s.Fetch(context.Background())
		require.NoError(t, err)
		labels = append(labels, reading.Subscriber)
	}
	return labels
}
