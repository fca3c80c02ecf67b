package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers/all"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

// world is an exporter with a state file among simulated providers, each account
// at a host of its own, where a watch looks at every request. It lives in a
// synctest bubble, and is the ground of the property tests.
type world struct {
	t        *testing.T
	rng      *rand.Rand
	network  *simulate.Network
	accounts []*simAccount
	dir      string
	opened   int // state files so far

	exporter *exporter
	routes   atomic.Pointer[http.Handler]

	mu    sync.Mutex
	story []string // what was done, for the report of a failure
}

// simAccount is an account, as it is configured now and as it is simulated.
type simAccount struct {
	provider, name string
	limit          quota.Limit
	interval       time.Duration
	maxAge         time.Duration
	timeout        time.Duration
	extra          func(a *simAccount) string // the provider's own lines of YAML
	removed        bool                       // from the configuration

	faults *simulate.Switch
	expire func() // makes every token invalid; nil where there are none
	watch  *watch
}

// newWorld returns a world without accounts.
func newWorld(t *testing.T, rng *rand.Rand) *world {
	return &world{t: t, rng: rng, network: &simulate.Network{}, dir: memoryDir(t)}
}

// memoryDir returns a directory in memory, if there is one: hundreds of exporters
// that start and stop would else wait for the disk.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "balance_exporter") //nolint:usetesting // t.TempDir is on a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// add brings in an account with the given simulator.
func (w *world) add(provider string, sim http.Handler, good func(status int, body []byte) bool) *simAccount {
	a := &simAccount{
		provider: provider, name: fmt.Sprintf("a%d", len(w.accounts)),
		limit:    quota.Limit{Requests: 1, Per: time.Second, Burst: 5},
		interval: time.Minute, maxAge: time.Hour, timeout: 30 * time.Second,
	}
	a.faults = simulate.NewSwitch(sim)
	a.watch = &watch{account: a, next: a.faults, good: good}
	w.network.Handle(a.name+".example", a.watch)
	w.accounts = append(w.accounts, a)
	return a
}

// addEightXEight brings in an account with a balance and, for prices, a filter by
// so many countries; -1 is no price list.
func (w *world) addEightXEight(balance eightxeightsim.Balance, countries int) *simAccount {
	sim := eightxeightsim.New(eightxeightsim.Options{Accounts: []eightxeightsim.Account{
		{ID: accountOne, APIKey: "key-one-1234", Currency: "USD", Balance: balance, Prices: somePrices},
	}})
	a := w.add("8x8", sim, func(status int, _ []byte) bool { return status == http.StatusOK })
	a.extra = func(a *simAccount) string {
		prices := "{enabled: false}"
		if countries >= 0 {
			prices = fmt.Sprintf("{refresh_interval: %s, max_age: %s, countries: [%s]}", a.interval, a.maxAge,
				strings.Join([]string{"SG", "US", "FR"}[:countries], ", "))
		}
		return fmt.Sprintf("    account_id: %s\n    api_key: key-one-1234\n    balance: {refresh_interval: %s, max_age: %s}\n    prices: %s\n",
			accountOne, a.interval, a.maxAge, prices)
	}
	// A fetch of several requests is not told apart from its repetition.
	a.watch.several = func(path string) bool { return strings.HasSuffix(path, "/prices") && countries > 1 }
	return a
}

func (w *world) addYeastar(o yeastarsim.Options) *simAccount {
	sim := yeastarsim.New(o)
	a := w.add("yeastar", sim, func(status int, body []byte) bool {
		return status == http.StatusOK && bytes.Contains(body, []byte(`"accountBalance"`))
	})
	a.expire = sim.ExpireTokens
	a.extra = func(a *simAccount) string {
		return fmt.Sprintf("    client_id: partner\n    client_secret: secret-of-partner\n    currency: USD\n    balance: {refresh_interval: %s, max_age: %s}\n",
			a.interval, a.maxAge)
	}
	a.watch.several = func(path string) bool { return path == yeastarsim.TokenPath }
	return a
}

// How the subscribers of a fleet and their balances are known.
const (
	fleetNamed   = "named"   // both, from the configuration
	fleetOffers  = "offers"  // balances from the offers of each subscriber
	fleetListing = "listing" // all from listing the customer's subscribers
)

// addFloLIVE brings in a fleet of n, each with one balance.
func (w *world) addFloLIVE(n int, how string, o flolivesim.Options) *simAccount {
	var fleet flolivesim.Listed
	for i := range n {
		fleet = append(fleet, flolivesim.Subscriber{
			ID: fmt.Sprintf("sub-%d", i), ICCID: fmt.Sprintf("894450123456789%04d", i),
			Pairs: []flolivesim.Pair{{IMSI: fmt.Sprintf("23450%010d", i), MSISDN: fmt.Sprintf("447%09d", i)}},
			Offers: []flolivesim.Offer{{
				ID: fmt.Sprintf("offer-%d", i), Name: "plan", Type: "MONEY",
				Balances: []flolivesim.Balance{{ID: fmt.Sprintf("balance-%d", i), Unit: "USD", Value: fmt.Sprint(i)}},
			}},
		})
	}
	o.Subscribers = fleet
	sim := flolivesim.New(o)
	a := w.add("flolive", sim, func(status int, body []byte) bool {
		return status == http.StatusOK && bytes.Contains(body, []byte(`"errorCode":""`))
	})
	a.expire = sim.ExpireTokens
	a.limit = quota.Limit{Requests: 2, Per: time.Second, Burst: 2}
	a.extra = func(a *simAccount) string {
		var b strings.Builder
		fmt.Fprintf(&b, "    username: api\n    password: password-of-fleet\n    subscribers:\n      refresh_interval: %s\n      max_age: %s\n", a.interval, a.maxAge)
		if how == fleetListing {
			fmt.Fprintf(&b, "      customer_id: %s\n", flolivesim.DefaultCustomerID)
			return b.String()
		}
		b.WriteString("      list:\n")
		for i, s := range fleet {
			ids := ""
			if how == fleetNamed {
				ids = fmt.Sprintf(", balance_ids: [offer-%d]", i)
			}
			fmt.Fprintf(&b, "        - {type: iccid, value: %q%s}\n", s.ICCID, ids)
		}
		return b.String()
	}
	a.watch.several = func(path string) bool { return !strings.Contains(path, "/balance/") }
	return a
}

// configuration returns the YAML of the accounts that are not removed.
func (w *world) configuration() string {
	var b strings.Builder
	b.WriteString("accounts:\n")
	for _, a := range w.accounts {
		if a.removed {
			continue
		}
		fmt.Fprintf(&b, "  - name: %s\n    provider: %s\n    base_url: https://%s.example\n    timeout: %s\n    rate_limit: {requests: %d, per: %s, burst: %d}\n%s",
			a.name, a.provider, a.name, a.timeout, a.limit.Requests, a.limit.Per, a.limit.Burst, a.extra(a))
	}
	return b.String()
}

func (w *world) configFile() string { return filepath.Join(w.dir, "balance_exporter.yml") }

func (w *world) stateFile() string { return filepath.Join(w.dir, fmt.Sprintf("state-%d", w.opened)) }

// open starts an exporter on what the state file has kept.
func (w *world) open() {
	require.NoError(w.t, os.WriteFile(w.configFile(), []byte(w.configuration()), 0o600))
	f := flags{
		configFile: w.configFile(), stateURL: "bolt:" + w.stateFile(), telemetryPath: "/metrics",
		timeoutOffset: 500 * time.Millisecond, maxWait: 2 * time.Second,
	}
	w.exporter = newExporter(f, log.NewNopLogger(), func(string, config.HTTP) (http.RoundTripper, error) { return w.network, nil })
	require.NoError(w.t, w.exporter.open(), w.configuration())
	routes := w.exporter.server().Routes()
	w.routes.Store(&routes)
}

// restart stops the exporter in good order and starts the next one.
func (w *world) restart() {
	w.exporter.close()
	w.open()
}

// kill stops the exporter as SIGKILL does and starts the next one: what was not in
// the files by now never gets there.
func (w *world) kill() {
	synctest.Wait() // whoever can run has run: no request is sent from here on
	before := w.stateFile()
	w.opened++
	for _, suffix := range []string{"", ".accounts"} {
		content, err := os.ReadFile(before + suffix)
		require.NoError(w.t, err)
		require.NoError(w.t, os.WriteFile(w.stateFile()+suffix, content, 0o600))
	}
	w.exporter.close()
	for _, a := range w.accounts {
		a.watch.forgetSince(time.Now().Add(-time.Second)) // as internal/state promises
	}
	w.open()
}

// step restarts the exporter with the clock set back by d while it was down, or
// forward if d is negative.
func (w *world) step(d time.Duration) {
	w.exporter.close()
	loaded, _, err := w.exporter.read()
	require.NoError(w.t, err)
	store, err := state.Open("bolt:"+w.stateFile(), log.NewNopLogger())
	require.NoError(w.t, err)
	for _, a := range loaded {
		kept, err := store.LoadAccount(a.ID)
		require.NoError(w.t, err)
		for _, at := range []*time.Time{&kept.Quota.FullAt, &kept.Quota.BlockedUntil, &kept.LimitedAt} {
			shift(at, d)
		}
		require.NoError(w.t, store.SaveAccount(a.ID, kept))
		moved := map[string]*snapshot.Snapshot{}
		require.NoError(w.t, store.LoadSources(a.ID, func(key string, s *snapshot.Snapshot) {
			for _, at := range []*time.Time{&s.FetchedAt, &s.TriedAt, &s.DueAt} {
				shift(at, d)
			}
			moved[key] = s
		}))
		for key, s := range moved {
			store.SaveSource(a.ID, key, s)
		}
	}
	require.NoError(w.t, store.Close())
	if d < 0 {
		// Nobody can tell a clock set forward from time that has passed.
		for _, a := range w.accounts {
			a.watch.reset()
		}
	}
	w.open()
}

func shift(at *time.Time, d time.Duration) {
	if !at.IsZero() {
		*at = at.Add(d)
	}
}

// reload puts the configuration as the accounts stand now into force.
func (w *world) reload() {
	require.NoError(w.t, os.WriteFile(w.configFile(), []byte(w.configuration()), 0o600))
	require.NoError(w.t, w.exporter.reload(), w.configuration())
}

// get asks for a path as Prometheus does, with a timeout in seconds.
func (w *world) get(path string, timeout float64) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, path, nil)
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", strconv.FormatFloat(timeout, 'f', -1, 64))
	answer := httptest.NewRecorder()
	(*w.routes.Load()).ServeHTTP(answer, req)
	return answer
}

// metrics scrapes and returns the value of each series. The scrape must succeed.
func (w *world) metrics(path string) map[string]string {
	w.t.Helper()
	answer := w.get(path, 60)
	require.Equal(w.t, http.StatusOK, answer.Code, answer.Body)
	series := map[string]string{}
	for line := range strings.Lines(answer.Body.String()) {
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			series[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return series
}

// tell notes what is done.
func (w *world) tell(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.story = append(w.story, time.Now().Format("15:04:05.000000000 ")+fmt.Sprintf(format, args...))
}

// requireUnbroken fails the test if a request was sent that must not have been.
func (w *world) requireUnbroken() {
	for _, a := range w.accounts {
		if fault := a.watch.fault(a.limit); fault != "" {
			w.t.Fatalf("%s (%s, every %s): %s\n%s", a.name, a.provider, a.interval, fault, w.history())
		}
	}
}

// history returns what was done.
func (w *world) history() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.story, "\n")
}

// up reports whether the last refresh of every source worked.
func (w *world) up() bool {
	for _, a := range w.exporter.cache.Status() {
		for _, s := range a.Sources {
			if !s.Up || s.Fleet != nil && s.Fleet.Fresh < s.Fleet.Total() {
				return false
			}
		}
	}
	return true
}

// watch is what stands before a provider and notes what must not happen: more
// requests than the limit, one during a cool-down, one for a source that was read
// within its interval.
type watch struct {
	account *simAccount
	next    http.Handler
	// good tells the answer to a reading that worked.
	good func(status int, body []byte) bool
	// several tells a path that one reading may ask for more than once, or that
	// belongs to a reading of several requests.
	several func(path string) bool

	requests simulate.Recorder

	mu      sync.Mutex
	reading int                  // answers 429 whose body is on its way
	heldAt  time.Time            // of the last 429
	until   time.Time            // nothing may come before
	read    map[string]time.Time // when a path was last read
	last    time.Time            // when a balance was last read
	balance int64                // that was then sent
	broken  []string
}

// ServeHTTP implements [http.Handler].
func (w *watch) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.requests.Wrap(http.HandlerFunc(w.serve)).ServeHTTP(rw, r)
}

func (w *watch) serve(rw http.ResponseWriter, r *http.Request) {
	w.arrived(r)
	c := &capture{ResponseWriter: rw, watch: w}
	defer func() {
		if r.Context().Err() == nil {
			w.answered(r, c)
		}
		w.ended(c)
	}()
	w.next.ServeHTTP(c, r)
	c.whole = true
}

func (w *watch) arrived(r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	// What comes at the instant of the 429 was on its way already.
	if now.After(w.heldAt) && (w.reading > 0 || now.Before(w.until)) {
		w.broken = append(w.broken, fmt.Sprintf("%s came at %s in the cool-down from %s to %s", r.URL.Path, clock(now), clock(w.heldAt), clock(w.until)))
	}
	at, ok := w.read[source(r)]
	if ok && now.Sub(at) < w.account.interval && now.After(at) {
		w.broken = append(w.broken, fmt.Sprintf("%s was read at %s and came again at %s, within %s", source(r), clock(at), clock(now), w.account.interval))
	}
	delete(w.read, source(r)) // after this try it may come again, if it fails
}

// limited notes an answer 429 when its header is sent.
func (w *watch) limited(c *capture, header http.Header) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.limited = true
	w.reading++
	w.heldAt = time.Now()
	until := w.heldAt.Add(time.Second) // the least where no time is told
	if s, err := strconv.Atoi(header.Get("Retry-After")); err == nil && s > 0 {
		until = w.heldAt.Add(min(time.Duration(s)*time.Second, quota.MaxBlock))
	} else if at, err := http.ParseTime(header.Get("Retry-After")); err == nil {
		until = later(until, earlier(at, w.heldAt.Add(quota.MaxBlock)))
	}
	w.until = later(w.until, until)
}

var tryAgain = regexp.MustCompile(`try again in (\d+) second`)

// ended notes that the body of an answer is over, in whatever way.
func (w *watch) ended(c *capture) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !c.limited {
		return
	}
	w.reading--
	w.heldAt = time.Now()
	if m := tryAgain.FindSubmatch(c.body.Bytes()); m != nil && c.Header().Get("Retry-After") == "" && c.whole {
		s, _ := strconv.Atoi(string(m[1]))
		w.until = later(w.until, w.heldAt.Add(min(time.Duration(s)*time.Second, quota.MaxBlock)))
	}
}

func (w *watch) answered(r *http.Request, c *capture) {
	if !c.whole || !w.good(c.status, c.body.Bytes()) || w.several(r.URL.Path) || !json.Valid(c.body.Bytes()) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.read == nil {
		w.read = map[string]time.Time{}
	}
	w.read[source(r)] = time.Now()
	var body struct{ Balance int64 }
	if json.Unmarshal(c.body.Bytes(), &body) == nil && body.Balance != 0 {
		w.last, w.balance = time.Now(), body.Balance
	}
}

// source names what a request reads.
func source(r *http.Request) string { return r.URL.Path }

// forgetSince takes back what was read at or after a time.
func (w *watch) forgetSince(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, read := range w.read {
		if !read.Before(at) {
			delete(w.read, key)
		}
	}
}

// reset begins anew.
func (w *watch) reset() {
	w.requests.Reset()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until, w.heldAt = time.Time{}, time.Time{}
	clear(w.read)
}

// fault returns what must not have happened; "" if all is well.
func (w *watch) fault(limit quota.Limit) string {
	if v, found := w.requests.Excess(limit.Requests, limit.Per, limit.Burst); found {
		return fmt.Sprintf("%v, the limit is %+v", v, limit)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.broken, "\n")
}

func clock(t time.Time) string { return t.Format("15:04:05.000000000") }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// capture sees the answer that a request gets.
type capture struct {
	http.ResponseWriter
	watch   *watch
	status  int
	body    bytes.Buffer
	limited bool
	whole   bool
}

// WriteHeader implements [http.ResponseWriter].
func (c *capture) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
		if status == http.StatusTooManyRequests {
			c.watch.limited(c, c.Header())
		}
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write implements [io.Writer].
func (c *capture) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	c.body.Write(p[:min(len(p), max(0, 64<<10-c.body.Len()))])
	return c.ResponseWriter.Write(p)
}

// Flush implements [http.Flusher].
func (c *capture) Flush() {
	if f, ok := c.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// has reports whether the exporter knows a provider.
func has(provider string) bool {
	_, ok := all.Lookup(provider)
	return ok
}

// clockBalance is the time of the reading, in seconds, so that a value tells when it
// was read.
type clockBalance struct{}

// At implements [eightxeightsim.Balance].
func (clockBalance) At(now time.Time) json.Number {
	return json.Number(strconv.FormatInt(now.Unix(), 10))
}

// lastRead returns when the account's balance was last read, zero for never, and
// what it was.
func (w *watch) lastRead() (time.Time, int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.balance
}

// failures returns what does not work, and why.
func (w *world) failures() string {
	var b strings.Builder
	for _, a := range w.exporter.cache.Status() {
		for _, s := range a.Sources {
			fmt.Fprintf(&b, "%s/%s %s: up %t, fleet %+v, failure %+v, due %s, held until %s\n",
				a.Provider, a.Account, s.Part.Kind, s.Up, s.Fleet, s.Failure, clock(s.NextDue), clock(a.CooldownUntil))
		}
	}
	return b.String()
}
