package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/server"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// balanceAccount is an account with one balance, or none for an empty currency.
func balanceAccount(name string, amount float64, currency string, low *float64) snapshot.Account {
	now := time.Now()
	s := snapshot.Source{
		Part: providers.Part{Kind: providers.KindBalance, Interval: time.Minute, LowThreshold: low},
		Up:   true, LastSuccess: now.Add(-75 * time.Second), LastTry: now, NextDue: now.Add(30 * time.Second),
	}
	if currency != "" {
		s.Balances = []providers.Balance{{Amount: amount, Currency: currency}}
	}
	return snapshot.Account{
		Provider: "8x8", Account: name, Billing: providers.BillingPrepaid,
		Limit: quota.Limit{Requests: 1, Per: time.Second, Burst: 5}, QuotaUsed: 2, Sources: []snapshot.Source{s},
	}
}

func low(x float64) *float64 { return &x }

// accounts are one of each state.
func accounts() []snapshot.Account {
	now := time.Now()
	falling := balanceAccount("falling", 172, "USD", low(200))
	for i := range 5 {
		falling.Sources[0].History = append(falling.Sources[0].History, snapshot.Point{
			At: now.Add(time.Duration(i-4) * time.Minute), Balances: []providers.Balance{{Amount: 180 - 2*float64(i), Currency: "USD"}},
		})
	}
	failing := balanceAccount("<b>failing</b>", 0, "", nil)
	failing.CooldownUntil, failing.CooldownReason = now.Add(90*time.Second), quota.CauseRefused
	failing.Sources[0].Up, failing.Sources[0].LastSuccess = false, time.Time{}
	failing.Sources[0].Failure = &snapshot.Failure{Reason: providers.ReasonAuth, Message: "says <no>", ID: "c388daa9", Count: 3}
	failing.Sources[0].Past = []snapshot.Subscriber{{TriedAt: now.Add(-time.Minute), Failure: failing.Sources[0].Failure}}
	credit := balanceAccount("credit", -400, "EUR", low(-500))
	wallets := balanceAccount("wallets", 5, "USD", nil)
	wallets.Sources[0].Balances = append(wallets.Sources[0].Balances, providers.Balance{Amount: 0, Currency: "USD", Wallet: "promo"})
	untried := balanceAccount("untried", 0, "", nil)
	untried.Sources[0] = snapshot.Source{Part: untried.Sources[0].Part}
	fleet := snapshot.Account{
		Provider: "flolive", Account: "fleet", Limit: quota.Limit{Requests: 2, Per: time.Second, Burst: 2}, PlannedPerSecond: 3,
		Sources: []snapshot.Source{{
			Part: providers.Part{Kind: providers.KindSubscribers, Interval: 15 * time.Minute}, Up: true, LastSuccess: now, LastTry: now,
			Fleet:   &snapshot.Fleet{Fresh: 97, Stale: 1, Failed: 1, Pending: 1},
			Totals:  []snapshot.Total{{Currency: "USD", Sum: 120.5, Count: 98, Low: 4, HasThreshold: true}, {Unit: "KB", Sum: 5, Count: 1}},
			Failure: &snapshot.Failure{Reason: providers.ReasonNotFound, Message: "gone", Count: 1},
		}},
	}
	return []snapshot.Account{balanceAccount("sound", 149309.7985931, "USD", low(100)), untried, fleet, failing, credit, falling, wallets}
}

// text returns what a page shows, without tags.
func text(page string) string {
	page = regexp.MustCompile(`(?s)<style>.*</style>|<[^>]*>`).ReplaceAllString(page, " ")
	return strings.Join(strings.Fields(page), " ")
}

func TestOverview(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := routes(&scrapes{}, accounts(), nil)
		w := do(h, http.MethodGet, "/", "")
		assert.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
		assert.NotContains(t, w.Body.String(), "<script")
		assert.NotContains(t, w.Body.String(), "<b>failing")
		assert.Equal(t, "balance_exporter balance_exporter Accounts Metrics JSON Health Readiness Runbook Documentation "+
			"7 accounts 1 empty 1 low 1 failing 1 cooling down 1 degraded 1 not read yet Search Find "+
			"State Account Provider Balance Change Age Next Reason "+
			"empty wallets 8x8 5 USD promo 0 USD 1m 15s in 30s promo balance is empty "+
			"low falling 8x8 172 USD low below 200 -8 in 4m 1m 15s in 30s balance is low "+
			"failing cooling down &lt;b&gt;failing&lt;/b&gt; 8x8 no value never in 30s balance: auth 3 times no requests for 1m 30s "+
			"degraded fleet flolive 100 subscribers 1 not read yet 0s next scrape 4 of 98 USD balances low 2 subscribers failing subscribers: not_found demand is above the rate limit "+
			"not read yet untried 8x8 no value never next scrape "+
			"ok credit 8x8 -400 EUR low below -500 1m 15s in 30s "+
			"ok sound 8x8 149309.7985931 USD low below 100 1m 15s in 30s "+
			"development build · 2000-01-01 00:00:00 UTC · Values are read when Prometheus scrapes, at most once per interval. "+
			"This page sends no requests to providers. It reloads every 30 s; stop that .", text(w.Body.String()))
		assert.Contains(t, w.Body.String(), `<svg class="spark" viewBox="0 0 120 28" preserveAspectRatio="none" role="img" aria-label="from 180 to 172 in 4m, between 172 and 180">`+
			`<line x1="0" x2="120" y1="2.0" y2="2.0"/><polyline points="0.0,19.1 30.0,20.9 60.0,22.6 90.0,24.3 120.0,26.0 "/></svg>`)

		found := text(do(h, http.MethodGet, "/?q=FALL", "").Body.String())
		assert.Contains(t, found, "7 accounts 1 empty", "the summary is that of all")
		assert.Contains(t, found, "low falling")
		assert.NotContains(t, found, "sound")
		assert.NotContains(t, found, "reloads")
		assert.Contains(t, text(do(h, http.MethodGet, "/?q=auth&show=cooling_down", "").Body.String()), "failing cooling down")
		assert.Contains(t, text(do(h, http.MethodGet, "/?q=absent", "").Body.String()), "No account matches.")
		w = do(h, http.MethodGet, "/?show=high", "")
		assert.Equal(t, http.StatusBadRequest, w.Code)
		assert.Contains(t, w.Body.String(), "unknown state \"high\" in show: expected one of empty, low,")

		none, _ := routes(&scrapes{}, nil, nil)
		assert.Contains(t, text(do(none, http.MethodGet, "/", "").Body.String()), "0 accounts Search Find No account is configured.")
	})
}

// A page of thousands of accounts is bounded; a search finds the others.
func TestOverviewOfThousandsIsBounded(t *testing.T) {
	var many []snapshot.Account
	for i := range 2000 {
		many = append(many, balanceAccount(fmt.Sprintf("account-%04d", i), 1000, "USD", nil))
	}
	h, _ := routes(&scrapes{}, many, nil)
	page := do(h, http.MethodGet, "/", "").Body.String()
	assert.Equal(t, 501, strings.Count(page, "<tr "), "with the header")
	assert.Contains(t, text(page), "1500 more accounts do not fit here")
	assert.Contains(t, do(h, http.MethodGet, "/?q=account-1999", "").Body.String(), "account-1999")
}

func TestAccountPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := routes(&scrapes{}, accounts(), nil)
		fleet := text(do(h, http.MethodGet, "/account?provider=flolive&name=fleet", "").Body.String())
		for _, want := range []string{
			"fleet degraded flolive", "120.5 USD on 98 balances 4 low 5 KB on 1 balance", "0 of 2 requests used, 2 back per second; the configuration plans 3 per second. That is above the limit",
			"100 in all: 97 fresh, 1 stale, 1 without a value, 1 not read yet.",
			"Lowest Subscriber Left Low below Balance id truck-12 0.5 USD 2 USD id",
			"Failing subscribers Reason When Subscriber Message not_found never, 2 in a row truck-13 does &lt;not&gt; exist",
		} {
			assert.Contains(t, fleet, want)
		}
		failing := text(do(h, http.MethodGet, "/account?provider=8x8&name=%3Cb%3Efailing%3C/b%3E", "").Body.String())
		assert.Contains(t, failing, "Cool-down: no requests until 00:01:30 UTC (auth)")
		assert.Contains(t, failing, "Last failures of balance Reason When Subscriber Message auth 1m ago, 3 in a row says &lt;no&gt; Error id for the provider's support: c388daa9")
		for _, query := range []string{"", "?provider=8x8&name=fleet", "?name=sound"} {
			assert.Equal(t, http.StatusNotFound, do(h, http.MethodGet, "/account"+query, "").Code, query)
		}
	})
}

func TestStatusForScripts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := routes(&scrapes{}, accounts(), nil)
		w := do(h, http.MethodGet, "/api/v1/status?show=low", "")
		assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
		assert.JSONEq(t, `{"version": "development build", "now": "2000-01-01T00:00:00Z", "demo": false,
			"summary": {"accounts": 7, "empty": 1, "low": 1, "failing": 1, "cooling_down": 1, "degraded": 1, "not_read_yet": 1, "ok": 2},
			"accounts": [{"provider": "8x8", "account": "falling", "states": ["low"], "billing": "prepaid",
				"balances": [{"amount": 172, "currency": "USD", "low_threshold": 200, "state": "low", "expires": null, "history": [
					{"at": "1999-12-31T23:56:00Z", "amount": 180}, {"at": "1999-12-31T23:57:00Z", "amount": 178}, {"at": "1999-12-31T23:58:00Z", "amount": 176},
					{"at": "1999-12-31T23:59:00Z", "amount": 174}, {"at": "2000-01-01T00:00:00Z", "amount": 172}]}],
				"sources": [{"source": "balance", "state": "ok", "last_success": "1999-12-31T23:58:45Z", "last_try": "2000-01-01T00:00:00Z", "next": "2000-01-01T00:00:30Z",
					"refreshing": false, "interval_seconds": 60, "failure": null, "last_failures": []}],
				"cooldown_until": null, "quota": {"used": 2, "burst": 5, "requests_per_second": 1, "planned_requests_per_second": 0, "above_limit": false}}]}`, w.Body.String())

		var all struct {
			Accounts []struct {
				Account string
				States  []string
				Fleet   *struct {
					Subscribers, Fresh int
					Lowest, Failing    []map[string]any
				}
			}
		}
		require.NoError(t, json.Unmarshal(do(h, http.MethodGet, "/api/v1/status", "").Body.Bytes(), &all))
		require.Len(t, all.Accounts, 7)
		assert.Equal(t, "wallets", all.Accounts[0].Account, "the worst first")
		fleet := all.Accounts[3].Fleet
		assert.Equal(t, map[string]any{"subscriber": "truck-12", "balance_id": "id", "value": 0.5, "unit": "USD", "threshold": 2.0}, fleet.Lowest[0])
		assert.Equal(t, "truck-13", fleet.Failing[0]["subscriber"])
		assert.Equal(t, http.StatusBadRequest, do(h, http.MethodGet, "/api/v1/status?show=x", "").Code)
	})
}

// Links are relative, or start with the external URL.
func TestExternalURL(t *testing.T) {
	links := func(external string) (out []string) {
		h := server.New(server.Options{
			TelemetryPath: "/metrics", ExternalURL: external, Status: func() []snapshot.Account { return accounts()[:1] },
		}).Routes()
		for _, path := range []string{"/", "/account?provider=8x8&name=sound"} {
			for _, m := range regexp.MustCompile(`(?:href|action)="([^"]*)"`).FindAllStringSubmatch(do(h, http.MethodGet, path, "").Body.String(), -1) {
				if !strings.HasPrefix(m[1], "https://github.com/") && !strings.HasPrefix(m[1], "data:") {
					out = append(out, m[1])
				}
			}
		}
		return out
	}
	for _, link := range links("") {
		assert.False(t, strings.HasPrefix(link, "/"), link)
		assert.NotContains(t, link, "://")
	}
	for _, external := range []string{"https://ops.example/balances", "https://ops.example/balances/"} {
		for _, link := range links(external) {
			assert.True(t, strings.HasPrefix(link, "https://ops.example/balances/"), link)
		}
	}
	for _, good := range []string{"", "http://a", "https://ops.example:8443/balances/"} {
		assert.NoError(t, server.CheckExternalURL(good), good)
	}
	for _, bad := range []string{"/balances", "ops.example", "ftp://a", "https://", "https://u:p@a", "https://a/?q", "https://a/#f", "http://a b"} {
		assert.EqualError(t, server.CheckExternalURL(bad), "must be a whole URL without user, query and fragment; for example https://ops.example.com/balances/", bad)
	}
}

// Every link to the runbook leads to a chapter of it.
func TestRunbookHasTheChapters(t *testing.T) {
	book, err := os.ReadFile("../../docs/runbook.md")
	require.NoError(t, err)
	chapters := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(book), -1) {
		chapters[strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")] = true
	}
	all := accounts()
	for _, reason := range providers.Reasons() {
		failing := balanceAccount("failing "+string(reason), 0, "", nil)
		failing.Sources[0].Up, failing.Sources[0].Failure = false, &snapshot.Failure{Reason: reason, Message: "no"}
		all = append(all, failing)
	}
	h, _ := routes(&scrapes{}, all, nil)
	links := regexp.MustCompile(`docs/runbook\.md#([a-z-]*)"`).FindAllStringSubmatch(do(h, http.MethodGet, "/", "").Body.String(), -1)
	assert.Greater(t, len(links), 10)
	for _, link := range links {
		assert.True(t, chapters[link[1]], link[1])
	}
}
