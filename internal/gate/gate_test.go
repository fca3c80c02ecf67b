package gate_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/providers"
)

var (
	onePerSecond = quota.Limit{Requests: 1, Per: time.Second, Burst: 2}
	oneAtATime   = quota.Limit{Requests: 1, Per: time.Second, Burst: 1}
	onePerHour   = quota.Limit{Requests: 1, Per: time.Hour, Burst: 1}
)

var errStore = errors.New("connection refused")

// store is one record in memory. slow, if not nil, returns how long an update
// takes before and after the change, and its error.
type store struct {
	mu     sync.Mutex
	record quota.Account
	slow   func() (before, after time.Duration, err error)
}

func (s *store) Update(_ context.Context, _ string, change func(quota.Account, time.Time) quota.Account) (quota.Account, error) {
	var before, after time.Duration
	var err error
	if s.slow != nil {
		s.mu.Lock()
		before, after, err = s.slow()
		s.mu.Unlock()
	}
	time.Sleep(before)
	if err != nil {
		return quota.Account{}, err
	}
	s.mu.Lock()
	now := time.Now()
	_ = change(s.record, now) // runs again, as in a store that lost a race
	s.record = change(s.record, now)
	record := s.record
	s.mu.Unlock()
	time.Sleep(after)
	return record, nil
}

func newGate(limit quota.Limit) *gate.Gate { return gate.New("id", limit, &store{}) }

func wait(g *gate.Gate, ctx context.Context) error { //nolint:revive // reads as g.Wait(ctx)
	_, err := g.Wait(ctx)
	return err
}

func limited(g *gate.Gate, retryAfter time.Duration) { g.BeginRateLimit(retryAfter)(retryAfter) }

func TestSpacesRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(onePerSecond)
		start := time.Now()
		var at []time.Duration
		for range 4 {
			require.NoError(t, wait(g, t.Context()))
			at = append(at, time.Since(start))
		}
		assert.Equal(t, []time.Duration{0, 0, time.Second, 2 * time.Second}, at)
	})
}

func TestLatestGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(oneAtATime)
		require.NoError(t, wait(g, t.Context()))
		now := time.Now()
		var mu sync.Mutex
		var order []string
		var done sync.WaitGroup
		// A price list's requests came first; the balance is later by its interval.
		for _, w := range []struct {
			name string
			turn gate.Turn
		}{
			{"no turn", gate.Turn{}},
			{"prices 1", gate.Turn{DueAt: now.Add(-time.Minute), Interval: time.Hour}},
			{"prices 2", gate.Turn{DueAt: now.Add(-time.Minute), Interval: time.Hour}},
			{"balance", gate.Turn{DueAt: now.Add(-30 * time.Second), Interval: time.Minute}},
		} {
			done.Go(func() {
				assert.NoError(t, wait(g, gate.WithTurn(t.Context(), w.turn)))
				mu.Lock()
				defer mu.Unlock()
				order = append(order, w.name)
			})
			synctest.Wait()
		}
		done.Wait()
		assert.Equal(t, []string{"balance", "prices 1", "prices 2", "no turn"}, order)
	})
}

func TestBlockedGateSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(onePerSecond)
		require.NoError(t, wait(g, t.Context()))
		limited(g, time.Minute)
		err := wait(g, t.Context())
		assert.ErrorIs(t, err, providers.ErrNotAsked)
		assert.ErrorContains(t, err, "until "+time.Now().Add(time.Minute).UTC().Format(time.RFC3339))
		limited(g, time.Second)
		assert.Equal(t, time.Minute, time.Until(g.Record().BlockedUntil), "a later answer does not shorten")
		assert.Equal(t, quota.CauseRateLimited, g.Record().Cause)
		time.Sleep(time.Minute)
		assert.NoError(t, wait(g, t.Context()))
	})
}

func TestBlockEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(onePerHour)
		require.NoError(t, wait(g, t.Context()))
		waited := make(chan error, 1)
		go func() { waited <- wait(g, t.Context()) }()
		synctest.Wait()
		limited(g, time.Minute)
		synctest.Wait()
		select {
		case err := <-waited:
			assert.ErrorIs(t, err, providers.ErrNotAsked)
		default:
			t.Fatal("still waits")
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(onePerHour)
		require.NoError(t, wait(g, t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := wait(g, ctx)
		assert.ErrorIs(t, err, providers.ErrNotAsked)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(time.Hour)
	})
}

// A request that is granted at the moment at which the wait ends is not lost.
func TestWaitEndsAtTheGrant(t *testing.T) {
	granted := 0
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(oneAtATime)
			require.NoError(t, wait(g, t.Context()))
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if wait(g, ctx) == nil {
				granted++
				return
			}
			synctest.Wait()
			require.NoError(t, wait(g, t.Context()))
			assert.Equal(t, time.Second, time.Since(start))
		})
	}
	t.Logf("granted %d of 100", granted)
}

// Many waiters cost few updates of the store, and so many go at once as an update takes.
func TestRequestsShareAnUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var updates atomic.Int64
		g := gate.New("id", quota.Limit{Requests: 1, Per: time.Hour, Burst: 70}, &store{slow: func() (before, after time.Duration, err error) {
			updates.Add(1)
			return 10 * time.Millisecond, 0, nil
		}})
		start := time.Now()
		var mu sync.Mutex
		at := map[time.Duration]int{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var waiting sync.WaitGroup
		for range 100 {
			waiting.Go(func() {
				if wait(g, ctx) == nil {
					mu.Lock()
					defer mu.Unlock()
					at[time.Since(start)]++
				}
			})
		}
		waiting.Wait()
		sent, most := 0, 0
		for after, n := range at {
			require.LessOrEqual(t, after, 50*time.Millisecond)
			sent, most = sent+n, max(most, n)
		}
		assert.Equal(t, 70, sent, "the burst")
		assert.Equal(t, 32, most)
		assert.LessOrEqual(t, updates.Load(), int64(5))
	})
}

// What an update has taken for waiters that have left meanwhile is given back.
func TestGivesBackWhatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New("id", quota.Limit{Requests: 1, Per: time.Hour, Burst: 10}, &store{slow: func() (before, after time.Duration, err error) {
			return time.Millisecond, 10 * time.Millisecond, nil
		}})
		leaves, leave := context.WithCancel(t.Context())
		var sent sync.WaitGroup
		sent.Go(func() { _ = wait(g, t.Context()) })
		synctest.Wait() // its update runs, so that the next one is for all others
		for _, ctx := range []context.Context{t.Context(), t.Context(), leaves, leaves, leaves} {
			sent.Go(func() { _ = wait(g, ctx) })
		}
		time.Sleep(15 * time.Millisecond) // taken, and not granted yet
		leave()
		sent.Wait()
		time.Sleep(time.Second)
		assert.InDelta(t, 3, g.Limit().Used(g.Record(), time.Now()), 0.01)
	})
}

// Nothing is sent between the first and the last byte of a 429, whatever the block
// says: the body may name a longer time.
func TestNothingIsSentWhileA429IsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(onePerSecond)
		start := time.Now()
		end := g.BeginRateLimit(0)
		assert.Equal(t, time.Second, time.Until(g.Record().BlockedUntil), "a process that ends here has stored a block")
		time.Sleep(5 * time.Second)
		waited := make(chan error, 1)
		go func() { waited <- wait(g, t.Context()) }()
		synctest.Wait()
		assert.Empty(t, waited, "the second has passed, the answer is still read")
		end(time.Minute)
		assert.ErrorIs(t, <-waited, providers.ErrNotAsked)
		assert.Equal(t, start.Add(65*time.Second), g.Record().BlockedUntil)
	})
}

func TestBackOffDoublesAndStartsAgainAfterAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(onePerSecond)
		back := func() time.Duration {
			limited(g, 0)
			d := time.Until(g.Record().BlockedUntil)
			time.Sleep(d)
			return d
		}
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
			got := back()
			assert.GreaterOrEqual(t, got, want*time.Second)
			assert.LessOrEqual(t, got, want*time.Second*6/5, "jitter is at most a fifth")
		}
		g.Answer(time.Now())
		assert.Less(t, back(), 2*time.Second)
	})
}

func TestChangedCredentialsLiftARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(onePerSecond)
		g.Refuse(time.Now())
		assert.Equal(t, quota.CauseRefused, g.Record().Cause)
		assert.ErrorIs(t, wait(g, t.Context()), providers.ErrNotAsked)
		g.Lift()
		assert.False(t, g.Record().Blocked(time.Now()))
		assert.NoError(t, wait(g, t.Context()))

		limited(g, time.Minute)
		g.Lift()
		assert.ErrorIs(t, wait(g, t.Context()), providers.ErrNotAsked, "a 429 is not lifted")
	})
}

// Credentials that change while a request is under way are not the refused ones.
func TestRefusalOfOldCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(onePerSecond)
		sentAt := time.Now()
		time.Sleep(time.Millisecond)
		g.Lift()
		g.Refuse(sentAt)
		assert.False(t, g.Record().Blocked(time.Now()))
		g.Refuse(time.Now())
		assert.True(t, g.Record().Blocked(time.Now()))
	})
}

func TestGiveBackLetsAnotherGoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(onePerHour)
		start := time.Now()
		grant, err := g.Wait(t.Context())
		require.NoError(t, err)
		waited := make(chan error, 1)
		go func() { waited <- wait(g, t.Context()) }()
		synctest.Wait()
		grant.GiveBack()
		assert.NoError(t, <-waited)
		assert.Equal(t, start, time.Now())
	})
}

func TestRequestIsStoredBeforeItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		g := gate.New("id", onePerSecond, s)
		require.NoError(t, wait(g, t.Context()))
		require.NoError(t, wait(g, t.Context()))

		again := gate.New("id", onePerSecond, s)
		assert.Zero(t, again.Record())
		require.NoError(t, again.Load(t.Context()))
		assert.InDelta(t, 2, onePerSecond.Used(again.Record(), time.Now()), 1e-9)
		start := time.Now()
		require.NoError(t, wait(again, t.Context()))
		assert.Equal(t, time.Second, time.Since(start), "a new process goes on with the stored quota")
	})
}

// A record from before the clock was set back is an empty bucket and a block of an
// hour at most, and becomes less from then on.
func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		g := gate.New("id", onePerSecond, &store{record: quota.Account{FullAt: start.AddDate(1, 0, 0)}})
		for range 3 {
			require.NoError(t, wait(g, t.Context()))
		}
		assert.Equal(t, 3*time.Second, time.Since(start))

		start = time.Now()
		g = gate.New("id", onePerSecond, &store{record: quota.Account{BlockedUntil: start.AddDate(1, 0, 0), Cause: quota.CauseRefused}})
		require.NoError(t, g.Load(t.Context()))
		assert.Equal(t, start.Add(time.Hour), g.Record().BlockedUntil)
		time.Sleep(time.Hour)
		assert.False(t, g.Record().Blocked(time.Now()))
		assert.NoError(t, wait(g, t.Context()))
	})
}

func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{slow: func() (time.Duration, time.Duration, error) { return time.Second, 0, errStore }}
		g := gate.New("id", onePerSecond, s)
		assert.ErrorIs(t, g.Load(t.Context()), errStore)
		var done sync.WaitGroup
		for range 5 {
			done.Go(func() {
				err := wait(g, t.Context())
				assert.ErrorIs(t, err, providers.ErrNotAsked)
				assert.ErrorIs(t, err, errStore)
				assert.ErrorContains(t, err, "the state cannot be reached")
			})
		}
		done.Wait()

		// What an answer says counts, although it cannot be stored.
		limited(g, time.Minute)
		s.slow = nil
		assert.ErrorIs(t, wait(g, t.Context()), providers.ErrNotAsked)
		assert.Equal(t, quota.CauseRateLimited, g.Record().Cause)
		time.Sleep(time.Minute)
		assert.NoError(t, wait(g, t.Context()))
	})
}

// While an update hangs, waiters can leave, and the record can be read.
func TestSlowStoreDelaysNoReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New("id", onePerSecond, &store{slow: func() (time.Duration, time.Duration, error) { return 0, time.Hour, nil }})
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorIs(t, wait(g, ctx), context.DeadlineExceeded)
		_, _ = g.Record(), g.Limit()
		assert.Equal(t, time.Second, time.Since(start))
		time.Sleep(3 * time.Hour)
		assert.Zero(t, onePerSecond.Used(g.Record(), time.Now()), "what was taken is given back")
	})
}

// At any time, in any window, at most burst + window×requests/per requests leave,
// and none leaves while the account is blocked: with many waiters that come and go,
// answers of every kind, requests that are given back, updates that are slow or
// fail, and with two gates that share a store.
func TestQuotaHolds(t *testing.T) {
	for _, c := range []struct {
		name  string
		gates int
		slow  time.Duration
		fails bool
	}{
		{"one gate", 1, 0, false},
		{"one gate, a store that fails", 1, 0, true},
		{"one gate, a slow store that fails", 1, 3 * time.Second, true},
		{"two gates", 2, 0, false},
		{"two gates, a store that fails", 2, 0, true},
	} {
		for seed := range uint64(40) {
			t.Run(fmt.Sprintf("%s/%d", c.name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { quotaHolds(t, seed, c.gates, c.slow, c.fails) })
			})
		}
	}
}

func quotaHolds(t *testing.T, seed uint64, gates int, slow time.Duration, fails bool) {
	rng := rand.New(rand.NewPCG(seed, 3))
	limit := quota.Limit{Requests: 1 + rng.IntN(4), Per: time.Duration(1+rng.IntN(3000)) * time.Millisecond, Burst: 1 + rng.IntN(5)}
	s := &store{slow: func() (before, after time.Duration, err error) {
		if slow > 0 && rng.IntN(3) == 0 {
			before, after = time.Duration(rng.Int64N(int64(slow))), time.Duration(rng.Int64N(int64(slow)))
		}
		if fails && rng.IntN(5) == 0 {
			err = errStore
		}
		return before, after, err
	}}
	var open []*gate.Gate
	for range gates {
		open = append(open, gate.New("id", limit, s))
	}
	var mu sync.Mutex // of what follows, and of rng together with s.mu
	var sent []time.Time
	blockedUntil := make([]time.Time, gates) // what a gate has to obey
	random := func(n int64) int64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return rng.Int64N(n)
	}
	var done sync.WaitGroup
	for worker := range 16 {
		g, index := open[worker%gates], 0
		if fails {
			index = worker % gates // a block that could not be stored is known to one gate only
		}
		done.Go(func() {
			for range 15 {
				time.Sleep(time.Duration(random(int64(2 * time.Second))))
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+random(int64(20*time.Second))))
				turn := gate.Turn{DueAt: time.Now().Add(-time.Duration(random(int64(time.Minute)))), Interval: time.Minute}
				grant, err := g.Wait(gate.WithTurn(ctx, turn))
				now := time.Now()
				cancel()
				if err != nil {
					assert.ErrorIs(t, err, providers.ErrNotAsked)
					continue
				}
				mu.Lock()
				assert.False(t, blockedUntil[index].After(now), "sent while blocked")
				mu.Unlock()
				if random(6) == 0 {
					time.Sleep(time.Duration(random(int64(300 * time.Millisecond))))
					grant.GiveBack()
					continue
				}
				mu.Lock()
				sent = append(sent, now)
				mu.Unlock()
				time.Sleep(time.Duration(random(int64(time.Second))))
				switch random(12) {
				case 0:
					retryAfter := time.Duration(random(int64(10 * time.Second)))
					mu.Lock()
					blockedUntil[index] = later(blockedUntil[index], time.Now().Add(retryAfter))
					mu.Unlock()
					end := g.BeginRateLimit(retryAfter)
					time.Sleep(time.Duration(random(int64(time.Second))))
					mu.Lock()
					blockedUntil[index] = later(blockedUntil[index], time.Now().Add(retryAfter))
					mu.Unlock()
					end(retryAfter)
				case 1:
					g.Refuse(now)
					g.Lift()
				default:
					g.Answer(now)
				}
			}
		})
	}
	done.Wait()
	time.Sleep(time.Hour)
	require.NotEmpty(t, sent)
	slices.SortFunc(sent, time.Time.Compare)
	for i := range sent {
		for j := i; j < len(sent); j++ {
			window := sent[j].Sub(sent[i])
			if over := int64(j-i+1-limit.Burst)*int64(limit.Per) - int64(window)*int64(limit.Requests); over > 0 {
				t.Fatalf("%+v: %d requests in %v", limit, j-i+1, window)
			}
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// With a store on another machine, a grant that arrives late is given back, and a store
// that is always late is one that cannot be reached.
func TestLateGrantsOfASharedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := quota.Limit{Requests: 1, Per: time.Second, Burst: 5}.Shared()
		late := 51 * time.Millisecond // a grant lives for half of 100 ms
		s := &store{slow: func() (time.Duration, time.Duration, error) { return 0, late, nil }}
		g := gate.New("id", limit, s)
		_, err := g.Wait(t.Context())
		require.ErrorIs(t, err, providers.ErrNotAsked)
		require.ErrorContains(t, err, "the state answers too slowly: after 51ms, and a request must be sent within 50ms")
		assert.Zero(t, limit.Used(g.Record(), time.Now()), "every grant is given back")

		s.mu.Lock()
		late = 40 * time.Millisecond
		s.mu.Unlock()
		grant, err := g.Wait(t.Context())
		require.NoError(t, err)
		assert.True(t, grant.Fresh())
		time.Sleep(11 * time.Millisecond)
		assert.False(t, grant.Fresh(), "its age counts from the question")
		grant.GiveBack()
		assert.Zero(t, limit.Used(g.Record(), time.Now()))
	})
}

// What the store has lost comes back from the gates that remember it.
func TestLostRecordIsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		one, other := gate.New("id", onePerSecond, s), gate.New("id", onePerSecond, s)
		limited(one, time.Minute)
		require.NoError(t, other.Load(t.Context())) // it learns of the block
		s.record = quota.Lost(quota.Account{})
		require.NoError(t, other.Load(t.Context()))
		assert.True(t, s.record.BlockedUntil.Equal(time.Now().Add(time.Minute)))
		assert.ErrorIs(t, wait(gate.New("id", onePerSecond, s), t.Context()), providers.ErrNotAsked)
		time.Sleep(time.Minute)
		require.NoError(t, wait(other, t.Context()))
		s.record = quota.Lost(quota.Account{})
		start := time.Now()
		require.NoError(t, wait(other, t.Context()))
		assert.Equal(t, time.Second, time.Since(start), "the bucket is empty")
	})
}
