package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/exposition"
	"github.com/balance-exporter/balance_exporter/internal/logging"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/server"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// scrapes notes what the routes asked for.
type scrapes struct {
	timeout time.Duration
	kinds   []providers.Kind
	parts   exposition.Parts
	served  int
}

func routes(s *scrapes, status []snapshot.Account, reload error) (http.Handler, *server.Server) {
	srv := server.New(server.Options{
		TelemetryPath: "/metrics", TimeoutOffset: 500 * time.Millisecond, Logger: log.NewNopLogger(),
		Refresh: func(ctx context.Context, kinds []providers.Kind) {
			deadline, _ := ctx.Deadline()
			s.timeout, s.kinds = time.Until(deadline), kinds
		},
		Serve: func(w http.ResponseWriter, _ *http.Request, parts exposition.Parts) {
			s.parts = parts
			s.served++
		},
		Status: func() []snapshot.Account { return status },
		Reload: func() error { return reload },
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
		"0.5":   0,
		"0.1":   0,
		"0":     9500 * time.Millisecond,
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
	assert.Equal(t, 2, s.served)
}

// What net/http has to say, of a failed TLS handshake for one, is a line like others.
func TestErrorsOfConnectionsAreLogged(t *testing.T) {
	var out strings.Builder
	logger, err := logging.New(&out, "info", logging.JSON)
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
		{http.MethodPost, "/-/reload", 500, "the configuration was not reloaded, the one before stays in force: no such file\n"},
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
	assert.Equal(t, 200, do(h, http.MethodGet, "/-/healthy", "").Code)
	assert.Zero(t, s.served)
}

func TestStatusPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		h, _ := routes(&scrapes{}, []snapshot.Account{{
			Provider: "8x8", Account: `<b>messaging</b>`, Billing: providers.BillingPrepaid,
			Limit: quota.Limit{Requests: 1, Per: time.Second, Burst: 5}, QuotaUsed: 2, PlannedPerSecond: 2,
			CooldownUntil: now.Add(90 * time.Second), CooldownReason: providers.ReasonRateLimited,
			Sources: []snapshot.Source{{
				Part: providers.Part{Kind: providers.KindBalance, Interval: time.Minute},
				Up:   true, LastSuccess: now.Add(-75 * time.Second), LastTry: now, NextDue: now.Add(30 * time.Second),
				Balance: &providers.Balance{Amount: 149309.7985931, Currency: "USD"},
			}, {
				Part:    providers.Part{Kind: providers.KindPrices, Interval: 25 * time.Hour},
				LastTry: now,
				Failure: &snapshot.Failure{Reason: providers.ReasonForbidden, Message: "says <no>", ID: "c388daa9", Count: 3},
			}},
		}, {
			Provider: "flolive", Account: "fleet", Billing: providers.BillingUnknown, Limit: quota.Limit{Requests: 2, Per: time.Second, Burst: 2},
			Sources: []snapshot.Source{{
				Part:  providers.Part{Kind: providers.KindSubscribers, Interval: 15 * time.Minute},
				Fleet: &snapshot.Fleet{Fresh: 5, Stale: 1, Failed: 2, Pending: 2},
			}},
		}}, nil)
		w := do(h, http.MethodGet, "/", "")
		assert.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
		assert.NotContains(t, w.Body.String(), "<script")
		assert.NotContains(t, w.Body.String(), "<b>messaging")
		text := strings.Join(strings.Fields(regexp.MustCompile(`(?s)<style>.*</style>|<[^>]*>`).ReplaceAllString(w.Body.String(), " ")), " ")
		assert.Equal(t, "balance_exporter balance_exporter development build · 2000-01-01 00:00:00 UTC Metrics Health Readiness Documentation "+
			"&lt;b&gt;messaging&lt;/b&gt; 8x8 · prepaid Quota: 40 % 2 of 5 used, 1 back per second · requests demanded: 7200 per hour above the limit: values get older than their interval "+
			"Cool-down: nothing is sent for 1m 30s (rate_limited) "+
			"balance works Value 149309.7985931 USD Last read 1m 15s ago Next at the first scrape in 30s Interval 1m "+
			"prices fails Last read never Next at the next scrape Interval 1d 1h forbidden , 3 times in a row says &lt;no&gt; Id for the provider's support: c388daa9 "+
			"fleet flolive Quota: 0 % 0 of 2 used, 2 back per second · requests demanded: 0 per hour "+
			"subscribers not asked yet Last read never Next at the next scrape Interval 15m Subscribers 10: 5 fresh, 1 stale, 2 failed, 2 pending 80 % "+
			"Values are read when Prometheus scrapes, at most once in their interval. This page asks no provider.", text)
	})
}
