package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
)

// However slow providers are, a scrape answers before its deadline, with the newest
// values of the accounts that are not slow.
func TestScrapeMeetsItsDeadline(t *testing.T) {
	forSeeds(t, nil, 30, func(t *testing.T, rng *rand.Rand) {
		w := newWorld(t, rng)
		quick := w.addEightXEight(clockBalance{}, -1)
		quick.interval = time.Second
		for range 1 + rng.IntN(5) {
			a := w.addEightXEight(eightxeightsim.NewBalance("1"), rng.IntN(4)-1)
			a.interval = pick(rng, time.Second, 10*time.Second, time.Minute)
			a.timeout = pick(rng, time.Second, 30*time.Second, 5*time.Minute)
			slow := rng.Uint64()
			a.faults.Set(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					rng := rand.New(rand.NewPCG(slow, uint64(time.Now().UnixNano())))
					switch d := anyTime(rng, 2*time.Minute); rng.IntN(4) {
					case 0:
						simulate.SlowDrip(d/20, 5)(next).ServeHTTP(rw, r)
					case 1:
						simulate.Hang()(next).ServeHTTP(rw, r)
					default:
						simulate.Delay(d)(next).ServeHTTP(rw, r)
					}
				})
			})
		}
		w.open()
		defer func() { w.exporter.close() }()
		for range 40 {
			timeout := pick(rng, 0.1, 0.5, 0.7, 1, 3, 10, 30, 60)
			start := time.Now()
			answer := w.get("/metrics?collect[]=balances&collect[]=prices", timeout)
			took := time.Since(start)
			require.Equal(t, http.StatusOK, answer.Code)
			allowed := max(0, time.Duration(timeout*float64(time.Second))-500*time.Millisecond)
			require.LessOrEqual(t, took, allowed)
			// A scrape without time shows what there is; the next one is served.
			if allowed > 0 {
				want := fmt.Sprintf("account_balance{account=\"a0\",currency=\"USD\",provider=\"8x8\"} %s\n", shown(start.Unix(), start, start, time.Hour))
				require.Contains(t, answer.Body.String(), want)
			}
			time.Sleep(time.Second + anyTime(rng, 20*time.Second))
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // a scrape begins with a second
		}
		w.requireUnbroken()
	})
}

// A value is served from the moment it was read until max_age later and not at any
// other time, whatever fails in between; and what is served was sent.
func TestValuesEndAtMaxAge(t *testing.T) {
	forSeeds(t, nil, 30, func(t *testing.T, rng *rand.Rand) {
		w := newWorld(t, rng)
		a := w.addEightXEight(clockBalance{}, -1)
		a.interval = pick(rng, time.Second, 5*time.Second, 30*time.Second)
		a.maxAge = a.interval * time.Duration(1+rng.IntN(20))
		w.open()
		defer func() { w.exporter.close() }()
		for range 300 {
			if rng.IntN(10) == 0 {
				a.faults.Clear()
				if rng.IntN(3) > 0 {
					name, fault := w.anyFault()
					w.tell("%s", name)
					a.faults.Set(fault)
				}
			}
			if rng.IntN(40) == 0 {
				w.tell("restart")
				time.Sleep(time.Second + 1) // what is read by now survives a kill, too
				pick(rng, w.restart, w.kill)()
			}
			before, old := a.watch.lastRead()
			answer := w.get("/metrics?collect[]=balances", 0.9)
			synctest.Wait()
			read, current := a.watch.lastRead()
			now := time.Now()
			value := ""
			for line := range strings.Lines(answer.Body.String()) {
				if strings.HasPrefix(line, "account_balance{") {
					value = strings.TrimSpace(line[strings.LastIndexByte(line, ' '):])
				}
			}
			// While a fetch ends at the instant of the scrape, either is right.
			served := map[string]bool{shown(old, before, now, a.maxAge): true, shown(current, read, now, a.maxAge): true}
			require.True(t, served[value], "at %s %q is served, was read at %s and %s, max_age %s\n%s",
				clock(now), value, clock(before), clock(read), a.maxAge, w.history())
			time.Sleep(anyTime(rng, 4*a.interval))
		}
		w.requireUnbroken()
	})
}

// shown returns what is served of a balance that was read at a time.
func shown(balance int64, read, now time.Time, maxAge time.Duration) string {
	if read.IsZero() || now.Sub(read) >= maxAge {
		return ""
	}
	return strconv.FormatFloat(float64(balance), 'g', -1, 64)
}
