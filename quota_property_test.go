package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

// casesVariable makes the property tests run so many cases each, for CI.
const casesVariable = "BALANCE_EXPORTER_CASES"

// forSeeds runs check for the seeds that have failed once, and for as many others
// as the environment says or else usual. A seed fixes everything but the order of
// goroutines at one instant, so a failure may need several runs to come again.
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
// source that was read within its interval. And when all is well again, every
// source works again.
func TestQuotaHolds(t *testing.T) {
	forSeeds(t, quotaFailures, 16, func(t *testing.T, rng *rand.Rand) {
		w := newWorld(t, rng)
		for range 1 + rng.IntN(3) {
			w.addAny()
		}
		w.open()
		defer func() { w.exporter.close() }()

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

		w.tell("all is well again")
		w.restore()
		for start := time.Now(); !w.up(); {
			w.get("/metrics", 10)
			w.requireUnbroken()
			if time.Since(start) > 3*time.Hour {
				t.Fatalf("it does not come back: %s\n%s", w.failures(), w.history())
			}
			time.Sleep(anyTime(rng, time.Minute))
		}
		w.requireUnbroken()
	})
}

// anyTime returns a time of up to most, as often short as long.
func anyTime(rng *rand.Rand, most time.Duration) time.Duration {
	return 1 + time.Duration(rng.Int64N(int64(most)>>rng.IntN(10)))
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

// addAny brings in any account.
func (w *world) addAny() {
	rng := w.rng
	var kinds []func() *simAccount
	kinds = append(kinds, func() *simAccount {
		return w.addEightXEight(eightxeightsim.NewBalance("100.5"), rng.IntN(5)-1)
	})
	if has("yeastar") {
		kinds = append(kinds, func() *simAccount {
			return w.addYeastar(yeastarsim.Options{
				AccessLife: pick(rng, 2*time.Minute, 5*time.Minute, 30*time.Minute),
				ExpiresIn:  yeastarsim.ExpiresIn(rng.IntN(4)), KeepRefreshToken: rng.IntN(2) == 0,
				SingleToken: rng.IntN(2) == 0, ReuseToken: rng.IntN(2) == 0, RefuseRefresh: rng.IntN(4) == 0,
				ErrorForm: yeastarsim.ErrorForm(rng.IntN(2)),
			})
		})
	}
	if has("flolive") {
		kinds = append(kinds, func() *simAccount {
			return w.addFloLIVE(1+rng.IntN(30), pick(rng, fleetNamed, fleetOffers, fleetListing), flolivesim.Options{
				TokenLife: pick(rng, 2*time.Minute, 5*time.Minute, 30*time.Minute), OpaqueToken: rng.IntN(2) == 0,
				PageSize: 1 + rng.IntN(10), ErrorsWithOK: rng.IntN(2) == 0,
			})
		})
	}
	a := pick(rng, kinds...)()
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
		a.watch.requests.Reset() // each limit for itself
	}
	interval := pick(rng, time.Second, 5*time.Second, 30*time.Second, time.Minute, 10*time.Minute)
	if interval > a.interval && a.expire != nil {
		// A login that failed in the old interval has made sources fail that were
		// not seen to be asked for.
		a.watch.forgetSince(time.Time{})
	}
	a.watch.mu.Lock() // a request of the old life may be on its way yet
	a.interval = interval
	a.watch.mu.Unlock()
	a.maxAge = a.interval * time.Duration(1+rng.IntN(10))
	a.timeout = pick(rng, time.Second, 10*time.Second, 30*time.Second)
}

// scraper scrapes at an interval of its own until stop is closed, with a silence
// now and then.
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

// act does one thing that can happen.
func (w *world) act() {
	rng := w.rng
	a := pick(rng, w.accounts...)
	switch rng.IntN(12) {
	case 0:
		w.tell("storm")
		for range 20 {
			go w.get("/metrics?collect[]=balances&collect[]=prices&collect[]=subscribers", 10)
		}
	case 1:
		w.tell("restart")
		w.restart()
	case 2:
		w.tell("kill")
		w.kill()
	case 3:
		d := anyTime(rng, 48*time.Hour)
		if rng.IntN(4) == 0 {
			d = -d
		}
		w.tell("clock set back by %s", d)
		w.step(d)
	case 4:
		w.settle(a)
		w.tell("%s changed", a.name)
		w.reload()
	case 5:
		if len(w.accounts) == 1 {
			return
		}
		w.tell("%s removed for a moment", a.name)
		a.removed = true
		w.reload()
		a.watch.forgetSince(time.Time{})
		if rng.IntN(2) == 0 {
			time.Sleep(anyTime(rng, time.Second))
			w.reload()
		}
		a.removed = false
		w.reload()
	case 6:
		if a.expire != nil {
			w.tell("%s: tokens expire", a.name)
			a.expire()
		}
	default:
		name, fault := w.anyFault()
		rule := simulate.Rule{Fault: fault, Times: rng.IntN(4)}
		w.tell("%s: %s, %d times", a.name, name, rule.Times)
		if rng.IntN(3) == 0 {
			a.faults.Clear()
		}
		a.faults.Add(rule)
	}
}

// restore ends every fault.
func (w *world) restore() {
	for _, a := range w.accounts {
		a.faults.Clear()
	}
}

// anyFault returns a fault that costs requests or time.
func (w *world) anyFault() (string, simulate.Fault) {
	rng := w.rng
	d := anyTime(rng, 2*time.Minute)
	switch rng.IntN(14) {
	case 0:
		return "none", nil
	case 1:
		return "hang", simulate.Hang()
	case 2:
		return "reset", simulate.ResetAfter(rng.IntN(10))
	case 3:
		return "drip", simulate.SlowDrip(d/50, 1+rng.IntN(20))
	case 4:
		return "500", simulate.Status(500, "application/json", `{"code":2000,"message":"Internal server error"}`, nil)
	case 5:
		return "401", simulate.Status(401, "application/json", `{"code":1200,"message":"no"}`, nil)
	case 6:
		return "403", simulate.Status(403, "application/json", `{"code":1201,"message":"no"}`, nil)
	case 7:
		return "garbage", simulate.Body(`{"balance":"x"`)
	case 8:
		return "redirect to the same host", redirectOnce(pick(rng, 301, 302, 307, 308))
	case 9:
		return "redirect elsewhere", simulate.Redirect(302, "https://elsewhere.example/")
	case 10, 11:
		wait := anyTime(rng, 2*time.Hour)
		hint := simulate.Hint(rng.IntN(4))
		return fmt.Sprintf("429 for %s with hint %d", wait, hint), eightxeightsim.TooManyRequests(hint, wait)
	case 12:
		text := pick(rng, "soon", "-5", "0", "1e400", "NaN", "99999999999999999999", "", "Thu, 01 Jan 1970 00:00:00 GMT")
		return "429 for " + text, simulate.Status(429, "text/plain", "no", http.Header{"Retry-After": {text}})
	}
	return "429 with a slow body", slowLimit(d/20, pick(rng, 0, 5, 600))
}

// redirectOnce sends a request to the same place once more.
func redirectOnce(code int) simulate.Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if q.Has("hop") {
				next.ServeHTTP(w, r)
				return
			}
			q.Set("hop", "1")
			http.Redirect(w, r, r.URL.Path+"?"+q.Encode(), code)
		})
	}
}

// slowLimit answers 429 with a body that comes d later; seconds is the header
// Retry-After, 0 for none.
func slowLimit(d time.Duration, seconds int) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if seconds > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(seconds))
			}
			w.WriteHeader(http.StatusTooManyRequests)
			select {
			case <-time.After(d):
				_, _ = io.WriteString(w, "Quota exceeded. Please try again in 7 second(s).")
			case <-r.Context().Done():
			}
		})
	}
}
