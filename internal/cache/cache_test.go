package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/stretchr/testify/assert"

	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
	"github.com/balance-exporter/balance_exporter/providers"
)

// fake is a source whose fetch is a function. It is asked without a gate.
type fake struct {
	key      string
	kind     providers.Kind
	interval time.Duration
	fetch    func(context.Context) (providers.Reading, error)

	mu    sync.Mutex
	asked int
}

func (f *fake) Describe() providers.Description {
	return providers.Description{Key: f.key, Kind: f.kind, Interval: f.interval, Requests: 1}
}

func (f *fake) Fetch(ctx context.Context) (providers.Reading, error) {
	f.mu.Lock()
	f.asked++
	f.mu.Unlock()
	return f.fetch(ctx)
}

func (f *fake) times() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func balance(amount float64) func(context.Context) (providers.Reading, error) {
	return func(context.Context) (providers.Reading, error) {
		return providers.Reading{Balances: []providers.Balance{{Amount: amount, Currency: "USD"}}}, nil
	}
}

func balanceSource(fetch func(context.Context) (providers.Reading, error)) *fake {
	return &fake{key: "balance", kind: providers.KindBalance, interval: time.Minute, fetch: fetch}
}

var parts = []providers.Part{
	{Kind: providers.KindBalance, Interval: time.Minute, MaxAge: time.Hour},
	{Kind: providers.KindSubscribers, Interval: 15 * time.Minute, MaxAge: 6 * time.Hour, Fleet: true},
}

func account(store state.Store, name, digest string, sources ...providers.Source) cache.Account {
	return cache.Account{
		Provider: "p", Name: name, ID: name, Digest: digest, Parts: parts, Sources: sources,
		Gate: gate.New(name, quota.Limit{Requests: 1, Per: time.Second, Burst: 5}, store),
	}
}

func newCache(t *testing.T, store state.Store, accounts ...cache.Account) *cache.Cache {
	t.Helper()
	c := cache.New(cache.Options{Store: store, Logger: log.NewNopLogger(), MaxWait: 2 * time.Second})
	c.Replace(accounts)
	t.Cleanup(c.Close)
	return c
}

// scrape refreshes as a scrape with a deadline of 9.5 s does.
func scrape(t *testing.T, c *cache.Cache) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 9500*time.Millisecond)
	defer cancel()
	c.Refresh(ctx, providers.Kinds(), nil)
}

// amounts are the balances that are served.
func amounts(c *cache.Cache) []float64 {
	var out []float64
	for _, g := range c.Groups() {
		for _, s := range g.Snapshots {
			if s.Serves(time.Now(), g.Part.MaxAge) {
				for _, b := range s.Reading.Balances {
					out = append(out, b.Amount)
				}
			}
		}
	}
	return out
}

func source(c *cache.Cache, kind providers.Kind) snapshot.Source {
	for _, s := range c.Status()[0].Sources {
		if s.Part.Kind == kind {
			return s
		}
	}
	panic("no such part")
}

func TestPanicStaysWithItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		c := newCache(t, store,
			account(store, "bad", "", balanceSource(func(context.Context) (providers.Reading, error) { panic("boom") })),
			account(store, "good", "", balanceSource(balance(1))))
		scrape(t, c)
		assert.Equal(t, []float64{1}, amounts(c))
		s := source(c, providers.KindBalance)
		assert.False(t, s.Up)
		assert.Equal(t, map[providers.Reason]uint64{providers.ReasonInternal: 1}, s.Failures)
	})
}

func TestBackOffOfASource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		var at []time.Time
		src := balanceSource(func(context.Context) (providers.Reading, error) {
			at = append(at, time.Now())
			return providers.Reading{}, providers.Errorf(providers.ReasonUnavailable, "down")
		})
		c := newCache(t, store, account(store, "a", "", src))
		for start := time.Now(); time.Since(start) < time.Hour; time.Sleep(100 * time.Millisecond) {
			scrape(t, c)
		}
		want := []time.Duration{5, 10, 20, 40, 80, 160, 300, 300}
		for i, w := range want {
			gap := at[i+1].Sub(at[i])
			assert.GreaterOrEqual(t, gap, w*time.Second, "gap %d", i)
			assert.LessOrEqual(t, gap, w*time.Second*6/5+100*time.Millisecond, "gap %d", i)
		}
	})
}

func TestRetryTimesAreObeyedByTheSource(t *testing.T) {
	for name, c := range map[string]struct {
		err  providers.Error
		want time.Duration
	}{
		"retry after":           {providers.Error{Reason: providers.ReasonUnavailable, RetryAfter: 7 * time.Minute}, 7 * time.Minute},
		"retry after, too long": {providers.Error{Reason: providers.ReasonUnavailable, RetryAfter: 70 * time.Hour}, time.Hour},
		"until a person acts":   {providers.Error{Reason: providers.ReasonTLS, AskAfter: time.Hour}, time.Hour},
		"not found":             {providers.Error{Reason: providers.ReasonNotFound, Gone: true, AskAfter: 24 * time.Hour}, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := statetest.NewKept()
				src := balanceSource(func(context.Context) (providers.Reading, error) { return providers.Reading{}, &c.err })
				cached := newCache(t, store, account(store, "a", "", src))
				scrape(t, cached)
				time.Sleep(c.want - time.Second)
				scrape(t, cached)
				assert.Equal(t, 1, src.times())
				time.Sleep(time.Second)
				scrape(t, cached)
				assert.Equal(t, 2, src.times())
			})
		})
	}
}

func TestGoneSourceEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		src := balanceSource(balance(1))
		c := newCache(t, store, account(store, "a", "", src))
		scrape(t, c)
		assert.Equal(t, []float64{1}, amounts(c))
		src.fetch = func(context.Context) (providers.Reading, error) {
			return providers.Reading{}, &providers.Error{Reason: providers.ReasonNotFound, Gone: true}
		}
		time.Sleep(time.Minute)
		scrape(t, c)
		assert.Empty(t, amounts(c))
		src.fetch = balance(2)
		time.Sleep(10 * time.Minute)
		scrape(t, c)
		assert.Equal(t, []float64{2}, amounts(c))
	})
}

func TestNotAskedIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		blocked := account(store, "a", "")
		src := balanceSource(func(ctx context.Context) (providers.Reading, error) {
			if _, err := blocked.Gate.Wait(ctx); err != nil {
				return providers.Reading{}, &providers.Error{Reason: providers.ReasonUnavailable, Err: err}
			}
			return balance(1)(ctx)
		})
		blocked.Sources = providers.List{src}
		c := newCache(t, store, blocked)
		blocked.Gate.BeginRateLimit(time.Minute)(time.Minute)
		start := time.Now()
		scrape(t, c)
		assert.Zero(t, time.Since(start), "no scrape waits for a blocked account")
		assert.Zero(t, source(c, providers.KindBalance).Refreshes)
		time.Sleep(time.Minute)
		scrape(t, c)
		assert.Equal(t, []float64{1}, amounts(c))
	})
}

func TestRestartAsksNothingInsideTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		first := balanceSource(balance(1))
		failing := balanceSource(func(context.Context) (providers.Reading, error) {
			return providers.Reading{}, providers.Errorf(providers.ReasonUnavailable, "down")
		})
		c := newCache(t, store, account(store, "a", "", first), account(store, "b", "", failing))
		scrape(t, c)
		c.Close()
		read := source(c, providers.KindBalance).LastSuccess
		time.Sleep(4 * time.Second)

		again := newCache(t, store, account(store, "a", "", first), account(store, "b", "", failing))
		assert.Equal(t, []float64{1}, amounts(again), "served at once")
		assert.True(t, source(again, providers.KindBalance).LastSuccess.Equal(read), "with its true age")
		scrape(t, again)
		assert.Equal(t, 1, first.times())
		assert.Equal(t, 1, failing.times(), "back-off is kept")
		time.Sleep(time.Minute)
		scrape(t, again)
		assert.Equal(t, 2, first.times())
		assert.Equal(t, 2, failing.times())
	})
}

func TestStoredValueOfAnotherSourceIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		c := newCache(t, store, account(store, "a", "", balanceSource(balance(1))))
		scrape(t, c)
		c.Close()
		other := balanceSource(balance(2))
		other.key = "balance-of-something-else"
		again := newCache(t, store, account(store, "a", "", other))
		assert.Empty(t, amounts(again))
		scrape(t, again)
		assert.Equal(t, []float64{2}, amounts(again))
	})
}

func TestChangedConfigurationEndsARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		first := account(store, "a", "1")
		refused := balanceSource(func(context.Context) (providers.Reading, error) {
			first.Gate.Refuse(time.Now()) // as the HTTP client does
			return providers.Reading{}, providers.Errorf(providers.ReasonAuth, "wrong key")
		})
		first.Sources = providers.List{refused}
		c := newCache(t, store, first)
		scrape(t, c)
		c.Replace([]cache.Account{account(store, "a", "1", refused)})
		scrape(t, c)
		assert.Equal(t, 1, refused.times(), "a reload of the same does not")
		c.Replace([]cache.Account{account(store, "a", "2", balanceSource(balance(1)))})
		scrape(t, c)
		assert.Equal(t, []float64{1}, amounts(c))
	})
}

func TestReplaceDuringAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		slow := func(ctx context.Context) (providers.Reading, error) {
			select {
			case <-time.After(5 * time.Second):
				return balance(1)(ctx)
			case <-ctx.Done():
				return providers.Reading{}, ctx.Err()
			}
		}
		unchanged, before, after := balanceSource(slow), balanceSource(slow), balanceSource(balance(3))
		c := newCache(t, store, account(store, "unchanged", "1", unchanged), account(store, "changed", "1", before))
		go scrape(t, c)
		time.Sleep(time.Second)
		c.Replace([]cache.Account{account(store, "unchanged", "1", unchanged), account(store, "changed", "2", after)})
		scrape(t, c)
		assert.Equal(t, []float64{1, 3}, amounts(c))
		assert.Equal(t, []int{1, 1, 1}, []int{unchanged.times(), before.times(), after.times()})
		assert.Empty(t, source(c, providers.KindBalance).Failures, "a fetch that was ended has not failed")
	})
}

// lister is a source whose roster is a function.
type lister struct {
	fake
	known providers.Roster
}

func (l *lister) Describe() providers.Description {
	d := l.fake.Describe()
	d.Lists, d.Known, d.Restore = true, l.known, l.restore
	return d
}

func (l *lister) restore(kept []byte) (providers.Roster, error) {
	if string(kept) != "roster" {
		return nil, errors.New("not understood")
	}
	return l.known, nil
}

func subscriber(i int) *fake {
	return &fake{key: fmt.Sprint(i), kind: providers.KindSubscribers, interval: 15 * time.Minute, fetch: balance(float64(i))}
}

func TestRosterComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, three := subscriber(1), subscriber(2), subscriber(3)
		roster := providers.List{one, two}
		list := &lister{fake: fake{key: "list", kind: providers.KindSubscribers, interval: 24 * time.Hour}}
		list.fetch = func(context.Context) (providers.Reading, error) {
			return providers.Reading{Roster: roster, Kept: []byte("roster")}, nil
		}
		store := statetest.NewKept()
		c := newCache(t, store, account(store, "a", "", list))
		scrape(t, c)
		assert.Equal(t, []float64{1, 2}, amounts(c), "what the list brings in is read by the same scrape")
		assert.Equal(t, &snapshot.Fleet{Fresh: 2}, source(c, providers.KindSubscribers).Fleet)

		roster = providers.List{subscriber(2), three}
		time.Sleep(24 * time.Hour)
		scrape(t, c)
		assert.Equal(t, []float64{2, 3}, amounts(c))
		assert.Equal(t, 2, two.times(), "who stays is the same source")

		c.Close()
		list.known = providers.List{two, three}
		again := newCache(t, store, account(store, "a", "", list))
		scrape(t, again)
		assert.Equal(t, []float64{2, 3}, amounts(again), "a restart knows the roster")
		assert.Equal(t, 2, list.times(), "and does not ask for it")
	})
}

func TestOutageOfAFleetIsTwoLinesInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		var failing bool
		var sources providers.List
		for i := range 100 {
			s := subscriber(i)
			s.fetch = func(ctx context.Context) (providers.Reading, error) {
				if failing {
					return providers.Reading{}, providers.Errorf(providers.ReasonUnavailable, "down")
				}
				return balance(float64(i))(ctx)
			}
			sources = append(sources, s)
		}
		var out bytes.Buffer
		logger := log.NewLogfmtLogger(&out)
		c := cache.New(cache.Options{Store: store, Logger: level.NewFilter(logger, level.AllowInfo()), MaxWait: 2 * time.Second})
		c.Replace([]cache.Account{account(store, "a", "", sources...)})
		defer c.Close()
		for _, failing = range []bool{false, true, true, false, false} {
			time.Sleep(time.Hour)
			for range 3 {
				scrape(t, c)
			}
		}
		assert.Equal(t, `level=warn provider=p account=a msg="most sources fail" source=subscribers reason=unavailable err=down stale=100 failed=0
level=info provider=p account=a msg="most sources have recovered" source=subscribers fresh=100
`, out.String())
	})
}

func TestFleetIsUpUnlessMostFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		failing := 0
		var sources providers.List
		for i := range 10 {
			s := subscriber(i)
			s.fetch = func(ctx context.Context) (providers.Reading, error) {
				if i < failing {
					return providers.Reading{}, providers.Errorf(providers.ReasonUnavailable, "down")
				}
				return balance(float64(i))(ctx)
			}
			sources = append(sources, s)
		}
		c := newCache(t, store, account(store, "a", "", sources...))
		assert.False(t, source(c, providers.KindSubscribers).Up, "nothing was tried")
		assert.Equal(t, &snapshot.Fleet{Pending: 10}, source(c, providers.KindSubscribers).Fleet)
		for _, step := range []struct {
			failing int
			up      bool
		}{{0, true}, {5, true}, {6, false}, {10, false}, {0, true}} {
			failing = step.failing
			time.Sleep(20 * time.Minute)
			scrape(t, c)
			s := source(c, providers.KindSubscribers)
			assert.Equal(t, step.up, s.Up, "%d of 10 fail", failing)
			assert.Equal(t, &snapshot.Fleet{Fresh: 10 - failing, Stale: failing}, s.Fleet)
		}
		failing = 10
		time.Sleep(20 * time.Minute)
		scrape(t, c)
		time.Sleep(6 * time.Hour)
		assert.Equal(t, &snapshot.Fleet{Failed: 10}, source(c, providers.KindSubscribers).Fleet, "values have ended, though nothing was asked")
	})
}

func TestGroupsAreTheSameWhileNothingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		var sources providers.List
		for i := range 2500 {
			sources = append(sources, subscriber(i))
		}
		b := balanceSource(balance(1))
		c := newCache(t, store, account(store, "a", "", append(sources, b)...))
		scrape(t, c)
		before := c.Groups()
		assert.Len(t, before, 5, "a balance, the totals and three shards")
		assert.True(t, slices.Equal(before, c.Groups()))
		time.Sleep(time.Minute)
		scrape(t, c)
		after := c.Groups()
		assert.NotSame(t, before[0], after[0])
		assert.True(t, slices.Equal(before[1:], after[1:]), "the fleet has not changed")
	})
}

// A fleet without series of its own has one group, that of its totals.
func TestGroupsOfAFleetWithoutSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		var sources providers.List
		for i := range 1500 {
			one := subscriber(i)
			one.fetch = func(context.Context) (providers.Reading, error) {
				return providers.Reading{SubscriberBalances: []providers.SubscriberBalance{{ID: "a", Currency: "USD", Value: 0.1}}}, nil
			}
			sources = append(sources, one)
		}
		spec := account(store, "a", "", sources...)
		spec.Parts = []providers.Part{{
			Kind: providers.KindSubscribers, Interval: 15 * time.Minute, MaxAge: 6 * time.Hour, Fleet: true, Series: providers.SeriesNone,
		}}
		c := newCache(t, store, spec)
		assert.Empty(t, c.Groups()[0].Totals, "never a sum of nothing")
		scrape(t, c)
		groups := c.Groups()
		assert.Len(t, groups, 1)
		read := source(c, providers.KindSubscribers).Fleet.Fresh
		assert.Positive(t, read)
		assert.Equal(t, []snapshot.Total{{Currency: "USD", Sum: float64(read) / 10, Count: read}}, groups[0].Totals)
		time.Sleep(6 * time.Hour)
		assert.Empty(t, c.Groups()[0].Totals, "values have ended, though nothing was asked")
		assert.NotNil(t, c.Groups()[0].Totals)
	})
}
