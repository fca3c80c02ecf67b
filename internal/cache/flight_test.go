package cache_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
	"github.com/balance-exporter/balance_exporter/providers"
)

// after returns a fetch that takes d, or ends with its context.
func after(d time.Duration, fetch func(context.Context) (providers.Reading, error)) func(context.Context) (providers.Reading, error) {
	return func(ctx context.Context) (providers.Reading, error) {
		if err := simulate.Sleep(ctx, d); err != nil {
			return providers.Reading{}, err
		}
		return fetch(ctx)
	}
}

// listing returns a lister that is asked every minute for the roster.
func listing(roster *providers.List) *lister {
	return &lister{fake: fake{key: "list", kind: providers.KindSubscribers, interval: time.Minute, fetch: func(context.Context) (providers.Reading, error) {
		return providers.Reading{Roster: *roster, Kept: []byte("roster")}, nil
	}}}
}

func TestSourceThatComesBackDuringItsFetchIsNotFetchedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := subscriber(1)
		one.fetch = after(3*time.Minute, balance(1))
		roster := providers.List{one}
		store := statetest.NewDurable()
		c := newCache(t, store, account(store, "a", "", listing(&roster)))
		for _, roster = range []providers.List{{one}, {}, {one}, {one}, {one}} {
			scrape(t, c)
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		assert.Equal(t, []float64{1}, amounts(c))
		assert.Equal(t, 1, one.times())
		assert.Equal(t, &snapshot.Fleet{Fresh: 1}, source(c, providers.KindSubscribers).Fleet)
		time.Sleep(15 * time.Minute)
		scrape(t, c)
		time.Sleep(3 * time.Minute)
		assert.Equal(t, 2, one.times(), "it is queued again")
	})
}

func TestSourceThatGoesDuringItsFetchIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := subscriber(1)
		one.fetch = after(3*time.Minute, balance(1))
		roster := providers.List{one}
		store := statetest.NewDurable()
		c := newCache(t, store, account(store, "a", "", listing(&roster)))
		for _, roster = range []providers.List{{one}, {}, {}, {}} {
			scrape(t, c)
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		assert.Empty(t, amounts(c))
		var stored []string
		require.NoError(t, store.Load(t.Context(), "a", nil, func(key string, _ *snapshot.Snapshot, _ uint64) { stored = append(stored, key) }))
		assert.Equal(t, []string{"list"}, stored)
		assert.Equal(t, 1.0/60, c.Status()[0].PlannedPerSecond)
	})
}

// counting is a source whose number of requests follows its last fetch.
type counting struct {
	fake
	requests int
}

func (c *counting) Describe() providers.Description {
	d := c.fake.Describe()
	d.Requests = c.requests
	return d
}

func (c *counting) Fetch(ctx context.Context) (providers.Reading, error) {
	reading, err := c.fake.Fetch(ctx)
	c.requests++
	return reading, err
}

// A source is used by one goroutine at a time; this is for the race detector.
func TestRosterChangesDuringAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		grows := &counting{fake: fake{key: "grows", kind: providers.KindSubscribers, interval: time.Minute, fetch: after(2*time.Second, balance(1))}, requests: 1}
		roster := providers.List{subscriber(1)}
		l := listing(&roster)
		fetch := l.fetch
		l.fetch = after(time.Second, fetch)
		store := statetest.NewDurable()
		c := newCache(t, store, account(store, "a", "", l, grows))
		scrape(t, c)
		synctest.Wait()
		assert.InDelta(t, 1.0/60+2.0/60+1.0/900, c.Status()[0].PlannedPerSecond, 1e-12, "the demand is that of the last fetch")
	})
}

func TestScrapeAfterCloseFetchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewDurable()
		src := balanceSource(func(ctx context.Context) (providers.Reading, error) { return providers.Reading{}, ctx.Err() })
		c := newCache(t, store, account(store, "a", "1", src))
		c.Close()
		c.Replace([]cache.Account{account(store, "a", "2", src)})
		start := time.Now()
		scrape(t, c)
		assert.Zero(t, time.Since(start))
		assert.Zero(t, src.times())
	})
}

func TestCloseDuringReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewDurable()
		opening := make(chan struct{})
		src := balanceSource(balance(1))
		stuck := &slowLoad{Store: store, opening: opening}
		c := cache.New(cache.Options{Store: stuck, Logger: log.NewNopLogger(), MaxWait: time.Second})
		replaced := make(chan struct{})
		go func() {
			defer close(replaced)
			c.Replace([]cache.Account{account(store, "a", "1", src)})
		}()
		<-opening
		c.Close()
		<-replaced
		scrape(t, c)
		assert.Zero(t, src.times())
	})
}

// slowLoad loads nothing before the context ends.
type slowLoad struct {
	state.Store
	opening chan struct{}
}

func (s *slowLoad) Load(ctx context.Context, _ string, _ []string, _ func(string, *snapshot.Snapshot, uint64)) error {
	close(s.opening)
	<-ctx.Done()
	return ctx.Err()
}

func TestHangingFetchDoesNotDelayTheLookAtSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewDurable()
		a := account(store, "a", "")
		a.Secrets = []*secret.Value{secret.Inline("wrong")}
		hanging := subscriber(1)
		hanging.fetch = after(time.Minute, balance(1))
		refused := balanceSource(after(time.Second, func(context.Context) (providers.Reading, error) {
			a.Gate.Refuse(time.Now())
			return providers.Reading{}, providers.Errorf(providers.ReasonAuth, "wrong key")
		}))
		a.Sources = providers.List{hanging, refused}
		c := newCache(t, store, a)
		ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
		defer cancel()
		for range 2 {
			start := time.Now()
			c.Refresh(ctx, []providers.Kind{providers.KindBalance, providers.KindSubscribers}, nil)
			assert.Equal(t, 2*time.Second, time.Since(start), "as long as for any fleet; the account is blocked")
		}
		assert.Equal(t, 1, refused.times())
	})
}

func TestSourcesAreReadTogetherAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewDurable()
		a := account(store, "a", "", subscriber(1), balanceSource(balance(1)))
		for _, s := range a.Sources {
			f := s.(*fake)
			f.fetch = after(time.Second, f.fetch)
		}
		a.Gate.Refuse(time.Now())
		c := newCache(t, store, a)
		time.Sleep(time.Minute)
		start := time.Now()
		scrape(t, c)
		assert.Equal(t, time.Second, time.Since(start))
	})
}

func TestFleetThatFailsInPartDoesNotFlapInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewDurable()
		var sources providers.List
		for i := range 10 {
			s := subscriber(i)
			s.fetch = after(time.Duration(i)*time.Second, func(ctx context.Context) (providers.Reading, error) {
				if i < 6 {
					return providers.Reading{}, providers.Errorf(providers.ReasonUnavailable, "down")
				}
				return balance(float64(i))(ctx)
			})
			sources = append(sources, s)
		}
		var out bytes.Buffer
		logger := level.NewFilter(log.NewLogfmtLogger(&out), level.AllowInfo())
		c := cache.New(cache.Options{Store: store, Logger: logger, MaxWait: time.Second})
		c.Replace([]cache.Account{account(store, "a", "", sources...)})
		defer c.Close()
		for range 100 {
			scrape(t, c)
			time.Sleep(30 * time.Second)
		}
		assert.Equal(t, "level=warn provider=p account=a msg=\"most sources fail\" source=subscribers reason=unavailable err=down stale=0 failed=6\n", out.String())
		s := source(c, providers.KindSubscribers)
		assert.Equal(t, providers.ReasonUnavailable, s.Failure.Reason, "though the last try worked")
	})
}

func TestFailureOfAListIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewDurable()
		roster := providers.List{subscriber(1), subscriber(2), subscriber(3)}
		l := listing(&roster)
		works := l.fetch
		var out bytes.Buffer
		logger := level.NewFilter(log.NewLogfmtLogger(&out), level.AllowInfo())
		c := cache.New(cache.Options{Store: store, Logger: logger, MaxWait: time.Second})
		c.Replace([]cache.Account{account(store, "a", "", l)})
		defer c.Close()
		scrape(t, c)
		time.Sleep(time.Minute)
		l.fetch = func(context.Context) (providers.Reading, error) {
			return providers.Reading{}, &providers.Error{Reason: providers.ReasonBadResponse, Message: "not whole", ID: "17", AskAfter: 5 * time.Second}
		}
		for range 2 {
			scrape(t, c)
			time.Sleep(5 * time.Second)
		}
		assert.True(t, source(c, providers.KindSubscribers).Up, "the subscribers are read")
		l.fetch = works
		scrape(t, c)
		assert.Equal(t, `level=warn provider=p account=a id=17 msg="refresh failed" source=subscribers reason=bad_response err="not whole" failures=1 next=5s
level=info provider=p account=a msg=recovered source=subscribers failures=2
`, out.String())
		assert.Equal(t, []float64{1, 2, 3}, amounts(c), "the earlier roster stays")
	})
}

func TestPostpaidAccountIsAskedEveryHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewDurable()
		src := balanceSource(func(context.Context) (providers.Reading, error) {
			return providers.Reading{Billing: providers.BillingPostpaid, AskAfter: time.Hour}, nil
		})
		c := newCache(t, store, account(store, "a", "", src))
		assert.Equal(t, providers.BillingUnknown, c.Status()[0].Billing)
		assert.Equal(t, time.Minute, source(c, providers.KindBalance).Part.Interval)
		scrape(t, c)
		time.Sleep(time.Hour - time.Second)
		scrape(t, c)
		assert.Equal(t, 1, src.times())
		assert.Equal(t, providers.BillingPostpaid, c.Status()[0].Billing)
		assert.Equal(t, time.Hour, source(c, providers.KindBalance).Part.Interval)
		assert.Empty(t, amounts(c))
		src.fetch = func(ctx context.Context) (providers.Reading, error) {
			r, err := balance(1)(ctx)
			r.Billing = providers.BillingPrepaid
			return r, err
		}
		time.Sleep(time.Second)
		scrape(t, c)
		assert.Equal(t, providers.BillingPrepaid, c.Status()[0].Billing)
		assert.Equal(t, time.Minute, source(c, providers.KindBalance).Part.Interval)
	})
}
