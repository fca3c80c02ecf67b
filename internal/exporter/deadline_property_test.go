package exporter

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
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

const (
	balances = "account_balance"
	prices   = "sms_price"
)

// casesWith returns the cases that have an endpoint with the metric and, for number, an
// answer with any number.
func casesWith(metric string, number bool) []simulate.Case {
	return slices.DeleteFunc(alltest.Cases(), func(c simulate.Case) bool {
		return !slices.ContainsFunc(c.Endpoints, func(e simulate.Endpoint) bool {
			return e.Metric == metric && !e.Login && (e.Number != nil || !number)
		})
	})
}

// addClock adds an account with a balance that is the time of the answer in Unix
// seconds, so that the value shows when it was read.
func (w *world) addClock(c simulate.Case) *simAccount {
	a := w.add(c)
	for _, e := range c.Endpoints {
		if e.Number != nil {
			a.answer(e, func() string { return e.Number(strconv.FormatInt(time.Now().Unix(), 10)) })
		}
	}
	a.limit = quota.Limit{Requests: 100, Per: time.Second, Burst: 100}
	return a
}

// answer makes the account's API answer requests of an endpoint with a body.
func (a *simAccount) answer(e simulate.Endpoint, body func() string) {
	a.base.Add(simulate.Rule{Match: a.matches(e), Fault: func(http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			simulate.Body(body())(nil).ServeHTTP(rw, r)
		})
	}})
}

// matches returns a function that selects the requests of an endpoint.
func (a *simAccount) matches(e simulate.Endpoint) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Host == a.host(e.Host) && e.Path.MatchString(r.URL.Path) }
}

// only returns the value of the account's only balance that is served; "" for none.
func (a *simAccount) only(t *testing.T, text string) string {
	values := a.valuesOf(seriesOf(text), balances)
	require.LessOrEqual(t, len(values), 1)
	for _, value := range values {
		return value
	}
	return ""
}

// However slow providers are, a scrape answers before its deadline, with the newest
// values of the accounts that are not slow.
func TestScrapeMeetsItsDeadline(t *testing.T) {
	forSeeds(t, nil, 10, func(t *testing.T, rng *rand.Rand) {
		w := newWorld(t, rng)
		quick := w.addClock(pick(rng, casesWith(balances, true)...))
		quick.interval = time.Second
		for range 1 + rng.IntN(5) {
			a := w.add(pick(rng, casesWith(balances, false)...))
			a.interval = pick(rng, time.Second, 10*time.Second, time.Minute)
			a.timeout = pick(rng, time.Second, 30*time.Second, 5*time.Minute)
			a.faults.Set(slowly(rng.Uint64()))
		}
		w.open()
		for range 40 {
			timeout := pick(rng, 0.1, 0.5, 0.7, 1, 3, 10, 30, 60)
			start := time.Now()
			answer := w.get("/metrics?collect[]=balances&collect[]=prices", timeout)
			took := time.Since(start)
			require.Equal(t, http.StatusOK, answer.Code)
			allowed := max(0, time.Duration(timeout*float64(time.Second))-500*time.Millisecond)
			require.LessOrEqual(t, took, allowed)
			// A scrape without time answers from the cache; the next one is served.
			if allowed > 0 {
				require.Equal(t, servedAt(start.Unix(), start, start, quick.maxAge), quick.only(t, answer.Body.String()), "timeout %v, %s:\n%s", timeout, quick.Provider, w.failures())
			}
			time.Sleep(time.Second + anyTime(rng, 20*time.Second))
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // a scrape begins with a second
		}
		w.requireUnbroken()
	})
}

// slowly returns a fault that answers in any time, or never.
func slowly(seed uint64) simulate.Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rng := rand.New(rand.NewPCG(seed, uint64(time.Now().UnixNano())))
			switch d := anyTime(rng, 2*time.Minute); rng.IntN(4) {
			case 0:
				simulate.SlowDrip(d/20, 5)(next).ServeHTTP(rw, r)
			case 1:
				simulate.Hang()(next).ServeHTTP(rw, r)
			default:
				simulate.Delay(d)(next).ServeHTTP(rw, r)
			}
		})
	}
}

// Two hundred scrapes at a time, more than can be written at a time, wait for their
// turn: all of them are answered before their deadline, although a provider is slow.
func TestManyScrapesMeetTheirDeadline(t *testing.T) {
	for _, c := range alltest.Cases() {
		t.Run(c.Provider+"/"+c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				quick := w.addClock(casesWith(balances, true)[0])
				slow := w.add(c)
				slow.faults.Set(simulate.Delay(25 * time.Second))
				w.open()
				for range 2 {
					start := time.Now()
					var scrapes sync.WaitGroup
					for range 200 {
						scrapes.Go(func() {
							answer := w.get("/metrics?collect[]=balances&collect[]=prices&collect[]=subscribers", 10)
							took := time.Since(start)
							if answer.Code != http.StatusOK || took > 9500*time.Millisecond || quick.only(t, answer.Body.String()) == "" {
								t.Errorf("status %d after %s:\n%s", answer.Code, took, answer.Body)
							}
						})
					}
					scrapes.Wait()
					time.Sleep(time.Minute)
				}
				w.requireUnbroken()
			})
		})
	}
}

// A value is served from the moment it was read until max_age later and at no other
// time, whatever fails meanwhile; and what is served was sent.
func TestValuesEndAtMaxAge(t *testing.T) {
	forSeeds(t, nil, 6, func(t *testing.T, rng *rand.Rand) {
		w := newWorld(t, rng)
		w.sqlite = true
		a := w.addClock(pick(rng, casesWith(balances, true)...))
		a.interval = pick(rng, time.Second, 5*time.Second, 30*time.Second)
		a.maxAge = a.interval * time.Duration(1+rng.IntN(20))
		w.open()
		for range 300 {
			if rng.IntN(10) == 0 {
				a.faults.Clear()
				if rng.IntN(3) > 0 {
					name, fault := anyFault(rng, a)
					w.record("%s", name)
					a.faults.Set(fault)
				}
			}
			if rng.IntN(40) == 0 {
				w.record("restart")
				pick(rng, w.restart, w.kill)()
			}
			oldRead, old := a.watch.last()
			answer := w.get("/metrics?collect[]=balances", 0.9)
			synctest.Wait()
			read, current := a.watch.last()
			now := time.Now()
			value := a.only(t, answer.Body.String())
			// While a fetch ends at the instant of the scrape, either is right.
			served := []string{servedNumber(t, old, oldRead, now, a.maxAge), servedNumber(t, current, read, now, a.maxAge)}
			require.Contains(t, served, value, "at %s %q is served, was read at %s and %s, max_age %s\n%s",
				clock(now), value, clock(oldRead), clock(read), a.maxAge, w.history())
			time.Sleep(anyTime(rng, 4*a.interval))
		}
		w.requireUnbroken()
	})
}

// servedNumber returns the value that is served at now of a number that was read at a
// time; "" for none.
func servedNumber(t *testing.T, number string, read, now time.Time, maxAge time.Duration) string {
	if number == "" {
		return ""
	}
	n, err := strconv.ParseInt(number, 10, 64)
	require.NoError(t, err)
	return servedAt(n, read, now, maxAge)
}

func servedAt(number int64, read, now time.Time, maxAge time.Duration) string {
	if read.IsZero() || now.Sub(read) >= maxAge {
		return ""
	}
	return fmt.Sprint(float64(number))
}
