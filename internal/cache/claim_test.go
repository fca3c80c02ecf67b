package cache_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
	"github.com/balance-exporter/balance_exporter/providers"
)

// shared is a store whose claims are answered by a test, as one that is shared with
// other processes.
type shared struct {
	state.Store
	answer func() (state.Claim, error)

	mu        sync.Mutex
	claims    int
	key       string    // of the last claim
	at        time.Time // of the last claim
	together  int       // claims at that instant
	refuse    int       // the number of outcomes that are not accepted
	published []state.Outcome
}

// claimed returns the number of claims.
func (s *shared) claimed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims
}

func (s *shared) Claim(_ context.Context, _ string, _ bool, sources []state.Source) ([]state.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims++
	s.key = sources[0].Key
	if !s.at.Equal(time.Now()) {
		s.at, s.together = time.Now(), 0
	}
	if s.together++; s.together > 100 {
		panic("a loop at a clock that stands still")
	}
	claim, err := s.answer()
	return []state.Claim{claim}, err
}

func (s *shared) Publish(ctx context.Context, id string, outcomes []state.Outcome) ([]bool, error) {
	s.mu.Lock()
	s.published = append(s.published, outcomes...)
	refuse := s.refuse > 0
	s.refuse--
	s.mu.Unlock()
	if refuse {
		return make([]bool, len(outcomes)), nil
	}
	return s.Store.Publish(ctx, id, outcomes)
}

func TestSourceHeldByAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := true
		store := &shared{Store: statetest.NewKept(), answer: func() (state.Claim, error) {
			if held {
				return state.Claim{Result: state.Held, Retry: 5 * time.Second}, nil
			}
			return state.Claim{Token: 7}, nil
		}}
		src := balanceSource(balance(1))
		c := newCache(t, store, account(store, "a", "", src))
		start := time.Now()
		scrape(t, c)
		assert.Equal(t, 9500*time.Millisecond, time.Since(start), "there is nothing to serve yet")
		assert.Equal(t, 2, store.claimed(), "claimed again after Retry")
		assert.Zero(t, src.times())
		assert.Zero(t, source(c, providers.KindBalance).Refreshes)
		held = false
		scrape(t, c)
		assert.Equal(t, 10*time.Second, time.Since(start), "a scrape waits for it as for a fetch")
		assert.Equal(t, []float64{1}, amounts(c))
		require.Len(t, store.published, 1)
		assert.Equal(t, uint64(7), store.published[0].Token)
	})
}

// What another process is fetching delays no other source, even with one worker.
func TestHeldSourceDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shared{Store: statetest.NewKept()}
		store.answer = func() (state.Claim, error) {
			if store.key == "balance" {
				return state.Claim{Result: state.Held, Retry: time.Second}, nil
			}
			return state.Claim{Token: 7}, nil
		}
		held, other := balanceSource(balance(1)), balanceSource(balance(2))
		other.key = "other"
		a := account(store, "a", "", held, other)
		a.Parts = parts[:1]
		a.Gate = gate.New("a", quota.Limit{Requests: 1, Per: time.Second, Burst: 1}, store)
		c := newCache(t, store, a)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		c.Refresh(ctx, providers.Kinds(), nil)
		assert.Equal(t, []float64{2}, amounts(c))
		assert.Zero(t, held.times())
	})
}

func TestLostClaimEndsTheFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := make(chan struct{})
		answers := []state.Claim{{Token: 7, Lost: lost}, {Token: 8}}
		store := &shared{Store: statetest.NewKept()}
		store.answer = func() (state.Claim, error) { return answers[min(store.claims, 2)-1], nil }
		ended := errors.New("not ended")
		src := balanceSource(nil)
		src.fetch = func(ctx context.Context) (providers.Reading, error) {
			if src.times() > 1 {
				return balance(2)(ctx)
			}
			<-ctx.Done()
			ended = ctx.Err()
			return balance(1)(ctx) // too late
		}
		c := newCache(t, store, account(store, "a", "", src))
		time.AfterFunc(3*time.Second, func() { close(lost) })
		scrape(t, c)
		require.ErrorIs(t, ended, context.Canceled)
		assert.Equal(t, []float64{2}, amounts(c))
		assert.Equal(t, uint64(1), source(c, providers.KindBalance).Refreshes, "the first outcome is dropped")
		assert.Empty(t, source(c, providers.KindBalance).Failures)
	})
}

// An outcome that the store does not accept is not served: another process has a newer one.
func TestOutcomeIsNotAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shared{Store: statetest.NewKept(), refuse: 1, answer: func() (state.Claim, error) { return state.Claim{}, nil }}
		n := 0.0
		src := balanceSource(func(ctx context.Context) (providers.Reading, error) {
			n++
			return balance(n)(ctx)
		})
		c := newCache(t, store, account(store, "a", "", src))
		scrape(t, c)
		assert.Equal(t, []float64{2}, amounts(c))
		assert.Equal(t, uint64(1), source(c, providers.KindBalance).Refreshes)
	})
}

func TestSourceSharedByAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		other := &snapshot.Snapshot{
			Reading:   providers.Reading{Balances: []providers.Balance{{Amount: 5, Currency: "USD"}}},
			FetchedAt: now.Add(-10 * time.Second), TriedAt: now.Add(-10 * time.Second), DueAt: now.Add(50 * time.Second),
		}
		store := &shared{Store: statetest.NewKept(), answer: func() (state.Claim, error) {
			return state.Claim{Result: state.Shared, Snapshot: other}, nil
		}}
		src := balanceSource(balance(1))
		c := newCache(t, store, account(store, "a", "", src))
		scrape(t, c)
		assert.Equal(t, []float64{5}, amounts(c))
		assert.True(t, source(c, providers.KindBalance).Up)
		time.Sleep(49 * time.Second)
		scrape(t, c)
		assert.Equal(t, 1, store.claimed(), "due when the other process has made it due")
		assert.Zero(t, src.times())
		assert.Empty(t, store.published)
	})
}

func TestSourceSharedByAnotherProcessIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		store := &shared{Store: statetest.NewKept(), answer: func() (state.Claim, error) {
			return state.Claim{Result: state.Shared, Snapshot: &snapshot.Snapshot{
				TriedAt: now, DueAt: now.Add(time.Minute), Failure: &snapshot.Failure{Reason: providers.ReasonTimeout, Message: "slow", Count: 3},
			}}, nil
		}}
		c := newCache(t, store, account(store, "a", "", balanceSource(balance(1))))
		scrape(t, c)
		s := source(c, providers.KindBalance)
		assert.False(t, s.Up)
		assert.Equal(t, "slow", s.Failure.Message)
		assert.Zero(t, s.Refreshes, "that was a refresh of the other process")
		assert.Empty(t, s.Failures)
	})
}

func TestListSharedByAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := "roster"
		store := &shared{Store: statetest.NewKept()}
		claims := 0
		store.answer = func() (state.Claim, error) {
			if claims++; claims > 1 && kept == "roster" {
				return state.Claim{}, nil // the subscribers
			}
			now := time.Now()
			return state.Claim{Result: state.Shared, Snapshot: &snapshot.Snapshot{
				Reading: providers.Reading{Kept: []byte(kept)}, FetchedAt: now, TriedAt: now, DueAt: now.Add(time.Minute),
			}}, nil
		}
		var none providers.List
		l := listing(&none)
		l.known = providers.List{subscriber(1), subscriber(2)}
		c := newCache(t, store, account(store, "a", "", &knownLater{lister: l}))
		scrape(t, c)
		assert.Equal(t, []float64{1, 2}, amounts(c), "the roster of the other process")
		kept = "of a newer version"
		time.Sleep(time.Minute)
		scrape(t, c)
		assert.Equal(t, []float64{1, 2}, amounts(c))
		assert.Zero(t, l.times())
	})
}

// knownLater is a lister that knows its roster only from what is stored.
type knownLater struct{ *lister }

func (l *knownLater) Describe() providers.Description {
	d := l.lister.Describe()
	d.Known = nil
	return d
}

func TestSourceThatSendsNothingIsNotClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shared{Store: statetest.NewKept(), answer: func() (state.Claim, error) { return state.Claim{}, errors.New("connection refused") }}
		file := &counting{fake: fake{key: "file", kind: providers.KindBalance, interval: time.Minute, fetch: balance(1)}}
		file.requests = 0
		c := newCache(t, store, account(store, "a", "", file))
		scrape(t, c)
		assert.Equal(t, []float64{1}, amounts(c))
		assert.Zero(t, store.claimed())
		assert.Empty(t, store.published)
	})
}

func TestNoAnswerToAClaimMakesALoop(t *testing.T) {
	due := func() *snapshot.Snapshot {
		now := time.Now()
		return &snapshot.Snapshot{FetchedAt: now.Add(-time.Hour), TriedAt: now.Add(-time.Hour), DueAt: now, Failure: &snapshot.Failure{Reason: providers.ReasonAuth}}
	}
	for name, tt := range map[string]struct {
		answer func() (state.Claim, error)
		claims int
	}{
		"held, without a time":         {func() (state.Claim, error) { return state.Claim{Result: state.Held}, nil }, 3 * 105},
		"shared, and due again":        {func() (state.Claim, error) { return state.Claim{Result: state.Shared, Snapshot: due()}, nil }, 3},
		"the store cannot be reached":  {func() (state.Claim, error) { return state.Claim{}, errors.New("connection refused") }, 3},
		"granted, but not at the gate": {func() (state.Claim, error) { return state.Claim{}, nil }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &shared{Store: statetest.NewKept(), answer: tt.answer}
				src := balanceSource(func(context.Context) (providers.Reading, error) {
					return providers.Reading{}, &providers.Error{Reason: providers.ReasonInternal, Err: providers.ErrNotAsked}
				})
				c := newCache(t, store, account(store, "a", "", src))
				for range 3 {
					scrape(t, c)
					time.Sleep(time.Second)
				}
				assert.InDelta(t, tt.claims, store.claimed(), 1, "one try per scrape, or ten per second for what is held")
			})
		})
	}
}

func TestStoreOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		store := &shared{Store: statetest.NewKept(), answer: func() (state.Claim, error) {
			if down {
				return state.Claim{}, errors.New("connection refused")
			}
			return state.Claim{}, nil
		}}
		src := balanceSource(balance(1))
		c := newCache(t, store, account(store, "a", "", src))
		scrape(t, c)
		down = true
		time.Sleep(time.Minute)
		start := time.Now()
		scrape(t, c)
		assert.Zero(t, time.Since(start), "the last value is served at once")
		assert.Equal(t, []float64{1}, amounts(c))
		assert.Equal(t, 2, store.claimed(), "one try per scrape")
		s := source(c, providers.KindBalance)
		assert.True(t, s.Up, "nothing has failed")
		assert.Empty(t, s.Failures)
		down = false
		time.Sleep(time.Second)
		scrape(t, c)
		assert.Equal(t, 2, src.times())
	})
}

func TestChangedSecretFileEndsARefusalAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(path, []byte("wrong"), 0o600))
		key := secret.File(path)
		_, err := key.Get()
		require.NoError(t, err)
		store := statetest.NewKept()
		a := account(store, "a", "")
		a.Secrets = []*secret.Value{key}
		src := balanceSource(func(ctx context.Context) (providers.Reading, error) {
			if k, _ := key.Get(); k == "wrong" {
				a.Gate.Refuse(time.Now()) // as the HTTP client does
				return providers.Reading{}, providers.Errorf(providers.ReasonAuth, "wrong key")
			}
			return balance(1)(ctx)
		})
		a.Sources = providers.List{src}
		c := newCache(t, store, a)
		scrape(t, c)
		scrape(t, c)
		assert.Equal(t, 1, src.times(), "blocked")
		time.Sleep(time.Second)
		require.NoError(t, os.WriteFile(path, []byte("right"), 0o600))
		scrape(t, c)
		assert.Equal(t, []float64{1}, amounts(c), "by the first scrape after the change")
	})
}

func TestReplacedAccountKeepsItsQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewKept()
		a := account(store, "a", "1", balanceSource(balance(1)))
		c := newCache(t, store, a)
		scrape(t, c)
		a.Gate.BeginRateLimit(time.Minute)(time.Minute)
		c.Replace(nil)
		assert.Empty(t, c.Status())
		c.Replace([]cache.Account{account(store, "a", "1", balanceSource(balance(1)))})
		assert.True(t, c.Status()[0].CooldownUntil.Equal(time.Now().Add(time.Minute)), "the cool-down survives removal")
	})
}
