package providertest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	host    = "api.test"
	baseURL = "https://" + host
	// timeout is that of one request; no other time in the suite is the same.
	timeout = 7 * time.Second
)

// generous lets everything through.
var generous = quota.Limit{Requests: 1_000_000, Per: time.Second, Burst: 1_000_000}

// world is one opened account with its simulated network.
type world struct {
	t       *testing.T
	config  providers.Config
	account providers.Account
	gate    *httpapi.Gate
	http    *spy
	log     *bytes.Buffer

	faults    *simulate.Switch   // in front of the API
	requests  *simulate.Recorder // of everything that arrives at the API
	elsewhere *simulate.Recorder // of everything that arrives at other places
	observed  observer
	network   simulate.Network
}

// newWorld opens an account that nothing has been read of. It has to be called in
// a bubble.
func newWorld(t *testing.T, h Harness, limit quota.Limit) *world {
	t.Helper()
	w := &world{t: t, log: &bytes.Buffer{}, requests: &simulate.Recorder{}, elsewhere: &simulate.Recorder{}}
	w.faults = simulate.NewSwitch(h.NewServer())
	w.network.Handle(host+":443", w.requests.Wrap(w.faults))
	for _, other := range []string{host + ":80", host + ":8443", "elsewhere.test"} {
		w.network.Handle(other, w.elsewhere.Wrap(w.faults))
	}

	keys := []string{"base_url: " + baseURL, "timeout: " + timeout.String()}
	account, _ := Parse(t, h.Provider, "conformance", ".", append(keys, strings.Split(strings.TrimSpace(h.Config), "\n")...)...)
	var err error
	w.config, err = h.Provider.Configure(account.Section)
	require.NoError(t, err)
	w.gate = httpapi.NewGate(limit, w.config.Secrets()...)
	w.http = &spy{logins: map[string]bool{}, next: httpapi.New(httpapi.Options{
		Provider:  h.Provider.Name,
		Account:   account.Name,
		BaseURL:   account.BaseURL,
		Timeout:   account.Timeout,
		Transport: &w.network,
		Gate:      w.gate,
		Slots:     httpapi.NewSlots(1),
		Mask:      secret.NewMask(w.config.Secrets()...),
		Observer:  &w.observed,
		Logger:    log.NewLogfmtLogger(log.NewSyncWriter(w.log)),
	})}
	w.account, err = w.config.Open(providers.Env{Account: account.Name, HTTP: w.http, Warn: func(string, ...any) {}})
	require.NoError(t, err)
	return w
}

// each runs scenario for each source of the account, those found by others
// included, in a bubble of its own. open returns the source in a new world of its
// own each time.
func each(t *testing.T, h Harness, scenario func(t *testing.T, open func() (*world, providers.Source))) {
	t.Helper()
	var keys []string
	synctest.Test(t, func(t *testing.T) {
		for _, s := range newWorld(t, h, generous).sources() {
			keys = append(keys, s.Key())
		}
	})
	for _, key := range keys {
		t.Run(key, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				scenario(t, func() (*world, providers.Source) {
					w := newWorld(t, h, generous)
					return w, w.source(key)
				})
			})
		})
	}
}

// source returns the source with a key. It asks only if the source has to be found
// by another one.
func (w *world) source(key string) providers.Source {
	w.t.Helper()
	for _, s := range w.account.Sources() {
		if s.Key() == key {
			return s
		}
	}
	for _, s := range w.sources() {
		if s.Key() == key {
			return s
		}
	}
	require.Fail(w.t, "a source is gone", key)
	return nil
}

// sources returns all sources of the account, found ones included.
func (w *world) sources() []providers.Source {
	w.t.Helper()
	var all []providers.Source
	for _, s := range w.account.Sources() {
		all = append(all, s)
		if _, ok := s.(providers.Lister); !ok {
			continue
		}
		reading, err := s.Fetch(w.t.Context())
		require.NoError(w.t, err)
		all = append(all, reading.Roster...)
	}
	return all
}

// isLogin reports a request for a token.
func (w *world) isLogin(r *http.Request) bool { return w.http.isLogin(r.URL.Path) }

// isData reports any other request.
func (w *world) isData(r *http.Request) bool { return !w.isLogin(r) }

// where is a set of requests that meet a fault.
type where struct {
	name   string
	logins bool // rather than only data
	warm   bool // after a good fetch, so that there may be a token
}

// places are where faults are tried.
var places = []where{{"data", false, false}, {"data after a good answer", false, true}, {"everything", true, false}}

// spoil makes requests meet a fault from now on.
func (w *world) spoil(s providers.Source, at where, fault simulate.Fault) {
	w.t.Helper()
	if at.warm {
		_, err := s.Fetch(w.t.Context())
		require.NoError(w.t, err)
	}
	rule := simulate.Rule{Fault: fault}
	if !at.logins {
		rule.Match = w.isData
	}
	w.faults.Add(rule)
	w.requests.Reset()
}

// sent returns how many requests arrived, requests for tokens apart.
func (w *world) sent() (data, logins int) {
	for _, a := range w.requests.Arrivals() {
		if w.http.isLogin(a.Path) {
			logins++
		} else {
			data++
		}
	}
	return data, logins
}

// bounded checks that there was no loop: a request with each of the tokens that can
// be had, the requests for these, and the rest of a fetch.
func (w *world) bounded(s providers.Source, in ...any) {
	w.t.Helper()
	require.LessOrEqual(w.t, w.requests.Len(), s.Requests()+4, fmt.Sprint(in...))
}

// secrets returns the secrets of the account, tokens included. Very short ones, as
// faulty answers may have for a token, turn up by chance.
func (w *world) secrets() []string {
	w.t.Helper()
	secrets := w.http.tokens()
	for _, v := range w.config.Secrets() {
		text, err := v.Get()
		require.NoError(w.t, err)
		secrets = append(secrets, text)
	}
	return slices.DeleteFunc(secrets, func(s string) bool { return len(s) < recognisable })
}

// rewriting returns a fault that changes the good body of an answer.
func rewriting(change func(body []byte) []byte) simulate.Fault {
	return intercepting(func(w http.ResponseWriter, r *http.Request, body []byte) {
		simulate.Body(string(change(body)))(nil).ServeHTTP(w, r)
	})
}

// intercepting returns a fault that gets the good body of an answer to answer with.
func intercepting(answer func(w http.ResponseWriter, r *http.Request, body []byte)) simulate.Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			good := httptest.NewRecorder()
			next.ServeHTTP(good, r)
			answer(w, r, bytes.TrimSpace(good.Body.Bytes()))
		})
	}
}

// answer is a good answer to one of the requests of a fetch.
type answer struct {
	login bool
	nth   int // of its sort, counted from 0
	body  []byte
}

// String names the answer.
func (a answer) String() string {
	if a.login {
		return fmt.Sprintf("login %d", a.nth)
	}
	return fmt.Sprintf("data %d", a.nth)
}

// answers returns the good answers to the requests of a source's first fetch.
func answers(open func() (*world, providers.Source)) []answer {
	w, s := open()
	var all []answer
	count := map[bool]int{}
	w.faults.Set(intercepting(func(rw http.ResponseWriter, r *http.Request, body []byte) {
		login := w.isLogin(r)
		all = append(all, answer{login, count[login], body})
		count[login]++
		simulate.Body(string(body))(nil).ServeHTTP(rw, r)
	}))
	_, err := s.Fetch(w.t.Context())
	require.NoError(w.t, err)
	return all
}

// spoilOne makes the request that is answered by a meet a fault, and no other.
func (w *world) spoilOne(a answer, fault simulate.Fault) {
	var mu sync.Mutex
	count := 0
	w.faults.Add(simulate.Rule{Fault: fault, Match: func(r *http.Request) bool {
		if w.isLogin(r) != a.login {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		count++
		return count-1 == a.nth
	}})
}

// spy notes what a provider sends.
type spy struct {
	next providers.HTTP

	mu     sync.Mutex
	logins map[string]bool // paths
	masked []string
	large  bool // the last call was
}

func (s *spy) Do(ctx context.Context, call providers.Call) error {
	s.mu.Lock()
	s.large = call.Large
	if call.Login {
		s.logins[call.Path] = true
	}
	s.mu.Unlock()
	return s.next.Do(ctx, call)
}

func (s *spy) Mask(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.masked = append(s.masked, text)
	s.next.Mask(text)
}

func (s *spy) isLogin(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins[path]
}

func (s *spy) tokens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.masked...)
}

func (s *spy) maxBody() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.large {
		return httpapi.MaxLargeBody
	}
	return httpapi.MaxBody
}

// observer counts the requests that were sent.
type observer struct {
	mu    sync.Mutex
	count int
}

func (o *observer) Request(string, string, string, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count++
}

func (o *observer) requests() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count
}
