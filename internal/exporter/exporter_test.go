package exporter

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/logging"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
)

const (
	accountOne = "0f0e0d0c-0000-4000-8000-000000000001"
	accountTwo = "0f0e0d0c-0000-4000-8000-000000000002"
)

// bench is an exporter on a simulated network, used through its HTTP routes. Everything
// is real but the network and, in a synctest bubble, the time.
type bench struct {
	*Exporter
	t       *testing.T
	network *simulate.Network
	sim     *eightxeightsim.Server
	balance *eightxeightsim.SettableBalance // of account one
	file    string                          // the configuration
	log     *benchLog
	routes  http.Handler
}

func (b *bench) reload() error {
	_, err := b.Reload()
	return err
}

// benchLog is a log that can be read while it is written.
type benchLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (l *benchLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns what was logged so far.
func (l *benchLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// twoAccounts reads two accounts; only the first has prices.
const twoAccounts = `
accounts:
  - name: one
    provider: 8x8
    account_id: ` + accountOne + `
    api_key: key-one-1234
    balance: {refresh_interval: 1m, max_age: 10m, low_threshold: 500}
  - name: two
    provider: 8x8
    account_id: ` + accountTwo + `
    api_key: key-two-1234
    balance: {refresh_interval: 1m, max_age: 10m}
    prices: {enabled: false}
`

// newBench opens an exporter on a simulated 8x8, in a bubble.
func newBench(t *testing.T, configuration string) *bench {
	balance := eightxeightsim.NewBalance("100.5")
	sim := eightxeightsim.New(eightxeightsim.Options{Accounts: []eightxeightsim.Account{
		{ID: accountOne, APIKey: "key-one-1234", Currency: "USD", Balance: balance, Prices: somePrices},
		{ID: accountTwo, APIKey: "key-two-1234", Currency: "EUR", Balance: eightxeightsim.NewBalance("7")},
	}})
	b := benchOf(t, configuration, map[string]http.Handler{"sms.8x8.com": sim})
	b.sim, b.balance = sim, balance
	return b.open()
}

// benchOf returns an exporter on the given servers by host. It is not open.
func benchOf(t *testing.T, configuration string, servers map[string]http.Handler) *bench {
	network := &simulate.Network{}
	b := &bench{t: t, network: network, log: &benchLog{}, file: filepath.Join(t.TempDir(), "balance_exporter.yml")}
	b.configure(configuration)
	for host, server := range servers {
		network.Handle(host, server)
	}
	t.Cleanup(network.Close)
	masks := secret.NewMask()
	logger, err := logging.New(b.log, "debug", logging.Logfmt, masks.String)
	require.NoError(t, err)
	b.Exporter = New(Options{
		ConfigFile: b.file, StateURL: "memory:", TelemetryPath: "/metrics",
		TimeoutOffset: 500 * time.Millisecond, MaxWait: 2 * time.Second,
	}, logger, masks, Simulated(network))
	return b
}

// open opens the exporter, which ends with the test.
func (b *bench) open() *bench {
	require.NoError(b.t, b.Open())
	b.t.Cleanup(b.Close)
	b.routes = b.Server().Routes()
	return b
}

func (b *bench) configure(text string) {
	require.NoError(b.t, os.WriteFile(b.file, []byte(text), 0o600))
}

var somePrices = eightxeightsim.FixedPrices(eightxeightsim.SubAccount{
	ID: "marketing",
	Outbound: []eightxeightsim.Country{{
		Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65",
		Operators: []eightxeightsim.Operator{{
			Name: "SingTel", ID: 525001, HNI: []eightxeightsim.HNI{{MCC: "525", MNC: "01"}, {MCC: "525", MNC: "02"}},
			Price: &eightxeightsim.Price{Amount: "0.0520648", Currency: "SGD"},
		}},
	}},
})

func (b *bench) do(method, path string, header http.Header) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(b.t.Context(), method, path, nil)
	req.Header = header
	w := httptest.NewRecorder()
	b.routes.ServeHTTP(w, req)
	return w
}

// get asks for a path as Prometheus does, with a scrape timeout in seconds.
func (b *bench) get(path, timeout string) *httptest.ResponseRecorder {
	return b.do(http.MethodGet, path, http.Header{"X-Prometheus-Scrape-Timeout-Seconds": {timeout}})
}

// scrape returns the lines of /metrics of the named families, as they are served.
func (b *bench) scrape(names ...string) string {
	w := b.get("/metrics", "10")
	require.Equal(b.t, http.StatusOK, w.Code, w.Body)
	var lines strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		for _, name := range names {
			if strings.HasPrefix(line, name+"{") {
				lines.WriteString(line)
			}
		}
	}
	return lines.String()
}

// asked returns how many requests came for an account; for all of them if it is
// empty.
func (b *bench) asked(account string) int {
	n := 0
	for _, a := range b.sim.Requests.Arrivals() {
		if strings.Contains(a.Path, account) {
			n++
		}
	}
	return n
}

func onAccount(id string) func(*http.Request) bool {
	return func(r *http.Request) bool { return strings.Contains(r.URL.Path, id) }
}

const (
	balanceOne   = `account_balance{account="one",currency="USD",provider="8x8",wallet=""} 100.5` + "\n"
	balanceTwo   = `account_balance{account="two",currency="EUR",provider="8x8",wallet=""} 7` + "\n"
	bothBalances = balanceOne + balanceTwo
)

func TestFirstScrapeWaitsForEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		assert.Equal(t, bothBalances, b.scrape("account_balance"))
		assert.Equal(t, 3, b.asked(""), "two balances and a price list")
		assert.Equal(t, `sms_price{account="one",country="SG",currency="SGD",direction="outbound",mcc="525",mnc="01",number_type="",operator="SingTel",provider="8x8",sub_account="marketing"} 0.0520648
sms_price{account="one",country="SG",currency="SGD",direction="outbound",mcc="525",mnc="02",number_type="",operator="SingTel",provider="8x8",sub_account="marketing"} 0.0520648
`, b.scrape("sms_price"))
		assert.Equal(t, 3, b.asked(""), "nothing is due yet")
	})
}

func TestSlowProviderOutlivesAScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		b.sim.Faults.Add(simulate.Rule{Fault: simulate.Delay(20 * time.Second), Match: onAccount(accountOne)})
		start := time.Now()
		assert.Equal(t, balanceTwo, b.scrape("account_balance"), "the other account is not delayed")
		assert.Equal(t, 9500*time.Millisecond, time.Since(start), "the timeout less the offset")
		assert.Contains(t, b.scrape("balance_exporter_up"), `balance_exporter_up{account="one",provider="8x8",source="balance"} 0`)
		time.Sleep(5 * time.Second)
		assert.Equal(t, bothBalances, b.scrape("account_balance"), "the fetch went on and serves a later scrape")
		assert.Equal(t, 3, b.asked(""), "and nothing was asked twice")
	})
}

func TestValueIsServedWhileTheProviderIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		b.scrape()
		time.Sleep(61 * time.Second)
		b.sim.Faults.Set(simulate.Hang())
		start := time.Now()
		assert.Equal(t, bothBalances, b.scrape("account_balance"))
		assert.Equal(t, 2*time.Second, time.Since(start), "no longer than --scrape.max-wait")
		start = time.Now()
		b.get("/metrics", "0.4")
		assert.Zero(t, time.Since(start), "a timeout below the offset is answered from the cache")
	})
}

func TestManyScrapersOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		b.sim.Faults.Set(simulate.Delay(time.Second))
		for range 2 {
			for range 20 {
				go b.get("/metrics", "10")
			}
			time.Sleep(5 * time.Second)
		}
		assert.Equal(t, 3, b.asked(""))
	})
}

func TestNoScrapeNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		for _, path := range []string{"/", "/-/healthy", "/-/ready"} {
			assert.Equal(t, http.StatusOK, b.get(path, "").Code, path)
		}
		assert.Zero(t, b.asked(""))
		b.scrape()
		time.Sleep(24 * time.Hour)
		assert.Equal(t, 3, b.asked(""))
	})
}

func TestFailureKeepsTheValueUntilMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		b.scrape()
		read := time.Now()
		b.sim.Faults.Add(simulate.Rule{Fault: eightxeightsim.InternalError(), Match: onAccount(accountOne)})
		for time.Since(read) < 15*time.Minute {
			got := b.scrape("account_balance", "account_balance_low_threshold")
			age := time.Since(read)
			assert.Equal(t, age < 10*time.Minute, strings.Contains(got, balanceOne), "at %v", age)
			assert.Contains(t, got, `account_balance_low_threshold{account="one",currency="USD",provider="8x8"} 500`, "at %v", age)
			assert.Contains(t, got, balanceTwo, "at %v", age)
			time.Sleep(15 * time.Second)
		}
		assert.Contains(t, b.scrape("balance_exporter_up"), `balance_exporter_up{account="one",provider="8x8",source="balance"} 0`)
		b.sim.Faults.Clear()
		b.balance.Set("99.25")
		time.Sleep(6 * time.Minute)
		assert.Contains(t, b.scrape("account_balance"), `account_balance{account="one",currency="USD",provider="8x8",wallet=""} 99.25`, "it comes back")
	})
}

func TestTooManyRequestsInEveryDialect(t *testing.T) {
	for name, c := range map[string]struct {
		dialect     simulate.Hint
		least, most time.Duration
	}{
		"seconds": {simulate.HintSeconds, 90 * time.Second, 91 * time.Second},
		"date":    {simulate.HintDate, 89 * time.Second, 91 * time.Second},
		"body":    {simulate.HintBody, 90 * time.Second, 91 * time.Second},
		"nothing": {simulate.HintNone, time.Second, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, strings.Replace(twoAccounts, "low_threshold: 500}", "low_threshold: 500}\n    prices: {enabled: false}", 1))
				b.sim.Faults.Add(simulate.Rule{Fault: eightxeightsim.TooManyRequests(c.dialect, 90*time.Second), Match: onAccount(accountOne), Times: 1})
				limited := time.Now()
				assert.Equal(t, balanceTwo, b.scrape("account_balance"), "the other account is not touched")
				for b.asked(accountOne) == 1 && time.Since(limited) < time.Hour {
					time.Sleep(250 * time.Millisecond)
					b.get("/metrics?collect[]=balances", "10")
				}
				assert.GreaterOrEqual(t, time.Since(limited), c.least, "nothing is sent before")
				assert.LessOrEqual(t, time.Since(limited), c.most)
				assert.Contains(t, b.scrape("balance_exporter_refresh_failures_total"), `reason="rate_limited",source="balance"} 1`)
			})
		})
	}
}

func TestRefusedKeyDoesNotLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(key, []byte("wrong-key-1234\n"), 0o600))
		b := newBench(t, strings.Replace(twoAccounts, "api_key: key-one-1234", "api_key_file: "+key, 1))
		for start := time.Now(); time.Since(start) < time.Hour; time.Sleep(2 * time.Second) {
			b.get("/metrics?collect[]=balances&collect[]=prices", "10")
		}
		// After 5 s, 10 s, … 5 min: about 18 times in an hour, two sources each.
		assert.Less(t, b.asked(accountOne), 40)
		assert.Greater(t, b.asked(accountOne), 10)
		assert.Contains(t, b.scrape("account_balance"), balanceTwo)

		require.NoError(t, os.WriteFile(key, []byte("key-one-1234\n"), 0o600))
		assert.Equal(t, bothBalances, b.scrape("account_balance"), "a changed file ends the cool-down at once")
	})
}

// Whatever a provider answers, /metrics is 200, the account's up is 0 for the right
// reason, and the other account is as it was.
func TestGarbageStaysWithItsAccount(t *testing.T) {
	for name, c := range map[string]struct {
		fault  simulate.Fault
		reason string
	}{
		"truncated":        {simulate.CloseEarly(10), "bad_response"},
		"no answer":        {simulate.ResetAfter(0), "unavailable"},
		"hangs":            {simulate.Hang(), "timeout"},
		"drips":            {simulate.SlowDrip(10*time.Second, 1), "timeout"},
		"HTML with 200":    {simulate.HTML(200), "bad_response"},
		"HTML with 502":    {simulate.HTML(502), "unavailable"},
		"wrong types":      {simulate.Body(`{"balance":"x","currency":7,"subAccounts":{}}`), "bad_response"},
		"nothing in it":    {simulate.Body(`{"currency":"USD"}`), "bad_response"},
		"no JSON":          {simulate.Body(`hello`), "bad_response"},
		"empty":            {simulate.Body(``), "bad_response"},
		"null":             {simulate.Body(`null`), "bad_response"},
		"too deep":         {simulate.DeepJSON(20_000), "bad_response"},
		"huge":             {simulate.Huge(1<<20 + 2), "bad_response"},
		"bomb":             {simulate.GzipBomb(2 << 20), "bad_response"},
		"redirect":         {simulate.Redirect(302, "https://elsewhere.example/"), "bad_response"},
		"wrong length":     {simulate.WrongContentLength(1 << 20), "bad_response"},
		"not found":        {eightxeightsim.NotFound(), "not_found"},
		"forbidden":        {eightxeightsim.Forbidden(), "forbidden"},
		"old TLS":          {eightxeightsim.TLSRequired(), "tls"},
		"refused as wrong": {simulate.Status(400, "application/json", `{"code":1001}`, nil), "bad_request"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, twoAccounts)
				before := b.scrape("account_balance", "sms_price")
				b.sim.Faults.Add(simulate.Rule{Fault: c.fault, Match: onAccount(accountOne)})
				time.Sleep(61 * time.Minute)
				b.scrape()
				time.Sleep(time.Minute)
				got := b.scrape("balance_exporter_up", "balance_exporter_refresh_failures_total")
				assert.Contains(t, got, `balance_exporter_up{account="one",provider="8x8",source="balance"} 0`)
				assert.Contains(t, got, `balance_exporter_up{account="two",provider="8x8",source="balance"} 1`)
				for _, source := range []string{"balance", "prices"} {
					line := fmt.Sprintf("balance_exporter_refresh_failures_total{account=\"one\",provider=\"8x8\",reason=%q,source=%q} ", c.reason, source)
					assert.Contains(t, got, line)
					assert.NotContains(t, got, line+"0\n")
				}
				assert.Equal(t, strings.Replace(before, balanceOne, "", 1), b.scrape("account_balance", "sms_price"),
					"the balance has ended, all else is as before")
			})
		})
	}
}

func TestCollectPicksParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		body := b.get("/metrics?collect[]=balances", "10").Body.String()
		assert.Contains(t, body, "account_balance{")
		for _, other := range []string{"sms_price{", "balance_exporter_up", "go_goroutines", "promhttp_"} {
			assert.NotContains(t, body, other)
		}
		assert.Equal(t, 2, b.asked(""), "what is not shown is not read")
		w := b.get("/metrics?collect[]=nonsense", "10")
		assert.Equal(t, http.StatusBadRequest, w.Code)
		assert.Contains(t, w.Body.String(), "nonsense")
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		b.scrape()
		b.configure("accounts: [{name: one, provider: 8x8, nonsense: 1}]")
		w := b.do(http.MethodPost, "/-/reload", nil)
		assert.Equal(t, http.StatusInternalServerError, w.Code)
		assert.Contains(t, w.Body.String(), "nonsense")
		body := b.get("/metrics", "10").Body.String()
		assert.Contains(t, body, "balance_exporter_config_last_reload_successful 0")
		assert.Contains(t, body, bothBalances, "the old configuration stays")

		b.configure(strings.Replace(twoAccounts, "low_threshold: 500", "low_threshold: 600", 1))
		assert.Equal(t, http.StatusOK, b.do(http.MethodPost, "/-/reload", nil).Code)
		assert.Equal(t, "account_balance_low_threshold{account=\"one\",currency=\"USD\",provider=\"8x8\"} 600\n", b.scrape("account_balance_low_threshold"))
		assert.Equal(t, bothBalances, b.scrape("account_balance"))
		assert.Equal(t, 3, b.asked(""), "a changed account keeps its values")

		b.configure(twoAccounts[:strings.Index(twoAccounts, "  - name: two")])
		assert.Equal(t, http.StatusOK, b.do(http.MethodPost, "/-/reload", nil).Code)
		assert.Equal(t, balanceOne, b.scrape("account_balance"))
	})
}

// account[] limits what is refreshed and what is shown, the exporter's own metrics about
// accounts included.
func TestScrapeOfOneAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		library := b.get("/metrics?account[]=8x8/two&name[]=account_balance&name[]=balance_exporter_up", "10").Body.String()
		require.Contains(t, library, `account_balance{account="two"`)
		require.NotContains(t, library, `account="one"`)
		body := b.get("/metrics?account[]=two", "10").Body.String()
		require.Contains(t, body, `account_balance{account="two"`)
		require.Contains(t, body, `balance_exporter_up{account="two"`)
		require.Contains(t, body, "balance_exporter_build_info")
		require.NotContains(t, body, `account="one"`)
		require.Equal(t, 1, b.asked(""))
		require.Equal(t, http.StatusBadRequest, b.get("/metrics?account[]=three", "10").Code)
		require.Equal(t, 1, b.asked(""))
	})
}
