package cache_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/flolive"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
)

const (
	// A tenth of the fleet is read more often. Together they demand a third more
	// than the quota allows, so that something is always overdue.
	slowInterval = 30 * time.Minute
	fastInterval = 10 * time.Minute
	passTime     = 2000 * time.Second // to ask each subscriber once
	burst        = 10
	answerTime   = 200 * time.Millisecond
)

// TestFleet reads 10 000 subscribers for two hours through the real request chain,
// with a scrape every minute; 2 000 with -short or the race detector. With
// BALANCE_EXPORTER_SLOW set it reads 100 000 and bounds the memory that they take.
func TestFleet(t *testing.T) {
	n, slow := 10_000, os.Getenv("BALANCE_EXPORTER_SLOW") != ""
	switch {
	case testing.Short() || raceDetector():
		n, slow = 2_000, false
	case slow:
		n = 100_000
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, n)
		for hour := range 2 {
			for range 60 {
				start := time.Now()
				scrape(t, f.cache)
				require.LessOrEqual(t, time.Since(start), 9500*time.Millisecond, "the deadline of a scrape")
				f.horizons = append(f.horizons, start)
				time.Sleep(time.Until(start.Add(time.Minute)))
			}
			f.checkHour(hour)
		}
		f.checkFairness()
		f.checkStates()
		t.Logf("%d subscribers: %d requests, %d bytes of heap for each subscriber", n, f.total, f.bytes)
		if slow {
			require.Less(t, f.bytes, int64(3000), "bytes of heap for each subscriber")
		}
	})
}

// fleet is a fleet under test, and a model of the order in which it is to be asked.
type fleet struct {
	t        *testing.T
	n        int
	limit    quota.Limit
	sim      *flolivesim.Server
	requests *simulate.Recorder
	cache    *cache.Cache
	start    time.Time
	horizons []time.Time // when scrapes began
	horizon  int         // index of the newest that the model has reached
	heap     int64       // in use before there was a fleet
	bytes    int64       // of heap for each subscriber, in the end
	// slack is by how much the order of requests may be off: those that are under
	// way together were chosen a little before they were sent.
	slack time.Duration
	total int // requests

	index map[string]int // of subscribers, by the path that asks for one
	subs  []asked
	lines map[time.Duration]*line // by interval
}

// asked is what the model knows of one subscriber.
type asked struct {
	interval time.Duration
	exists   bool
	due      time.Time
	times    int
}

// line has the subscribers of one interval in the order in which they fall due.
type line []place

type place struct {
	i   int
	due time.Time
}

func newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	f := &fleet{
		t: t, n: n, start: time.Now(),
		limit:    quota.Limit{Requests: n, Per: passTime, Burst: burst},
		requests: &simulate.Recorder{},
		index:    make(map[string]int, n),
		subs:     make([]asked, n),
		lines:    map[time.Duration]*line{slowInterval: {}, fastInterval: {}},
	}
	together := max(burst, f.limit.PerSecond()) + 2 // with a login and its first request
	f.slack = time.Duration(together/f.limit.PerSecond()*float64(time.Second)) + time.Second
	simulated := flolivesim.Fleet(n, 1)
	f.sim = flolivesim.New(flolivesim.Options{Subscribers: simulated})
	files := map[time.Duration]*strings.Builder{slowInterval: {}, fastInterval: {}}
	for _, file := range files {
		file.WriteString("type,value,name,balance_ids\n")
	}
	for i := range n {
		s := simulated.At(i, f.start)
		sub := asked{interval: slowInterval, exists: i%50 != 7, due: f.start}
		if i%10 == 0 {
			sub.interval = fastInterval
		}
		if !sub.exists {
			s.ICCID = fmt.Sprintf("1%018d", i)
		}
		f.subs[i] = sub
		f.index["/api/v2/subscriber/iccid/"+s.ICCID+"/balance/"+s.Offers[0].ID] = i
		*f.lines[sub.interval] = append(*f.lines[sub.interval], place{i, sub.due})
		_, _ = fmt.Fprintf(files[sub.interval], "iccid,%s,truck-%d,%s\n", s.ICCID, i, s.Offers[0].ID)
	}
	dir := t.TempDir()
	for interval, file := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, interval.String()+".csv"), []byte(file.String()), 0o600))
	}
	clear(files)
	f.heap = heapInUse()
	f.open(dir)
	return f
}

func (f *fleet) open(dir string) {
	t := f.t
	t.Helper()
	store := statetest.NewKept()
	account := cache.Account{
		Provider: "flolive", Name: "fleet", ID: "fleet", Gate: gate.New("fleet", f.limit, store),
		Parts: []providers.Part{{Kind: providers.KindSubscribers, Interval: slowInterval, MaxAge: 6 * time.Hour, Fleet: true}},
	}
	network := &simulate.Network{}
	t.Cleanup(network.Close)
	network.Handle("floportal.flolive.net", f.requests.Wrap(simulate.Delay(answerTime)(f.sim)))
	transport, err := httpapi.NewTransport("fleet", config.HTTP{}, network.DialContext)
	require.NoError(t, err)
	for _, interval := range []time.Duration{slowInterval, fastInterval} {
		text := fmt.Sprintf("accounts:\n- {name: fleet, provider: flolive, base_url: http://floportal.flolive.net, username: u, password: correct-horse, subscribers: {refresh_interval: %s, file: %s.csv}}\n",
			interval, interval)
		file, err := config.Parse("fleet.yml", dir, []byte(text), os.LookupEnv, config.Only(flolive.Provider))
		require.NoError(t, err)
		written := file.Accounts[0]
		checked, err := flolive.Provider.Configure(written.Section)
		require.NoError(t, err)
		sources, err := checked.Open(providers.Env{
			Account: "fleet",
			HTTP: httpapi.New(httpapi.Options{
				Provider: "flolive", Account: "fleet", Hosts: map[string]*url.URL{"": written.BaseURL}, Timeout: written.Timeout,
				Transport: transport, Gate: account.Gate, Slots: httpapi.NewSlots(1),
				Mask: secret.NewMask(checked.Secrets...), Observer: noObserver{}, Logger: log.NewNopLogger(),
			}),
			Warn: func(msg string, args ...any) { t.Error(msg, args) },
		})
		require.NoError(t, err)
		lister := sources[0]
		if interval == slowInterval {
			account.Sources = append(account.Sources, lister)
		} else {
			account.Sources = slices.AppendSeq(account.Sources, providers.Sources(lister.Describe().Known)) // listers of two files have the same key
		}
	}
	f.cache = newCache(t, store, account)
	require.Equal(t, snapshot.Fleet{Pending: f.n}, *f.status().Fleet)
}

// raceDetector reports whether the test was built with the race detector, which
// makes it ten times as slow.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

type noObserver struct{}

func (noObserver) Request(string, string, string, time.Duration) {}

func (f *fleet) status() snapshot.Source { return source(f.cache, providers.KindSubscribers) }

// checkHour checks what was sent in the last hour, and forgets it.
func (f *fleet) checkHour(hour int) {
	t := f.t
	t.Helper()
	synctest.Wait() // for what is sent at this very moment
	excess, found := f.requests.Excess(f.limit.Requests, f.limit.Per, f.limit.Burst)
	require.False(t, found, excess)
	require.GreaterOrEqual(t, f.requests.Len(), int(0.98*f.limit.PerSecond()*3600), "the quota is used between scrapes too")
	f.total += f.requests.Len()
	for _, a := range f.requests.Arrivals() {
		if a.Method == http.MethodGet {
			f.checkTurn(a)
		}
	}
	f.requests.Reset()
	if hour == 1 {
		f.bytes = (heapInUse() - f.heap) / int64(f.n)
	}
}

// checkTurn checks that a request is for the subscriber that was the latest relative
// to its interval, of all that were due at the last scrape.
func (f *fleet) checkTurn(a simulate.Arrival) {
	f.t.Helper()
	i, ok := f.index[a.Path]
	require.True(f.t, ok, a.Path)
	sub := &f.subs[i]
	require.False(f.t, sub.due.After(a.Time), "%s is asked within its interval", a.Path)
	for f.horizon+1 < len(f.horizons) && !f.horizons[f.horizon+1].After(a.Time) {
		f.horizon++
	}
	for interval, l := range f.lines {
		first, ok := f.first(l)
		if !ok || first.due.After(f.horizons[f.horizon]) {
			continue
		}
		behind := lateness(a.Time, first.due, interval) - lateness(a.Time, sub.due, sub.interval)
		require.LessOrEqual(f.t, behind, float64(f.slack)/float64(interval),
			"%s: subscriber %d (every %s, due %s) is asked before %d (every %s, due %s)", a.Time, i, sub.interval, sub.due, first.i, interval, first.due)
	}
	sub.times++
	sub.due = a.Time.Add(answerTime + sub.interval)
	if !sub.exists {
		sub.due = a.Time.Add(answerTime + 24*time.Hour)
		return // comes after everything else in this test
	}
	l := f.lines[sub.interval]
	*l = append(*l, place{i, sub.due})
}

// first returns the subscriber of a line that is due first. It drops those that have
// been asked since they took their places.
func (f *fleet) first(l *line) (place, bool) {
	for len(*l) > 0 {
		if p := (*l)[0]; f.subs[p.i].due.Equal(p.due) {
			return p, true
		}
		*l = (*l)[1:]
	}
	return place{}, false
}

func lateness(now, due time.Time, interval time.Duration) float64 {
	return float64(now.Sub(due)) / float64(interval)
}

// checkFairness: everybody was asked, those of one interval equally often.
func (f *fleet) checkFairness() {
	t := f.t
	t.Helper()
	fewest, most := map[time.Duration]int{}, map[time.Duration]int{}
	for i, sub := range f.subs {
		if !sub.exists {
			require.Equal(t, 1, sub.times, "subscriber %d does not exist", i)
			continue
		}
		if most[sub.interval] == 0 {
			fewest[sub.interval] = sub.times
		}
		fewest[sub.interval] = min(fewest[sub.interval], sub.times)
		most[sub.interval] = max(most[sub.interval], sub.times)
	}
	for interval, times := range most {
		t.Logf("every %s: %d to %d times", interval, fewest[interval], times)
		require.LessOrEqual(t, times-fewest[interval], 1, "every %s", interval)
	}
	require.GreaterOrEqual(t, fewest[slowInterval], 2)
	require.InDelta(t, 3, float64(fewest[fastInterval])/float64(fewest[slowInterval]), 0.8, "in proportion to the intervals")
}

func (f *fleet) checkStates() {
	t := f.t
	t.Helper()
	gone := 0
	for _, sub := range f.subs {
		if !sub.exists {
			gone++
		}
	}
	status := f.status()
	require.Equal(t, snapshot.Fleet{Fresh: f.n - gone, Failed: gone}, *status.Fleet)
	require.True(t, status.Up)
	require.Equal(t, map[providers.Reason]uint64{providers.ReasonNotFound: uint64(gone)}, status.Failures)
	wanted := float64(f.n-f.n/10)/slowInterval.Seconds() + float64(f.n/10)/fastInterval.Seconds()
	require.InDelta(t, wanted, f.cache.Status()[0].PlannedPerSecond, wanted/1000)
	require.Greater(t, wanted, f.limit.PerSecond())
	series := 0
	for _, g := range f.cache.Groups() {
		for _, s := range g.Snapshots {
			series += len(s.Reading.SubscriberBalances)
		}
	}
	require.GreaterOrEqual(t, series, f.n-gone)
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // frees what has a finalizer
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
