package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

// endpoint is one kind of request that the exporter sends.
type endpoint struct {
	add    func(w *world) *simAccount
	path   *regexp.Regexp
	source providers.Kind
	value  string // the start of a series that comes of it
	login  bool
}

// endpoints are all that the exporter asks of its providers.
func endpoints() map[string]endpoint {
	all := map[string]endpoint{}
	eightxeight := func(w *world) *simAccount { return w.addEightXEight(eightxeightsim.NewBalance("100.5"), 0) }
	all["8x8 balance"] = endpoint{add: eightxeight, path: regexp.MustCompile(`/balance$`), source: providers.KindBalance, value: "account_balance{"}
	all["8x8 prices"] = endpoint{add: eightxeight, path: regexp.MustCompile(`/prices$`), source: providers.KindPrices, value: "sms_price{"}
	if has("yeastar") {
		yeastar := func(w *world) *simAccount { return w.addYeastar(yeastarsim.Options{Balance: "675.24"}) }
		all["Yeastar token"] = endpoint{add: yeastar, path: regexp.MustCompile(`/token$`), source: providers.KindBalance, value: "account_balance{", login: true}
		all["Yeastar balance"] = endpoint{add: yeastar, path: regexp.MustCompile(`/account_balance$`), source: providers.KindBalance, value: "account_balance{"}
	}
	if has("flolive") {
		fleet := func(how string, o flolivesim.Options) func(w *world) *simAccount {
			return func(w *world) *simAccount { return w.addFloLIVE(2, how, o) }
		}
		of := func(add func(w *world) *simAccount, path string, login bool) endpoint {
			return endpoint{add: add, path: regexp.MustCompile(path), source: providers.KindSubscribers, value: "subscriber_balance{", login: login}
		}
		all["floLIVE token"] = of(fleet(fleetNamed, flolivesim.Options{}), `/auth/token$`, true)
		all["floLIVE balance"] = of(fleet(fleetNamed, flolivesim.Options{}), `/balance/`, false)
		all["floLIVE offers"] = of(fleet(fleetOffers, flolivesim.Options{}), `/offer$`, false)
		all["floLIVE listing"] = of(fleet(fleetListing, flolivesim.Options{}), `/customer/[^/]*/subscriber$`, false)
		all["floLIVE cursor"] = of(fleet(fleetListing, flolivesim.Options{PageIgnored: true, MaxPageSize: 1}), `/subscriber-all$`, false)
	}
	return all
}

// every is how often the endpoint is asked.
func (e endpoint) every() time.Duration {
	if e.source == providers.KindSubscribers && !e.login && !e.matches(httptest.NewRequest("", "/balance/", nil)) {
		return 25 * time.Hour // listings and offers are read daily
	}
	return 61 * time.Second
}

func (e endpoint) matches(r *http.Request) bool { return e.path.MatchString(r.URL.Path) }

// newHostile opens an exporter with an account for e and another that must not
// notice anything.
func newHostile(t *testing.T, e endpoint) (*world, *simAccount) {
	w := newWorld(t, nil)
	a := e.add(w)
	// What is wrong with an answer is the subject here, and more than a watch knows.
	a.watch.good = func(int, []byte) bool { return false }
	w.addEightXEight(eightxeightsim.NewBalance("7"), -1)
	return w, a
}

const neighbour = `account_balance{account="a1",currency="USD",provider="8x8"}`

// values returns the series of the account's endpoint.
func (e endpoint) values(series map[string]string) []string {
	var found []string
	for name, value := range series {
		if strings.HasPrefix(name, e.value) && strings.Contains(name, `account="a0"`) {
			found = append(found, name+" "+value)
		}
	}
	slices.Sort(found)
	return found
}

func (e endpoint) failures(a *simAccount, series map[string]string) map[providers.Reason]int {
	found := map[providers.Reason]int{}
	for _, reason := range providers.Reasons() {
		name := fmt.Sprintf("balance_exporter_refresh_failures_total{account=%q,provider=%q,reason=%q,source=%q}", a.name, a.provider, reason, e.source)
		if n, _ := strconv.Atoi(series[name]); n > 0 {
			found[reason] = n
		}
	}
	return found
}

// Each fault, at each endpoint: the scrape succeeds, the failure has its reason and
// no other, nothing is invented, the other account is as it was, no goroutine is
// left (the bubble sees to that), and all comes back.
func TestEveryFaultAtEveryEndpoint(t *testing.T) {
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	faults := map[string]struct {
		fault  simulate.Fault
		reason providers.Reason
	}{
		"no answer":           {simulate.ResetAfter(0), providers.ReasonUnavailable},
		"hangs":               {simulate.Hang(), providers.ReasonTimeout},
		"hangs in the body":   {hangIn(10), providers.ReasonTimeout},
		"slow drip":           {simulate.SlowDrip(10*time.Second, 1), providers.ReasonTimeout},
		"closed early":        {simulate.CloseEarly(10), providers.ReasonBadResponse},
		"reset in the body":   {simulate.ResetAfter(10), providers.ReasonBadResponse},
		"length too long":     {simulate.WrongContentLength(1 << 20), providers.ReasonBadResponse},
		"length too short":    {simulate.WrongContentLength(5), providers.ReasonBadResponse},
		"HTML with 200":       {simulate.HTML(200), providers.ReasonBadResponse},
		"HTML with 404":       {simulate.HTML(404), providers.ReasonNotFound},
		"HTML with 502":       {simulate.HTML(502), providers.ReasonUnavailable},
		"HTML with 429":       {simulate.HTML(429), providers.ReasonRateLimited},
		"408":                 {simulate.HTML(408), providers.ReasonTimeout},
		"410":                 {simulate.HTML(410), providers.ReasonNotFound},
		"426":                 {simulate.HTML(426), providers.ReasonTLS},
		"503 that hangs":      {statusThatHangs(503), providers.ReasonUnavailable},
		"304":                 {simulate.Status(304, "", "", nil), providers.ReasonBadResponse},
		"999":                 {simulate.Status(999, "text/plain", "what", nil), providers.ReasonUnavailable},
		"empty":               {simulate.Body(""), providers.ReasonBadResponse},
		"white space":         {simulate.Body(strings.Repeat(" \n", 1000)), providers.ReasonBadResponse},
		"null":                {simulate.Body("null"), providers.ReasonBadResponse},
		"a number":            {simulate.Body("17"), providers.ReasonBadResponse},
		"a string":            {simulate.Body(`"fine"`), providers.ReasonBadResponse},
		"no JSON":             {simulate.Body("hello"), providers.ReasonBadResponse},
		"half of it":          {simulate.Body(`{"balance":1`), providers.ReasonBadResponse},
		"zero bytes":          {simulate.Body(strings.Repeat("\x00", 100)), providers.ReasonBadResponse},
		"UTF-16":              {simulate.Body("\xff\xfe{\x00}\x00"), providers.ReasonBadResponse},
		"10 000 deep":         {simulate.DeepJSON(10_000), providers.ReasonBadResponse},
		"deep in a field":     {simulate.Body(`{"unknown":` + deep + `}`), providers.ReasonBadResponse},
		"deep without an end": {simulate.Body(strings.Repeat(`{"a":`, 100_000)), providers.ReasonBadResponse},
		"too large":           {simulate.Huge(65 << 20), providers.ReasonBadResponse},
		"gzip bomb":           {simulate.GzipBomb(100 << 20), providers.ReasonBadResponse},
		"no gzip":             {simulate.Status(200, "application/json", "plain", http.Header{"Content-Encoding": {"gzip"}}), providers.ReasonBadResponse},
		"redirect elsewhere":  {simulate.Redirect(307, "https://elsewhere.example/"), providers.ReasonBadResponse},
		"redirect for ever":   {simulate.Redirect(302, "?"), providers.ReasonBadResponse},
		"redirect to nowhere": {simulate.Status(302, "", "", nil), providers.ReasonBadResponse},
		"redirect to garbage": {simulate.Redirect(302, "https://%zz/"), providers.ReasonBadResponse},
	}
	for name, e := range endpoints() {
		for fault, c := range faults {
			t.Run(name+"/"+fault, func(t *testing.T) {
				if (fault == "too large" || fault == "gzip bomb") && testing.Short() {
					t.Skip("tens of megabytes")
				}
				synctest.Test(t, func(t *testing.T) {
					w, a := newHostile(t, e)
					a.faults.Add(simulate.Rule{Fault: c.fault, Match: e.matches})
					w.open()
					defer func() { w.exporter.close() }()
					for range 4 {
						series := w.metrics("/metrics")
						require.Equal(t, "7", series[neighbour], "the other account has noticed")
						require.Empty(t, e.values(series), "a value was invented")
						time.Sleep(20 * time.Second)
					}
					series := w.metrics("/metrics")
					up := fmt.Sprintf("balance_exporter_up{account=%q,provider=%q,source=%q}", a.name, a.provider, e.source)
					require.Equal(t, "0", series[up])
					failures := e.failures(a, series)
					require.Positive(t, failures[c.reason], "%v", failures)
					require.Len(t, failures, 1, "%v", failures)

					w.restore()
					for start := time.Now(); len(e.values(w.metrics("/metrics"))) == 0; time.Sleep(30 * time.Second) {
						require.Less(t, time.Since(start), 70*time.Minute, "it does not come back")
					}
					w.requireUnbroken()
				})
			})
		}
	}
}

// hangIn sends n bytes of the body and then nothing more.
func hangIn(n int) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat(" ", n))
			<-r.Context().Done()
		})
	}
}

// statusThatHangs sends a header and never a body.
func statusThatHangs(status int) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			<-r.Context().Done()
		})
	}
}

// slowVariable makes tests take the time that a thorough run needs, for CI.
const slowVariable = "BALANCE_EXPORTER_SLOW"

// A connection that breaks after any number of bytes costs one failure and no
// value; the next try works.
func TestResetAtEachByte(t *testing.T) {
	for name, e := range endpoints() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, a := newHostile(t, e)
				a.maxAge = 240 * time.Hour
				w.open()
				defer func() { w.exporter.close() }()
				before := e.values(w.metrics("/metrics"))
				require.NotEmpty(t, before)
				failed, stride := 0, 7
				if os.Getenv(slowVariable) != "" {
					stride = 1
				}
				for n := 0; ; n += stride {
					if a.expire != nil && e.login {
						a.expire()
					}
					var whole atomic.Int64
					a.faults.Add(simulate.Rule{Times: 1, Match: e.matches, Fault: func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
							c := &capture{ResponseWriter: discard{}, watch: a.watch}
							next.ServeHTTP(c, r)
							whole.Store(int64(c.body.Len()))
							simulate.ResetAfter(min(n, c.body.Len()))(simulate.Body(c.body.String())(nil)).ServeHTTP(rw, r)
						})
					}})
					for whole.Load() == 0 {
						time.Sleep(e.every())
						w.metrics("/metrics")
					}
					series := w.metrics("/metrics")
					failed++
					got := e.failures(a, series)
					broken := got[providers.ReasonUnavailable] + got[providers.ReasonBadResponse]
					if e.login {
						// Several sources may need one token, and another way to get
						// one may work at once.
						require.LessOrEqual(t, broken, 2*failed, "after %d bytes: %v", n, got)
					} else {
						require.Equal(t, failed, broken, "after %d bytes: %v", n, got)
					}
					for reason := range got {
						require.Contains(t, []providers.Reason{providers.ReasonUnavailable, providers.ReasonBadResponse}, reason)
					}
					require.Equal(t, before, e.values(series), "after %d bytes", n)
					if n >= int(whole.Load()) {
						break
					}
					time.Sleep(10 * time.Second)
					require.Equal(t, before, e.values(w.metrics("/metrics")))
				}
			})
		})
	}
}

// discard is a ResponseWriter that nobody reads.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// Values that no balance can have, and names that no label can have. What cannot be
// told exactly is not told; what can is told as it was sent.
func TestUnusualValues(t *testing.T) {
	const big = 900 << 10
	numbers := map[string]string{ // as sent, as shown; "" for not at all
		`1e400`: "", `-1e400`: "", `NaN`: "", `Infinity`: "", `"NaN"`: "", `"Inf"`: "", `"-Infinity"`: "", `"1e400"`: "",
		`0x10`: "", `"0x10"`: "", `"1_000"`: "", `"1,5"`: "", `""`: "", `" "`: "", `null`: "", `true`: "", `[1]`: "", `{}`: "",
		`01`: "", `+1`: "", `.5`: "", `-`: "", `1` + strings.Repeat("0", 400): "",
		`0`: "0", `-0.000001`: "-1e-06", `149309.7985931`: "149309.7985931", `9007199254740993`: "9.007199254740992e+15",
		`1e-400`: "0", `0.1`: "0.1", `1.7976931348623157e308`: "1.7976931348623157e+308",
	}
	for name, e := range map[string]struct {
		endpoint
		body func(number string) string
	}{
		"8x8":     {endpoints()["8x8 balance"], func(n string) string { return `{"balance":` + n + `,"currency":"USD"}` }},
		"yeastar": {endpoints()["Yeastar balance"], func(n string) string { return `{"code":"success","status":200,"result":{"accountBalance":` + n + `}}` }},
		"flolive": {endpoints()["floLIVE balance"], func(n string) string {
			return `{"errorCode":"","content":[{"balanceId":"b","currency":"USD","value":` + n + `}]}`
		}},
	} {
		if e.add == nil {
			continue
		}
		one := func(t *testing.T, body string, check func(t *testing.T, series map[string]string)) {
			synctest.Test(t, func(t *testing.T) {
				w, a := newHostile(t, e.endpoint)
				a.faults.Add(simulate.Rule{Fault: simulate.Body(body), Match: e.matches})
				w.open()
				defer func() { w.exporter.close() }()
				series := w.metrics("/metrics")
				require.Equal(t, "7", series[neighbour], "the other account has noticed")
				check(t, series)
			})
		}
		for number, shown := range numbers {
			t.Run(name+"/"+number[:min(20, len(number))], func(t *testing.T) {
				one(t, e.body(number), func(t *testing.T, series map[string]string) {
					for _, got := range e.values(series) {
						require.True(t, shown != "" && strings.HasSuffix(got, "} "+shown), "%s became %s", number, got)
					}
					if shown != "" {
						require.NotEmpty(t, e.values(series), number)
					}
				})
			})
		}
		for text, body := range map[string]string{
			"duplicate keys": strings.Replace(e.body("1"), ":1", ":2,\"accountBalance\":1,\"balance\":1,\"value\":1", 1),
			"enormous":       strings.Replace(e.body("1"), `USD`, strings.Repeat("U", big), 1),
			"control":        strings.Replace(e.body("1"), `USD`, `\u0000\n\r\u001b[31m\"\\`, 1),
			"surrogate":      strings.Replace(e.body("1"), `USD`, `\ud800`, 1),
			"invalid UTF-8":  strings.Replace(e.body("1"), `USD`, "\xff\xfe\xc0\xaf", 1),
			"line separator": strings.Replace(e.body("1"), `USD`, "\u2028\u202e", 1),
			"byte order":     "\ufeff" + e.body("1"),
			"two documents":  e.body("1") + e.body("2"),
			"trailing brace": e.body("1") + "}",
		} {
			t.Run(name+"/"+text, func(t *testing.T) {
				one(t, body, func(t *testing.T, series map[string]string) {
					for _, got := range e.values(series) {
						require.True(t, utf8.ValidString(got))
						require.True(t, strings.HasSuffix(got, " 1") || strings.HasSuffix(got, " 2"), got)
					}
				})
			})
		}
	}
}

// Names in a price list may hold anything; the scrape stays what a parser can read.
func TestUnusualNames(t *testing.T) {
	for name, operator := range map[string]string{
		"invalid UTF-8": "A\xff\xfeB", "control": `\u0000\u0007\n\t\u007f`, "quotes": `\"} 1\nfake_metric 1\n`,
		"enormous": strings.Repeat("x", 1<<20), "empty": "", "surrogate": `\udfff`, "emoji": "😀",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := endpoints()["8x8 prices"]
				w, a := newHostile(t, e)
				body := `{"subAccounts":[{"subAccountId":"s","outbound":{"countries":[{"alpha2Code":"SG","operators":[{"operatorName":"` + operator +
					`","hni":[{"mcc":"525","mnc":"01"}],"price":{"amount":1.5,"currency":"SGD"}}]}]}}]}`
				a.faults.Add(simulate.Rule{Fault: simulate.Body(body), Match: e.matches})
				w.open()
				defer func() { w.exporter.close() }()
				answer := w.get("/metrics", 10)
				require.Equal(t, http.StatusOK, answer.Code)
				parser := expfmt.NewTextParser(model.UTF8Validation)
				families, err := parser.TextToMetricFamilies(answer.Body)
				require.NoError(t, err)
				require.NotContains(t, families, "fake_metric")
				for _, m := range families["sms_price"].GetMetric() {
					for _, l := range m.GetLabel() {
						require.True(t, utf8.ValidString(l.GetValue()))
					}
				}
			})
		})
	}
}

// Of a price list that is too long, max_series rows are kept and the rest is
// counted; memory is bounded by what is kept, whatever is sent.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("hundreds of megabytes are read")
	}
	const mega = 1 << 20
	for name, c := range map[string]struct {
		endpoint string
		fault    simulate.Fault
		most     uint64 // bytes above what there was before
		dropped  int    // by max_series
	}{
		"300 000 rows":               {"8x8 prices", eightxeightsim.LargePrices(300_000), 150 * mega, 290_000},
		"a million rows, 64 MiB":     {"8x8 prices", eightxeightsim.LargePrices(1_000_000), 150 * mega, 0},
		"endless price list":         {"8x8 prices", simulate.Huge(1 << 40), 300 * mega, 0},
		"price list of white space":  {"8x8 prices", simulate.GzipBomb(1 << 36), 100 * mega, 0},
		"one string of 64 MiB":       {"8x8 prices", oneString(), 300 * mega, 0},
		"endless balance":            {"8x8 balance", simulate.Huge(1 << 40), 50 * mega, 0},
		"balance that is a bomb":     {"8x8 balance", simulate.GzipBomb(1 << 40), 50 * mega, 0},
		"endless token":              {"Yeastar token", simulate.Huge(1 << 40), 50 * mega, 0},
		"endless subscriber balance": {"floLIVE balance", simulate.GzipBomb(1 << 40), 50 * mega, 0},
	} {
		e, ok := endpoints()[c.endpoint]
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			peak := peakHeap(func() {
				synctest.Test(t, func(t *testing.T) {
					w, a := newHostile(t, e)
					extra := a.extra
					a.extra = func(a *simAccount) string { return strings.Replace(extra(a), "countries: []", "max_series: 10000", 1) }
					a.faults.Add(simulate.Rule{Fault: c.fault, Match: e.matches, Times: 1})
					w.open()
					defer func() { w.exporter.close() }()
					series := w.metrics("/metrics")
					require.Equal(t, "7", series[neighbour])
					dropped := series[`balance_exporter_dropped_rows_total{account="a0",provider="8x8",reason="max_series"}`]
					if c.dropped > 0 {
						require.Len(t, e.values(series), 10_000)
						require.Equal(t, strconv.Itoa(c.dropped), dropped)
					} else {
						require.Equal(t, map[providers.Reason]int{providers.ReasonBadResponse: 1}, e.failures(a, series))
					}
				})
			})
			t.Logf("%d MiB", peak/mega)
			require.Less(t, peak, c.most)
		})
	}
}

// oneString answers with a string that does not end.
func oneString() simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, `{"a":"`)
			for block := bytes.Repeat([]byte("x"), 32<<10); err == nil; {
				_, err = w.Write(block)
			}
		})
	}
}

// peakHeap returns by how many bytes the heap in use was larger while f ran.
func peakHeap(f func()) uint64 {
	read := func() uint64 {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	runtime.GC()
	before := read()
	peak := before
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				peak = max(peak, read())
			}
		}
	}()
	f()
	close(done)
	<-stopped
	return peak - before
}
