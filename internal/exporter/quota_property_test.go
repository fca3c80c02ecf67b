package exporter

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
)

// casesVariable makes the property tests run so many cases each, for CI.
const casesVariable = "BALANCE_EXPORTER_CASES"

// forSeeds runs check for the seeds that have failed before, and for as many others as
// the environment says, by default usual. A seed fixes everything but the order of
// goroutines at one instant, so it may take several runs to repeat a failure.
func forSeeds(t *testing.T, failed []uint64, usual uint64, check func(t *testing.T, rng *rand.Rand)) {
	cases := usual
	if text := os.Getenv(casesVariable); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, casesVariable)
		cases = n
	}
	one := func(seed uint64) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { check(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
	for _, seed := range failed {
		one(seed)
	}
	for seed := range cases {
		one(seed)
	}
}

// quotaFailures are the seeds of failures that were found and mended.
var quotaFailures = []uint64{31, 188, 208, 211, 272, 751, 1153}

// Whatever scrapers, providers and operators do, an account never sends more than
// its limit in any window, nothing before a cool-down ends, and nothing for a
// source that was read within its interval. Once the faults are over, every source
// recovers.
func TestQuotaHolds(t *testing.T) {
	t.Parallel()
	forSeeds(t, quotaFailures, 2, func(t *testing.T, rng *rand.Rand) {
		w := newWorld(t, rng)
		w.sqlite = true
		for range 1 + rng.IntN(3) {
			w.addAny()
		}
		w.open()

		stop := make(chan struct{})
		ended := sync.OnceFunc(func() { close(stop) })
		defer ended()
		for range 1 + rng.IntN(20) {
			go w.scraper(rand.New(rand.NewPCG(rng.Uint64(), 0)), stop)
		}
		for range 5 + rng.IntN(15) {
			time.Sleep(anyTime(rng, time.Minute))
			w.act()
			w.requireUnbroken()
		}
		ended()

		w.record("all faults end")
		w.restore()
		for start := time.Now(); !w.up(); {
			w.get("/metrics", 10)
			w.requireUnbroken()
			if time.Since(start) > 3*time.Hour {
				t.Fatalf("some sources do not recover: %s\n%s", w.failures(), w.history())
			}
			time.Sleep(anyTime(rng, 10*time.Minute))
		}
		w.requireUnbroken()
	})
}

// anyTime returns a time of up to most, as often short as long.
func anyTime(rng *rand.Rand, most time.Duration) time.Duration {
	return 1 + time.Duration(rng.Int64N(int64(most)>>rng.IntN(10)))
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

// addAny adds an account of any case.
func (w *world) addAny() {
	a := w.add(pick(w.rng, alltest.Cases()...))
	if w.rng.IntN(8) == 0 {
		a.scheme = "https"
	}
	w.settle(a)
}

// settle gives an account any settings.
func (w *world) settle(a *simAccount) {
	rng := w.rng
	limit := quota.Limit{
		Requests: 1 + rng.IntN(3), Per: pick(rng, 700*time.Millisecond, time.Second, 3*time.Second, 20*time.Second), Burst: 1 + rng.IntN(6),
	}
	if limit != a.limit {
		a.limit = limit
		a.watch.requests.Reset() // each limit is checked by itself
	}
	interval := pick(rng, time.Second, 5*time.Second, 30*time.Second, time.Minute, 10*time.Minute)
	if interval > a.interval && a.api.ExpireTokens != nil {
		// A login that failed in the old interval has made sources fail for which no
		// request was seen.
		a.watch.forgetRead()
	}
	a.watch.mu.Lock() // a request from before may be under way
	a.interval = interval
	a.watch.mu.Unlock()
	a.maxAge = a.interval * time.Duration(1+rng.IntN(10))
	a.timeout = pick(rng, time.Second, 10*time.Second, 30*time.Second)
}

// scraper scrapes at an interval of its own until stop is closed, with a long pause now
// and then.
func (w *world) scraper(rng *rand.Rand, stop <-chan struct{}) {
	interval := anyTime(rng, time.Minute) + time.Second
	timeout := pick(rng, 0.3, 1, 5, 10, 30)
	path := pick(rng, "/metrics", "/metrics?collect[]=balances", "/metrics?collect[]=prices&collect[]=subscribers",
		"/metrics?collect[]=balances&collect[]=prices&collect[]=subscribers", "/-/healthy")
	for {
		wait := interval
		if rng.IntN(20) == 0 {
			wait += anyTime(rng, time.Hour)
		}
		select {
		case <-stop:
			return
		case <-time.After(wait):
		}
		w.get(path, timeout)
	}
}

// act does one of the things that can happen.
func (w *world) act() {
	rng := w.rng
	a := pick(rng, w.accounts...)
	switch rng.IntN(12) {
	case 0:
		w.record("storm")
		for range 20 {
			go w.get("/metrics?collect[]=balances&collect[]=prices&collect[]=subscribers", 10)
		}
	case 1:
		w.record("restart")
		w.restart()
	case 2:
		w.record("kill")
		w.kill()
	case 3:
		d := anyTime(rng, 48*time.Hour)
		if rng.IntN(4) == 0 {
			d = -d
		}
		w.record("clock set back by %s", d)
		w.step(d)
	case 4:
		w.settle(a)
		w.record("%s changed", a.name)
		w.reload()
	case 5:
		if len(w.accounts) == 1 {
			return
		}
		w.record("%s removed for a moment", a.name)
		a.removed = true
		w.reload()
		a.watch.forgetRead()
		if rng.IntN(2) == 0 {
			time.Sleep(anyTime(rng, time.Second))
			w.reload()
		}
		a.removed = false
		w.reload()
	case 6:
		if a.api.ExpireTokens != nil {
			w.record("%s: tokens expire", a.name)
			a.api.ExpireTokens()
		}
	default:
		name, fault := anyFault(rng, a)
		rule := simulate.Rule{Fault: fault, Times: rng.IntN(4)}
		w.record("%s: %s, %d times", a.name, name, rule.Times)
		if rng.IntN(3) == 0 {
			a.faults.Clear()
		}
		a.faults.Add(rule)
	}
}
