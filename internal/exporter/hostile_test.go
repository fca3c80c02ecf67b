package exporter

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
)

// slowVariable makes tests take the time that a thorough run needs, for CI.
const slowVariable = "BALANCE_EXPORTER_SLOW"

// endpoint is one kind of request that the exporter sends.
type endpoint struct {
	simulate.Endpoint
	of simulate.Case
}

// endpoints returns all that the exporter requests of its providers, by name.
var endpoints = sync.OnceValue(func() map[string]endpoint {
	all := map[string]endpoint{}
	for _, c := range alltest.Cases() {
		for _, e := range c.Endpoints {
			all[c.Provider+" "+c.Name+" "+e.Name] = endpoint{e, c}
		}
	}
	return all
})

// every is how long to wait until the endpoint is requested again.
func (e endpoint) every() time.Duration {
	if e.Interval > 0 {
		return e.Interval + time.Hour
	}
	return time.Minute + time.Second
}

// newHostile returns a world with an account for e and another that must not be
// affected.
func newHostile(t *testing.T, e endpoint) (*world, *simAccount) {
	w := newWorld(t, nil)
	a := w.add(e.of)
	// What is wrong with an answer is the subject here, and more than a watch knows.
	a.watch.untracked = true
	neighbour := w.add(casesWith(balances, true)[0])
	for _, other := range neighbour.Endpoints {
		if other.Number != nil {
			neighbour.answer(other, func() string { return other.Number("7") })
		}
	}
	return w, a
}

// requireNeighbour fails the test if the other account is affected.
func (w *world) requireNeighbour(series map[string]string) {
	w.t.Helper()
	values := slices.Collect(maps.Values(w.accounts[1].valuesOf(series, balances)))
	require.Equal(w.t, []string{"7"}, values, "the other account is affected")
}

// values returns the series of the account's endpoint, sorted.
func (e endpoint) values(a *simAccount, series map[string]string) []string {
	var found []string
	for name, value := range a.valuesOf(series, e.Metric) {
		found = append(found, name+" "+value)
	}
	slices.Sort(found)
	return found
}

// failures returns the counters of the endpoint's source that are not 0.
func (e endpoint) failures(a *simAccount, series map[string]string) map[providers.Reason]int {
	found := map[providers.Reason]int{}
	for _, reason := range providers.Reasons() {
		name := fmt.Sprintf("balance_exporter_refresh_failures_total{account=%q,provider=%q,reason=%q,source=%q}", a.name, a.Provider, reason, e.Source)
		if n, _ := strconv.Atoi(series[name]); n > 0 {
			found[reason] = n
		}
	}
	return found
}

// hostileFault is a fault with the reason of the failure that it must cause.
type hostileFault struct {
	fault  simulate.Fault
	reason providers.Reason
}

var hostileFaults = sync.OnceValue(func() map[string]hostileFault {
	const bad = providers.ReasonBadResponse
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	return map[string]hostileFault{
		"no answer":           {simulate.ResetAfter(0), providers.ReasonUnavailable},
		"hangs":               {simulate.Hang(), providers.ReasonTimeout},
		"hangs in the body":   {hangIn(10), providers.ReasonTimeout},
		"slow drip":           {simulate.SlowDrip(10*time.Second, 1), providers.ReasonTimeout},
		"closed early":        {simulate.CloseEarly(10), bad},
		"reset in the body":   {simulate.ResetAfter(10), bad},
		"length too long":     {simulate.WrongContentLength(1 << 20), bad},
		"length too short":    {simulate.WrongContentLength(5), bad},
		"conflicting lengths": {conflictingLengths(), bad},
		"unknown encoding":    {simulate.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: brotli\r\n\r\n{}"), bad},
		"no HTTP":             {simulate.Raw("SSH-2.0-OpenSSH_9.6\r\n"), bad},
		"endless header":      {simulate.EndlessHeader(), bad},
		"switched protocols":  {simulate.SwitchProtocols(), bad},
		"HTML with 200":       {simulate.HTML(200), bad},
		"HTML with 404":       {simulate.HTML(404), providers.ReasonNotFound},
		"HTML with 502":       {simulate.HTML(502), providers.ReasonUnavailable},
		"HTML with 429":       {simulate.HTML(429), providers.ReasonRateLimited},
		"408":                 {simulate.HTML(408), providers.ReasonTimeout},
		"410":                 {simulate.HTML(410), providers.ReasonNotFound},
		"426":                 {simulate.HTML(426), providers.ReasonTLS},
		"503 that hangs":      {statusThatHangs(503), providers.ReasonUnavailable},
		"304":                 {simulate.Status(304, "", "", nil), bad},
		"999":                 {simulate.Status(999, "text/plain", "what", nil), providers.ReasonUnavailable},
		"empty":               {simulate.Body(""), bad},
		"white space":         {simulate.Body(strings.Repeat(" \n", 1000)), bad},
		"null":                {simulate.Body("null"), bad},
		"a number":            {simulate.Body("17"), bad},
		"a string":            {simulate.Body(`"fine"`), bad},
		"no JSON":             {simulate.Body("hello"), bad},
		"half of it":          {simulate.Body(`{"balance":1`), bad},
		"zero bytes":          {simulate.Body(strings.Repeat("\x00", 100)), bad},
		"UTF-16":              {simulate.Body("\xff\xfe{\x00}\x00"), bad},
		"10 000 deep":         {simulate.DeepJSON(10_000), bad},
		"deep in a field":     {simulate.Body(`{"unknown":` + deep + `}`), bad},
		"deep without an end": {simulate.Body(strings.Repeat(`{"a":`, 100_000)), bad},
		"too large":           {simulate.Huge(65 << 20), bad},
		"gzip bomb":           {simulate.GzipBomb(100 << 20), bad},
		"no gzip":             {simulate.Status(200, "application/json", "plain", http.Header{"Content-Encoding": {"gzip"}}), bad},
		"another coding":      {simulate.Status(200, "application/json", "plain", http.Header{"Content-Encoding": {"br"}}), bad},
		"redirect elsewhere":  {simulate.Redirect(307, "https://elsewhere.example/"), bad},
		"redirect for ever":   {simulate.Redirect(302, "?"), bad},
		"redirect to nowhere": {simulate.Status(302, "", "", nil), bad},
		"redirect to garbage": {simulate.Redirect(302, "https://%zz/"), bad},
	}
})

// Each fault, at each endpoint: the scrape succeeds, the failure has its reason and no
// other, no value is invented, the other account is not affected, the source recovers,
// and the exporter stops at once while the fault lasts. The bubble makes sure that no
// goroutine is left.
func TestEveryFaultAtEveryEndpoint(t *testing.T) {
	t.Parallel()
	n := 0
	for _, name := range slices.Sorted(maps.Keys(endpoints())) {
		for _, fault := range slices.Sorted(maps.Keys(hostileFaults())) {
			// The stride does not divide the number of faults. Tens of megabytes take seconds
			// where they are read.
			large := endpoints()[name].Metric == prices && (fault == "too large" || fault == "gzip bomb")
			if n++; os.Getenv(slowVariable) == "" && (n%23 != 0 || large) {
				continue
			}
			t.Run(name+"/"+fault, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { testFault(t, endpoints()[name], hostileFaults()[fault]) })
			})
		}
	}
}

func testFault(t *testing.T, e endpoint, c hostileFault) {
	if c.reason == providers.ReasonNotFound && e.Missing != "" {
		c.reason = providers.Reason(e.Missing)
	}
	w, a := newHostile(t, e)
	a.faults.Add(simulate.Rule{Fault: c.fault, Match: a.matches(e.Endpoint)})
	w.open()
	for range 4 {
		series := w.metrics("/metrics")
		w.requireNeighbour(series)
		require.Empty(t, e.values(a, series), "a value was invented")
		time.Sleep(20 * time.Second)
	}
	series := w.metrics("/metrics")
	up := fmt.Sprintf("balance_exporter_up{account=%q,provider=%q,source=%q}", a.name, a.Provider, e.Source)
	require.Equal(t, "0", series[up])
	failures := e.failures(a, series)
	require.Positive(t, failures[c.reason], "%v\n%s", failures, w.failures())
	require.Len(t, failures, 1, "%v\n%s", failures, w.failures())

	w.restore()
	for start := time.Now(); len(e.values(a, w.metrics("/metrics"))) == 0; time.Sleep(30 * time.Second) {
		require.Less(t, time.Since(start), 70*time.Minute, "the source does not recover: %s", w.failures())
	}
	w.requireUnbroken()

	a.faults.Add(simulate.Rule{Fault: c.fault, Match: a.matches(e.Endpoint)})
	time.Sleep(e.every())
	go w.get("/metrics", 60)
	time.Sleep(time.Second)
	start := time.Now()
	w.exporter.Close()
	require.Zero(t, time.Since(start), "the end waits for the provider")
}

// An answer in gzip, which is decoded whether it was requested or not, gives the same
// values as one that is not compressed.
func TestAnswersInGzip(t *testing.T) {
	for _, c := range alltest.Cases() {
		t.Run(c.Provider+"/"+c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				plain, gzipped := w.add(c), w.add(c)
				gzipped.faults.Set(simulate.Gzip())
				w.open()
				w.metrics("/metrics") // a fleet may need a second scrape
				series := w.metrics("/metrics")
				require.True(t, w.up(), w.failures())
				for _, e := range c.Endpoints {
					want := endpoint{e, c}.values(plain, series)
					require.NotEmpty(t, want)
					got := strings.ReplaceAll(strings.Join(endpoint{e, c}.values(gzipped, series), "\n"), gzipped.name, plain.name)
					require.Equal(t, strings.Join(want, "\n"), got)
				}
			})
		})
	}
}

// A connection that breaks after any number of bytes costs one failure and no value,
// and the next try works. If it breaks before the first byte, a GET and the request for a
// token are repeated if the connection had been used before, and nothing fails.
func TestResetAtEachByte(t *testing.T) {
	t.Parallel()
	for name, e := range endpoints() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { testResets(t, e) })
		})
	}
}

func testResets(t *testing.T, e endpoint) {
	w, a := newHostile(t, e)
	a.maxAge = 240 * time.Hour
	w.open()
	for w.metrics("/metrics"); !w.up(); time.Sleep(time.Second) {
		w.metrics("/metrics")
	}
	before := e.values(a, w.metrics("/metrics"))
	require.NotEmpty(t, before)
	failed, stride := 0, 29
	if os.Getenv(slowVariable) != "" {
		stride = 1
	}
	for n := 0; ; n += stride {
		if e.Login {
			a.api.ExpireTokens()
		}
		var whole atomic.Int64
		var repeats atomic.Bool
		a.faults.Add(simulate.Rule{Times: 1, Match: a.matches(e.Endpoint), Fault: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				repeats.Store(n == 0 && (r.Method == http.MethodGet || e.Login))
				resetWithin(n, &whole)(next).ServeHTTP(rw, r)
			})
		}})
		for whole.Load() == 0 {
			time.Sleep(e.every())
			w.metrics("/metrics")
		}
		series := w.metrics("/metrics")
		if !repeats.Load() {
			failed++
		}
		got := e.failures(a, series)
		broken := got[providers.ReasonUnavailable] + got[providers.ReasonBadResponse]
		if e.Login {
			// Several sources may need one token, and another way to get one may work at
			// once.
			require.LessOrEqual(t, broken, 2*failed, "after %d bytes: %v", n, got)
		} else {
			if n == 0 && broken == failed+1 {
				failed++ // another source had the connection that was used before
			}
			require.Equal(t, failed, broken, "after %d bytes: %v\n%s", n, got, w.failures())
		}
		for reason := range got {
			require.Contains(t, []providers.Reason{providers.ReasonUnavailable, providers.ReasonBadResponse}, reason)
		}
		require.Equal(t, before, e.values(a, series), "after %d bytes", n)
		if n >= int(whole.Load()) {
			return
		}
		time.Sleep(10 * time.Second)
		require.Equal(t, before, e.values(a, w.metrics("/metrics")))
	}
}

// resetWithin resets the connection after n bytes of a good answer, or after all of
// them, and sets whole to the length of the answer.
func resetWithin(n int, whole *atomic.Int64) simulate.Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			var good simulate.Answer
			simulate.Rewrite(func(_ *http.Request, a simulate.Answer) simulate.Answer {
				good = a
				return a
			})(next).ServeHTTP(httptest.NewRecorder(), r)
			whole.Store(int64(len(good.Body)))
			simulate.ResetAfter(min(n, len(good.Body)))(simulate.Body(string(good.Body))(nil)).ServeHTTP(rw, r)
		})
	}
}

// A number that cannot be represented is not served; any other is served as it was
// sent.
func TestUnusualValues(t *testing.T) {
	const big = 900 << 10
	numbers := map[string]string{ // as sent, as served; "" for not served
		`1e400`: "", `-1e400`: "", `NaN`: "", `Infinity`: "", `"NaN"`: "", `"Inf"`: "", `"-Infinity"`: "", `"1e400"`: "",
		`0x10`: "", `"0x10"`: "", `"1_000"`: "", `"1,5"`: "", `""`: "", `" "`: "", `null`: "", `true`: "", `[1]`: "", `{}`: "",
		`01`: "", `+1`: "", `.5`: "", `-`: "", `1` + strings.Repeat("0", 400): "",
		`0`: "0", `-0.000001`: "-1e-06", `149309.7985931`: "149309.7985931", `9007199254740993`: "9.007199254740992e+15",
		`1e-400`: "0", `0.1`: "0.1", `1.7976931348623157e308`: "1.7976931348623157e+308",
	}
	for name, e := range endpoints() {
		if e.Number == nil {
			continue
		}
		one := func(t *testing.T, body string, check func(t *testing.T, values []string)) {
			synctest.Test(t, func(t *testing.T) {
				w, a := newHostile(t, e)
				a.answer(e.Endpoint, func() string { return body })
				w.open()
				series := w.metrics("/metrics")
				w.requireNeighbour(series)
				check(t, e.values(a, series))
			})
		}
		for number, served := range numbers {
			t.Run(name+"/"+number[:min(20, len(number))], func(t *testing.T) {
				one(t, e.Number(number), func(t *testing.T, values []string) {
					require.Equal(t, served != "", len(values) > 0, values)
					for _, got := range values {
						require.True(t, strings.HasSuffix(got, "} "+served), "%s became %s", number, got)
					}
				})
			})
		}
		for text, body := range map[string]string{
			"duplicate keys": strings.Replace(e.Number("1"), ":1", ":2,\"accountBalance\":1,\"balance\":1,\"value\":1", 1),
			"enormous":       strings.Replace(e.Number("1"), `USD`, strings.Repeat("U", big), 1),
			"control":        strings.Replace(e.Number("1"), `USD`, `\u0000\n\r\u001b[31m\"\\`, 1),
			"surrogate":      strings.Replace(e.Number("1"), `USD`, `\ud800`, 1),
			"invalid UTF-8":  strings.Replace(e.Number("1"), `USD`, "\xff\xfe\xc0\xaf", 1),
			"line separator": strings.Replace(e.Number("1"), `USD`, "\u2028\u202e", 1),
			"byte order":     "\ufeff" + e.Number("1"),
			"two documents":  e.Number("1") + e.Number("2"),
			"trailing brace": e.Number("1") + "}",
		} {
			t.Run(name+"/"+text, func(t *testing.T) {
				one(t, body, func(t *testing.T, values []string) {
					for _, got := range values {
						require.True(t, utf8.ValidString(got))
						require.True(t, strings.HasSuffix(got, " 1") || strings.HasSuffix(got, " 2"), got)
					}
				})
			})
		}
	}
}

// Texts in an answer may hold anything: each of them in turn is replaced. A parser can
// read the scrape, and labels are valid UTF-8, bounded and without control characters.
func TestUnusualNames(t *testing.T) {
	t.Parallel()
	for text, hostile := range map[string]string{
		"invalid UTF-8": "A\xff\xfeB", "control": `\u0000\u0007\n\t\u007f`, "quotes": `\"} 1\nfake_metric 1\n`,
		"enormous": strings.Repeat("😀x", 5000), "empty": "", "surrogate": `\udfff`, "emoji": "😀", "direction": "\u202e\u2066",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			shown := false // for the texts that a label can hold
			for _, name := range slices.Sorted(maps.Keys(endpoints())) {
				synctest.Test(t, func(t *testing.T) { shown = testNames(t, endpoints()[name], hostile) || shown })
			}
			require.Equal(t, strings.Contains(hostile, "😀"), shown, "whether any text becomes a label")
		})
	}
}

var jsonText = regexp.MustCompile(`(: ?)"(?:[^"\\]|\\.)*"`)

// testNames replaces each text of the endpoint's answer in turn. It reports whether a
// label had an emoji.
func testNames(t *testing.T, e endpoint, text string) (shown bool) {
	w, a := newHostile(t, e)
	var position, texts atomic.Int64
	a.base.Add(simulate.Rule{Match: a.matches(e.Endpoint), Fault: simulate.Rewrite(func(_ *http.Request, answer simulate.Answer) simulate.Answer {
		n := int64(0)
		answer.Body = jsonText.ReplaceAllFunc(answer.Body, func(match []byte) []byte {
			if n++; n != position.Load() {
				return match
			}
			return []byte(`: "` + text + `"`)
		})
		texts.Store(n)
		return answer
	})})
	stride := int64(5)
	if os.Getenv(slowVariable) != "" {
		stride = 1
	}
	w.open()
	for ; position.Load() <= texts.Load(); position.Add(stride) {
		if a.api.ExpireTokens != nil && e.Login {
			a.api.ExpireTokens()
		}
		answer := w.get("/metrics", 60)
		require.Equal(t, http.StatusOK, answer.Code)
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(answer.Body)
		require.NoError(t, err)
		require.NotContains(t, families, "fake_metric")
		for _, family := range families {
			for _, m := range family.GetMetric() {
				for _, l := range m.GetLabel() {
					value := l.GetValue()
					require.True(t, utf8.ValidString(value), "%s=%q", l.GetName(), value)
					require.False(t, strings.ContainsFunc(value, unicode.IsControl), "%s=%q", l.GetName(), value)
					require.LessOrEqual(t, len(value), 256, "%s=%q", l.GetName(), value)
					shown = shown || strings.Contains(value, "😀")
				}
			}
		}
		time.Sleep(e.every())
	}
	return shown
}

// Of a price list that is too long, max_series rows are served and the others counted;
// memory is bounded by what is served, whatever is sent. The short form has one endpoint
// of each provider.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("hundreds of megabytes are read")
	}
	const mega = 1 << 20
	for name, c := range map[string]struct {
		metric  string
		fault   simulate.Fault
		most    uint64 // bytes above what there was before
		dropped int    // by max_series
		slow    bool   // takes seconds
	}{
		"30 000 rows":               {prices, eightxeightsim.LargePrices(30_000), 60 * mega, 20_000, false},
		"100 000 rows":              {prices, eightxeightsim.LargePrices(100_000), 100 * mega, 90_000, true},
		"300 000 rows":              {prices, eightxeightsim.LargePrices(300_000), 200 * mega, 290_000, true},
		"a million rows, 64 MiB":    {prices, eightxeightsim.LargePrices(1_000_000), 250 * mega, 0, true},
		"endless price list":        {prices, simulate.Huge(1 << 40), 300 * mega, 0, true},
		"price list of white space": {prices, simulate.GzipBomb(1 << 36), 300 * mega, 0, true},
		"one string of 64 MiB":      {prices, oneString(), 300 * mega, 0, true},
		"endless answer":            {"", simulate.Huge(1 << 40), 50 * mega, 0, false},
		"answer that is a bomb":     {"", simulate.GzipBomb(1 << 40), 50 * mega, 0, false},
	} {
		if c.slow && os.Getenv(slowVariable) == "" {
			continue
		}
		seen := map[string]bool{}
		for _, at := range slices.Sorted(maps.Keys(endpoints())) {
			e := endpoints()[at]
			if (e.Metric == prices) != (c.metric == prices) || c.dropped > 0 && e.of.Provider != "8x8" { // whose list it is
				continue
			}
			if seen[e.of.Provider] && os.Getenv(slowVariable) == "" {
				continue
			}
			seen[e.of.Provider] = true
			t.Run(name+"/"+at, func(t *testing.T) {
				peak := peakHeap(func() {
					synctest.Test(t, func(t *testing.T) {
						w, a := newHostile(t, e)
						a.api.Config = strings.Replace(a.api.Config, "countries: [SG, US]", "max_series: 10000", 1)
						a.faults.Add(simulate.Rule{Fault: c.fault, Match: a.matches(e.Endpoint), Times: 1})
						w.open()
						series := w.metrics("/metrics")
						w.requireNeighbour(series)
						if c.dropped == 0 {
							failures := e.failures(a, series)
							require.Len(t, failures, 1, "%v", failures)
							require.Positive(t, failures[providers.ReasonBadResponse])
							return
						}
						require.Len(t, e.values(a, series), 10_000)
						dropped := series[`balance_exporter_dropped_rows_total{account="a0",provider="8x8",reason="max_series"}`]
						require.Equal(t, strconv.Itoa(c.dropped), dropped)
					})
				})
				t.Logf("%d MiB", peak/mega)
				require.Less(t, peak, c.most)
			})
		}
	}
}

// oneString answers with a text that does not end.
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
	debug.SetGCPercent(100)
	defer debug.SetGCPercent(testGCPercent)
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
