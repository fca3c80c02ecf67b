package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/exposition"
	"github.com/balance-exporter/balance_exporter/internal/logging"
	"github.com/balance-exporter/balance_exporter/internal/server"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// scrapes notes what the routes asked for.
type scrapes struct {
	timeout time.Duration
	kinds   []providers.Kind
	names   []snapshot.Name
	parts   exposition.Parts
	served  int
	state   error // why the state was never reached
}

func routes(s *scrapes, status []snapshot.Account, reload error) (http.Handler, *server.Server) {
	srv := server.New(server.Options{
		TelemetryPath: "/metrics", TimeoutOffset: 500 * time.Millisecond, Logger: log.NewNopLogger(),
		Refresh: func(ctx context.Context, kinds []providers.Kind, names []snapshot.Name) {
			deadline, _ := ctx.Deadline()
			s.timeout, s.kinds, s.names = time.Until(deadline), kinds, names
		},
		Serve: func(w http.ResponseWriter, _ *http.Request, parts exposition.Parts) {
			s.parts = parts
			s.served++
		},
		Names: func() []snapshot.Name {
			return []snapshot.Name{{Provider: "8x8", Account: "a"}, {Provider: "yeastar", Account: "a"}, {Provider: "8x8", Account: "b/c"}}
		},
		Status: func() []snapshot.Account { return status },
		Subscribers: func(name snapshot.Name, most int) (lowest, failing []snapshot.Subscriber) {
			return []snapshot.Subscriber{{Name: "truck-12", Threshold: 2, Balance: providers.SubscriberBalance{ID: "id", Currency: "USD", Value: 0.5}}},
				[]snapshot.Subscriber{{Name: "truck-13", Failure: &snapshot.Failure{Reason: providers.ReasonNotFound, Message: "does <not> exist", Count: 2}}}
		},
		Reload:     func() (string, error) { return "1 added: 8x8/a", reload },
		StateReady: func(context.Context) error { return s.state },
	})
	return srv.Routes(), srv
}

func do(h http.Handler, method, path, timeout string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, nil)
	if timeout != "" {
		req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", timeout)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

func TestDeadlineOfAScrape(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":      9500 * time.Millisecond,
		"10":    9500 * time.Millisecond,
		"30.25": 29750 * time.Millisecond,
		"0.6":   100 * time.Millisecond,
		"0.5":   0,
		"0.1":   0,
		"0":     0,
		"-3":    9500 * time.Millisecond,
		"soon":  9500 * time.Millisecond,
		"NaN":   9500 * time.Millisecond,
		"1e300": 10*time.Minute - 500*time.Millisecond,
	} {
		synctest.Test(t, func(t *testing.T) {
			var s scrapes
			h, _ := routes(&s, nil, nil)
			do(h, http.MethodGet, "/metrics", header)
			assert.Equal(t, want, s.timeout, "header %q", header)
			assert.Equal(t, 1, s.served)
		})
	}
}

func TestParts(t *testing.T) {
	var s scrapes
	h, _ := routes(&s, nil, nil)
	do(h, http.MethodGet, "/metrics", "")
	assert.Equal(t, exposition.Parts{Kinds: providers.Kinds(), Own: true}, s.parts)
	do(h, http.MethodGet, "/metrics?collect[]=prices&collect[]=exporter&collect[]=prices", "")
	assert.Equal(t, exposition.Parts{Kinds: []providers.Kind{providers.KindPrices}, Own: true}, s.parts)
	assert.Equal(t, []providers.Kind{providers.KindPrices}, s.kinds)
	w := do(h, http.MethodGet, "/metrics?collect[]=price", "")
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.Equal(t, "unknown part \"price\" in collect[]: expected balances, prices, subscribers or exporter\n", w.Body.String())
	for _, query := range []string{"collect[]=bogus;a", "%zz", "collect[]=balances&%zz=1"} {
		assert.Equal(t, http.StatusBadRequest, do(h, http.MethodGet, "/metrics?"+query, "").Code, query)
	}
	assert.Equal(t, 2, s.served, "a bad query refreshes and shows nothing")
}

func TestAccountsOfAScrape(t *testing.T) {
	var s scrapes
	h, _ := routes(&s, nil, nil)
	do(h, http.MethodGet, "/metrics", "")
	assert.Nil(t, s.names)
	for query, want := range map[string][]snapshot.Name{
		"account[]=a":                          {{Provider: "8x8", Account: "a"}, {Provider: "yeastar", Account: "a"}},
		"account[]=yeastar/a":                  {{Provider: "yeastar", Account: "a"}},
		"account[]=8x8/b/c&collect[]=balances": {{Provider: "8x8", Account: "b/c"}},
		"account[]=b/c&account[]=yeastar/a":    {{Provider: "8x8", Account: "b/c"}, {Provider: "yeastar", Account: "a"}},
	} {
		do(h, http.MethodGet, "/metrics?"+query, "")
		assert.Equal(t, want, s.names, query)
		assert.Equal(t, want, s.parts.Accounts, query)
	}
	served := s.served
	w := do(h, http.MethodGet, "/metrics?account[]=a&account[]=8x8/z", "")
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.Equal(t, "unknown account \"8x8/z\" in account[]: expected NAME or PROVIDER/NAME of an account in the configuration\n", w.Body.String())
	assert.Equal(t, served, s.served, "nothing is refreshed and shown")
}

func TestReloadFromAnotherOriginIsRefused(t *testing.T) {
	reloads := 0
	h := server.New(server.Options{
		TelemetryPath: "/metrics", Logger: log.NewNopLogger(),
		Reload: func() (string, error) { reloads++; return "", nil },
	}).Routes()
	for _, c := range []struct {
		name   string
		header http.Header
		code   int
	}{
		{"curl", nil, 200},
		{"same origin", http.Header{"Sec-Fetch-Site": {"same-origin"}}, 200},
		{"cross site", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		{"same site", http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
		{"old browser", http.Header{"Origin": {"https://evil.example"}}, 403},
	} {
		req := httptest.NewRequest(http.MethodPost, "/-/reload", nil)
		req.Header = c.header
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		assert.Equal(t, c.code, w.Code, c.name)
	}
	assert.Equal(t, 2, reloads)
}

func TestCheckPath(t *testing.T) {
	for _, good := range []string{"/", "/metrics", "/a/b.c", "/a/"} {
		assert.NoError(t, server.CheckPath(good), good)
	}
	for bad, want := range map[string]string{
		"":               "must start with /",
		"metrics":        "must start with /",
		"/-/ready":       "must not be below /-/, which has the health and reload endpoints",
		"/a b":           "must not contain spaces or any of {}?#%",
		"/{x}":           "must not contain spaces or any of {}?#%",
		"/m?a":           "must not contain spaces or any of {}?#%",
		"/account":       "must not be the path of a page of the exporter; for example /metrics",
		"/api/v1/status": "must not be the path of a page of the exporter; for example /metrics",
		"//metrics":      "must be a clean path, without //, /./ or /../; for example /metrics",
		"/../m":          "must be a clean path, without //, /./ or /../; for example /metrics",
		"/./":            "must be a clean path, without //, /./ or /../; for example /metrics",
		"/a/../b":        "must be a clean path, without //, /./ or /../; for example /metrics",
		"/metrics//":     "must be a clean path, without //, /./ or /../; for example /metrics",
	} {
		assert.EqualError(t, server.CheckPath(bad), want, bad)
	}
}

// A scrape stops waiting for refreshes early enough to render and write, as long as
// the last one took.
func TestTimeToRenderIsReserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waited, left []time.Duration
		h := server.New(server.Options{
			TelemetryPath: "/metrics", TimeoutOffset: 500 * time.Millisecond, Logger: log.NewNopLogger(),
			Refresh: func(ctx context.Context, _ []providers.Kind, _ []snapshot.Name) {
				deadline, _ := ctx.Deadline()
				waited = append(waited, time.Until(deadline))
			},
			Serve: func(_ http.ResponseWriter, r *http.Request, _ exposition.Parts) {
				deadline, _ := r.Context().Deadline()
				left = append(left, time.Until(deadline))
				time.Sleep(2 * time.Second)
			},
		}).Routes()
		for range 2 {
			do(h, http.MethodGet, "/metrics", "10")
		}
		do(h, http.MethodGet, "/metrics", "2")
		assert.Equal(t, []time.Duration{9500 * time.Millisecond, 7500 * time.Millisecond, 750 * time.Millisecond}, waited)
		assert.Equal(t, []time.Duration{9500 * time.Millisecond, 9500 * time.Millisecond, 1500 * time.Millisecond}, left)
	})
}

// What net/http has to say, of a failed TLS handshake for one, is a line like others.
func TestErrorsOfConnectionsAreLogged(t *testing.T) {
	var out strings.Builder
	logger, err := logging.New(&out, "info", logging.JSON, func(line string) string { return line })
	require.NoError(t, err)
	srv := server.New(server.Options{TelemetryPath: "/metrics", Logger: logger})
	srv.HTTP().ErrorLog.Printf("http: TLS handshake error from %s: EOF", "127.0.0.1:1")
	var line map[string]string
	require.NoError(t, json.Unmarshal([]byte(out.String()), &line), out.String())
	assert.Equal(t, "warn", line["level"])
	assert.Equal(t, "http: TLS handshake error from 127.0.0.1:1: EOF", line["msg"])
	assert.Regexp(t, `^server_test\.go:`, line["caller"])
}

func TestOtherRoutes(t *testing.T) {
	var s scrapes
	h, srv := routes(&s, nil, errors.New("no such file"))
	for _, c := range []struct {
		method, path string
		code         int
		text         string
	}{
		{http.MethodGet, "/-/healthy", 200, "healthy\n"},
		{http.MethodHead, "/-/healthy", 200, ""},
		{http.MethodGet, "/-/ready", 200, "ready\n"},
		{http.MethodGet, "/-/reload", 405, "Method Not Allowed\n"},
		{http.MethodPost, "/-/reload", 500, "configuration not reloaded, the previous one stays active: no such file\n"},
		{http.MethodPost, "/metrics", 405, "Method Not Allowed\n"},
		{http.MethodGet, "/debug/pprof/", 404, "404 page not found\n"},
		{http.MethodGet, "/nonsense", 404, "404 page not found\n"},
	} {
		w := do(h, c.method, c.path, "")
		assert.Equal(t, c.code, w.Code, c.path)
		if c.method != http.MethodHead {
			assert.Equal(t, c.text, w.Body.String(), c.path)
		}
	}
	srv.Stopping()
	assert.Equal(t, 503, do(h, http.MethodGet, "/-/ready", "").Code)

	h, _ = routes(&scrapes{state: errors.New("connection refused")}, nil, nil)
	w := do(h, http.MethodGet, "/-/ready", "")
	assert.Equal(t, 503, w.Code)
	assert.Equal(t, "the state has not been reached yet: connection refused\n", w.Body.String())
	assert.Equal(t, 200, do(h, http.MethodGet, "/-/healthy", "").Code)
	assert.Equal(t, 200, do(h, http.MethodGet, "/-/healthy", "").Code)
	assert.Zero(t, s.served)
}
