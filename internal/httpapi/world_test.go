package httpapi_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"sync"
	"testing"
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

var (
	plenty       = quota.Limit{Requests: 1000, Per: time.Second, Burst: 1000}
	onePerMinute = quota.Limit{Requests: 1, Per: time.Minute, Burst: 1}
)

// record is a store of one quota record.
type record struct {
	mu     sync.Mutex
	record quota.Account
}

func (r *record) Update(_ context.Context, _ string, change func(quota.Account, time.Time) quota.Account) (quota.Account, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record = change(r.record, time.Now())
	return r.record, nil
}

// codes records the codes of the requests that were sent.
type codes struct {
	mu   sync.Mutex
	seen []string
}

func (c *codes) Request(_, _, code string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, code)
}

// world is a client with the product's own transport, and a network.
type world struct {
	*httpapi.Client
	network *simulate.Network
	gate    *gate.Gate
	codes   *codes
	opts    httpapi.Options
}

// newWorld returns a client of h at http://h.example/base/. change may change the
// options before the client is made.
func newWorld(t testing.TB, h http.Handler, change func(*httpapi.Options), secrets ...string) *world {
	t.Helper()
	w := &world{network: &simulate.Network{}, codes: &codes{}}
	w.network.Handle("h.example", h)
	rt, err := httpapi.NewTransport("a", config.HTTP{}, nil)
	require.NoError(t, err)
	transport := rt.(*http.Transport)
	transport.DialContext = w.network.DialContext
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		w.network.Close()
	})
	mask := secret.NewMask()
	for _, s := range secrets {
		mask.Add(s)
	}
	w.opts = httpapi.Options{
		Provider: "p", Account: "a", Hosts: map[string]*url.URL{"": parse(t, "http://h.example/base/")}, Timeout: 10 * time.Second,
		Transport: rt, Gate: gate.New("id", plenty, &record{}), Slots: httpapi.NewSlots(1),
		Mask: mask, Observer: w.codes, Logger: log.NewNopLogger(),
	}
	if change != nil {
		change(&w.opts)
	}
	w.gate, w.Client = w.opts.Gate, httpapi.New(w.opts)
	return w
}

func limitedTo(limit quota.Limit) func(*httpapi.Options) {
	return func(o *httpapi.Options) { o.Gate = gate.New("id", limit, &record{}) }
}

func parse(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	require.NoError(t, err)
	return u
}

// do sends call and returns the error as one of the contract.
func (w *world) do(t testing.TB, call providers.Call) *providers.Error {
	t.Helper()
	err := w.Do(t.Context(), call)
	if err == nil {
		return nil
	}
	var e *providers.Error
	require.ErrorAs(t, err, &e)
	return e
}

// get returns the body of the answer at path.
func (w *world) get(t testing.TB, path string) (string, *providers.Error) {
	t.Helper()
	var text string
	e := w.do(t, providers.Call{Path: path, Parse: func(a providers.Answer) error {
		text = string(a.Body)
		if e := providers.CheckStatus(a); e != nil {
			return e
		}
		return nil
	}})
	return text, e
}

// write is a handler that writes text.
func write(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}
