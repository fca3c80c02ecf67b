package providertest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	host = "api.test" // of the base URL; the others are below it
	// timeout is that of one request; no other time in the suite is the same.
	timeout  = 7 * time.Second
	interval = time.Minute
	maxAge   = time.Hour
)

// generous lets everything through.
var generous = quota.Limit{Requests: 1_000_000, Per: time.Second, Burst: 1_000_000}

// options of a world.
type options struct {
	limit quota.Limit // zero is generous
	https bool        // rather than http, which is a hundred times as fast
}

// world is one opened account with its simulated network.
type world struct {
	t       *T
	subject subject
	api     simulate.Account
	configuration
	opened []providers.Source
	gate   *gate.Gate
	http   *spy
	log    bytes.Buffer

	network   simulate.Network
	transport http.RoundTripper
	faults    *simulate.Switch  // in front of the API
	requests  simulate.Recorder // of everything that arrives at the API
	elsewhere simulate.Recorder // of everything that arrives at other hosts
	observed  observer
	mu        sync.Mutex
	exchanges []*exchange
	mark      int // of exchanges: where spoil or spoilOne was called
}

// configuration is a checked configuration.
type configuration struct {
	account *config.Account
	checked providers.Account
}

// configurations are the checked configurations of a case by their text, because a
// check takes as long as a fetch; nil keeps none.
type configurations map[string]configuration

func (all configurations) of(t *T, p providers.Provider, lines []string) configuration {
	t.Helper()
	text := strings.Join(lines, "\n")
	if c, ok := all[text]; ok {
		return c
	}
	var c configuration
	c.account, _ = Parse(t, p, "conformance", ".", lines...)
	var err error
	c.checked, err = p.Configure(c.account.Section)
	require.NoError(t, err)
	if all != nil {
		all[text] = c
	}
	return c
}

// newWorld opens an account that has sent nothing. It has to be called in a bubble.
func newWorld(t *T, s subject, o options) *world {
	t.Helper()
	w := &world{t: t, subject: s, api: s.Open(nil)}
	t.worlds = append(t.worlds, w)
	servers := map[string]http.Handler{}
	w.faults = simulate.NewSwitch(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		servers[strings.ToLower(r.Host)].ServeHTTP(rw, r)
	}))
	port, scheme := ":80", "http://"
	if o.https {
		port, scheme = ":443", "https://"
	}
	lines := []string{"base_url: " + scheme + host, "timeout: " + timeout.String()}
	if o.https {
		lines = append(lines, "http: {tls_config: {ca: "+strconv.Quote(simulate.CA())+"}}")
	}
	if s.provider.Hosts != nil {
		lines = append(lines, "hosts:")
	}
	for name, server := range w.api.Hosts {
		at := host
		if name != "" {
			at = name + "." + host
			lines = append(lines, "  "+name+": "+scheme+at)
		}
		servers[at] = server
		w.network.Handle(at+port, w.requests.Wrap(w.recorded(w.faults)))
	}
	for _, other := range []string{host + ":8443", "elsewhere.test", host + map[bool]string{true: ":80", false: ":443"}[o.https]} {
		w.network.Handle(other, w.elsewhere.Wrap(w.recorded(simulate.Body("{}")(nil))))
	}

	w.configuration = s.configured.of(t, s.provider, append(lines, w.api.Lines(interval, maxAge)...))
	var err error
	if o.limit == (quota.Limit{}) {
		o.limit = generous
	}
	w.gate = gate.New("id", o.limit, &records{})
	w.transport, err = httpapi.NewTransport(w.account.Name, w.account.HTTP, w.network.DialContext)
	require.NoError(t, err)
	hosts := map[string]*url.URL{"": w.account.BaseURL}
	for name, u := range w.account.Hosts {
		hosts[name] = u
	}
	w.http = &spy{logins: map[string]bool{}, next: httpapi.New(httpapi.Options{
		Provider:  s.provider.Name,
		Account:   w.account.Name,
		Hosts:     hosts,
		Header:    w.account.Header,
		Timeout:   w.account.Timeout,
		Transport: w.transport,
		Gate:      w.gate,
		Slots:     httpapi.NewSlots(1),
		Mask:      secret.NewMask(w.checked.Secrets...),
		Observer:  &w.observed,
		Logger:    log.NewLogfmtLogger(log.NewSyncWriter(&w.log)),
	})}
	w.opened, err = w.checked.Open(providers.Env{Account: w.account.Name, HTTP: w.http, Warn: func(string, ...any) {}})
	require.NoError(t, err)
	return w
}

func (w *world) close() {
	(&http.Client{Transport: w.transport}).CloseIdleConnections()
	w.network.Close()
}

// records is the store of one gate.
type records struct {
	mu     sync.Mutex
	record quota.Account
}

// Update implements [gate.Updater].
func (r *records) Update(_ context.Context, _ string, change func(quota.Account, time.Time) quota.Account) (quota.Account, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record = change(r.record, time.Now())
	return r.record, nil
}

// fetch reads a source that must succeed.
func (w *world) fetch(s providers.Source) providers.Reading {
	w.t.Helper()
	reading, err := s.Fetch(w.t.Context())
	require.NoError(w.t, err, s.Describe().Key)
	return reading
}

// source returns the source with a key. It asks only if the source has to be found
// by another one.
func (w *world) source(key string) providers.Source {
	w.t.Helper()
	for _, all := range []func() []providers.Source{func() []providers.Source { return w.opened }, w.sources} {
		for _, s := range all() {
			if s.Describe().Key == key {
				return s
			}
		}
	}
	require.Fail(w.t, "a source is gone", key)
	return nil
}

// sources returns all sources of the account, found ones included.
func (w *world) sources() []providers.Source {
	w.t.Helper()
	var all []providers.Source
	for _, s := range w.opened {
		all = append(all, s)
		if s.Describe().Lists {
			all = slices.AppendSeq(all, providers.Sources(w.fetch(s).Roster))
		}
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
		w.fetch(s)
	}
	rule := simulate.Rule{Fault: fault}
	if !at.logins {
		rule.Match = w.isData
	}
	w.faults.Add(rule)
	w.requests.Reset()
	w.mark = len(w.exchanges)
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
	require.LessOrEqual(w.t, w.requests.Len(), s.Describe().Requests+4, about(in))
}

// secrets returns the secrets of the account, tokens included. Very short ones, as
// faulty answers may have for a token, occur by chance.
func (w *world) secrets() []string {
	w.t.Helper()
	secrets := w.http.tokens()
	for _, v := range w.checked.Secrets {
		text, err := v.Get()
		require.NoError(w.t, err)
		secrets = append(secrets, text)
	}
	return slices.DeleteFunc(secrets, func(s string) bool { return len(s) < recognisable })
}

// rewriting returns a fault that changes the body of a good answer.
func rewriting(change func(body []byte) []byte) simulate.Fault {
	return simulate.Rewrite(func(_ *http.Request, a simulate.Answer) simulate.Answer {
		a.Body = change(bytes.TrimSpace(a.Body))
		return a
	})
}

// answer is a good answer to one of the requests of a fetch.
type answer struct {
	*exchange
	login bool
	nth   int // of its sort, counted from 0
}

// String names the answer.
func (a answer) String() string {
	return fmt.Sprintf("%s (%s %d)", a.request, map[bool]string{true: "login", false: "data"}[a.login], a.nth)
}

// answers returns the good answers to the requests of a source's first fetch.
func (w *world) answers(s providers.Source) []answer {
	w.t.Helper()
	before := len(w.exchanges)
	w.fetch(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []answer
	count := map[bool]int{}
	for _, e := range w.exchanges[before:] {
		login := w.http.isLogin(e.path)
		all = append(all, answer{e, login, count[login]})
		count[login]++
	}
	return all
}

// dataAnswers is answers without logins.
func (w *world) dataAnswers(s providers.Source) []answer {
	w.t.Helper()
	return slices.DeleteFunc(w.answers(s), func(a answer) bool { return a.login })
}

// spoilOne makes the request that is answered by a meet a fault, and no other.
func (w *world) spoilOne(a answer, fault simulate.Fault) {
	w.mark = len(w.exchanges)
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

// spy records what a provider sends.
type spy struct {
	next providers.HTTP

	mu     sync.Mutex
	logins map[string]bool // paths
	masked []string
	large  bool // the last call was
}

// Do implements [providers.HTTP].
func (s *spy) Do(ctx context.Context, call providers.Call) error {
	s.mu.Lock()
	s.large = call.Large
	if call.Login {
		s.logins[call.Path] = true
	}
	s.mu.Unlock()
	return s.next.Do(ctx, call)
}

// Mask implements [providers.HTTP].
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
	return slices.Clone(s.masked)
}

// maxBody is the bound of the last call, as package providers documents it.
func (s *spy) maxBody() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.large {
		return 64 << 20
	}
	return 1 << 20
}

// observer counts the requests that were sent.
type observer struct {
	mu    sync.Mutex
	count int
}

// Request implements [httpapi.Observer].
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
