package quota_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// The package comment's example, as a story.
func TestSpendBeRefusedWaitSucceed(t *testing.T) {
	limit := quota.Limit{Requests: 1, Per: time.Second, Burst: 5}
	var a quota.Account
	var wait time.Duration
	for range 5 {
		a, wait = limit.Take(a, start)
		require.Zero(t, wait)
	}
	before := a
	a, wait = limit.Take(a, start)
	assert.Equal(t, time.Second, wait, "the sixth waits until one has come back")
	assert.Equal(t, before, a, "a refusal spends nothing")
	assert.InDelta(t, 5, limit.Used(a, start), 1e-9)

	_, wait = limit.Take(a, start.Add(time.Second-1))
	assert.Equal(t, time.Duration(1), wait, "not a nanosecond too early")
	a, wait = limit.Take(a, start.Add(time.Second))
	assert.Zero(t, wait, "waiting exactly as long as returned is enough")

	assert.Zero(t, limit.Used(a, start.Add(time.Hour)))
}

// A day with a provider: limited twice, refused once, and good again.
func TestBlockWaitBeBlockedLongerRecover(t *testing.T) {
	limit := quota.Limit{Requests: 1, Per: time.Second, Burst: 1}
	now := start
	var a quota.Account

	a = quota.BeginRateLimit(a, now, 0)
	_, wait := limit.Take(a, now)
	assert.Equal(t, time.Second, wait, "the first byte of a 429 blocks for a second")
	now = now.Add(200 * time.Millisecond)
	a = quota.EndRateLimit(a, now, 0, 0)
	assert.Equal(t, now.Add(time.Second), a.BlockedUntil, "the answer named no time: the first back-off")

	now = a.BlockedUntil
	assert.False(t, a.Blocked(now))
	a = quota.EndRateLimit(quota.BeginRateLimit(a, now, 0), now, 0, 0)
	assert.Equal(t, now.Add(2*time.Second), a.BlockedUntil, "the second in a row doubles it")

	now = a.BlockedUntil
	a = quota.EndRateLimit(quota.BeginRateLimit(a, now, 30*time.Second), now, 30*time.Second, 0)
	assert.Equal(t, now.Add(30*time.Second), a.BlockedUntil, "the answer named a time")
	assert.Equal(t, quota.CauseRateLimited, a.Cause)

	now = a.BlockedUntil
	a = quota.Answer(a, start)
	assert.Equal(t, 3, a.Limited, "an answer to a request from before the 429 changes nothing")
	a = quota.Answer(a, now)
	assert.Zero(t, a.Limited)

	a = quota.Refuse(a, now, 1)
	assert.Equal(t, now.Add(6*time.Second), a.BlockedUntil, "5s and a fifth of jitter")
	assert.Equal(t, quota.CauseRefused, a.Cause)
	assert.Equal(t, a, quota.Refuse(a, now.Add(time.Second), 1), "a request that was under way is refused too, and counts once")
	a = quota.Lift(a)
	assert.False(t, a.Blocked(now))
	assert.Zero(t, a.Refused)
}

func TestBackOffDoublesToFiveMinutes(t *testing.T) {
	for _, c := range []struct {
		n      int
		jitter float64
		want   time.Duration
	}{
		{0, 0, 5 * time.Second},
		{1, 0, 5 * time.Second},
		{2, 0, 10 * time.Second},
		{6, 0, 160 * time.Second},
		{7, 0, 5 * time.Minute},
		{1 << 30, 0, 5 * time.Minute},
		{1, 1, 6 * time.Second},
		{100, 0.5, 330 * time.Second},
	} {
		assert.Equal(t, c.want, quota.BackOff(c.n, c.jitter), "%+v", c)
	}
	var a quota.Account
	now := start
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		a = quota.EndRateLimit(quota.BeginRateLimit(a, now, 0), now, 0, 0)
		assert.Equal(t, want*time.Second, a.BlockedUntil.Sub(now))
		now = a.BlockedUntil
	}
}

func TestRequestsLimitedTogetherCountOnce(t *testing.T) {
	var a quota.Account
	for range 5 {
		a = quota.BeginRateLimit(a, start, 0)
		a = quota.EndRateLimit(a, start, 0, 0.5)
	}
	assert.Equal(t, 1, a.Limited)
}

// Changed credentials end a block for refused credentials, and no other.
func TestLiftDoesNotEndARateLimit(t *testing.T) {
	limited := func(a quota.Account) quota.Account {
		return quota.EndRateLimit(quota.BeginRateLimit(a, start, time.Second), start, time.Second, 0)
	}
	refused := func(a quota.Account) quota.Account { return quota.Refuse(a, start, 0) }
	for name, a := range map[string]quota.Account{
		"limited, then refused": refused(limited(quota.Account{})),
		"refused, then limited": limited(refused(quota.Account{})),
		"limited only":          limited(quota.Account{}),
	} {
		assert.Equal(t, a, quota.Lift(a), name)
		assert.True(t, a.Blocked(start), name)
	}
}

func TestClockSetBack(t *testing.T) {
	limit := quota.Limit{Requests: 2, Per: time.Second, Burst: 4}
	a := quota.Account{FullAt: start.Add(2 * time.Second), BlockedUntil: start, Cause: quota.CauseRefused}
	earlier := start.Add(-48 * time.Hour)
	mended, wait := limit.Take(a, earlier)
	assert.Equal(t, quota.MaxBlock, wait, "a block from the future is no longer than the longest block")
	assert.Equal(t, earlier.Add(quota.MaxBlock), mended.BlockedUntil, "and becomes shorter from then on")
	a.BlockedUntil = time.Time{}
	_, wait = limit.Take(a, earlier)
	assert.Equal(t, 500*time.Millisecond, wait, "a bucket cannot be more than empty")
	assert.InDelta(t, 4, limit.Used(a, earlier), 1e-9)
}

func TestTakeSome(t *testing.T) {
	limit := quota.Limit{Requests: 1, Per: time.Second, Burst: 5}
	now := time.Now()
	a, n, wait := limit.TakeSome(quota.Account{}, now, 3)
	assert.Equal(t, []any{3, time.Duration(0)}, []any{n, wait})
	a, n, wait = limit.TakeSome(a, now, 3)
	assert.Equal(t, []any{2, time.Second}, []any{n, wait})
	after, n, wait := limit.TakeSome(a, now, 3)
	assert.Equal(t, []any{a, 0, time.Second}, []any{after, n, wait})
	_, n, _ = limit.TakeSome(a, now, 0)
	assert.Zero(t, n)
}

// The bucket was full again before the request was given back: nothing is missing.
func TestGiveBackAfterARefill(t *testing.T) {
	limit := quota.Limit{Requests: 1, Per: time.Second, Burst: 1}
	a, _ := limit.Take(quota.Account{}, start)
	later := start.Add(10 * time.Second)
	a, wait := limit.Take(a, later)
	require.Zero(t, wait)
	a = limit.GiveBack(a, start, later)
	_, wait = limit.Take(a, later)
	assert.Equal(t, time.Second, wait)
}

// checkWindows fails if any window has more than burst + window×requests/per of
// sent, which is in order.
func checkWindows(t *testing.T, limit quota.Limit, sent []time.Time, context string) {
	t.Helper()
	for i := range sent {
		for j := i; j < len(sent); j++ {
			window := sent[j].Sub(sent[i])
			// Without division, so that nothing is rounded.
			over := int64(j-i+1-limit.Burst)*int64(limit.Per) - int64(window)*int64(limit.Requests)
			if over > 0 {
				t.Fatalf("%s: %+v: %d requests in %v", context, limit, j-i+1, window)
			}
		}
	}
}

// In any window at most burst + window×requests/per requests are let through, also
// if some are given back at once or later; and a request that waits as long as
// returned is let through.
func TestNeverMoreThanTheLimitInAnyWindow(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		limit := quota.Limit{
			Requests: 1 + rng.IntN(7),
			Per:      time.Duration(1 + rng.Int64N(int64(3*time.Second))),
			Burst:    1 + rng.IntN(6),
		}
		var a quota.Account
		var sent, pending []time.Time // pending may be given back
		now := start
		took := func() {
			if rng.IntN(3) == 0 {
				pending = append(pending, now)
			} else {
				sent = append(sent, now)
			}
		}
		for range 400 {
			var wait time.Duration
			if a, wait = limit.Take(a, now); wait == 0 {
				took()
			} else if rng.IntN(2) == 0 {
				now = now.Add(wait)
				a, wait = limit.Take(a, now)
				require.Zero(t, wait, "seed %d: waited as long as returned, then refused", seed)
				took()
			}
			if len(pending) > 0 && rng.IntN(2) == 0 {
				i := rng.IntN(len(pending))
				before := limit.Used(a, now)
				a = limit.GiveBack(a, pending[i], now)
				require.LessOrEqual(t, limit.Used(a, now), before, "seed %d", seed)
				pending = append(pending[:i], pending[i+1:]...)
			}
			if rng.IntN(10) == 0 {
				now = now.Add(time.Duration(rng.Int64N(int64(5 * time.Second))))
			} else {
				now = now.Add(time.Duration(rng.Int64N(int64(200 * time.Millisecond))))
			}
		}
		checkWindows(t, limit, sent, fmt.Sprint("seed ", seed))
	}
}

// Whatever happens in whatever order: a block is never shortened but by changed
// credentials, never longer than an hour, and no request passes it; counts never
// become negative; and each function gives the same result when it runs again.
func TestBlocksHold(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		limit := quota.Limit{Requests: 1 + rng.IntN(3), Per: time.Second, Burst: 1 + rng.IntN(3)}
		var a quota.Account
		now := start
		for range 200 {
			now = now.Add(time.Duration(rng.Int64N(int64(time.Minute))))
			retryAfter := time.Duration(rng.Int64N(int64(3*time.Hour))) - time.Hour
			if rng.IntN(3) > 0 {
				retryAfter = 0
			}
			jitter, sentAt := rng.Float64(), now.Add(-time.Duration(rng.Int64N(int64(time.Minute))))
			name := []string{"begin", "end", "refuse", "answer", "take", "give back", "lift", "mend"}[rng.IntN(8)]
			step := func() quota.Account {
				switch name {
				case "begin":
					return quota.BeginRateLimit(a, now, retryAfter)
				case "end":
					return quota.EndRateLimit(a, now, retryAfter, jitter)
				case "refuse":
					return quota.Refuse(a, now, jitter)
				case "answer":
					return quota.Answer(a, sentAt)
				case "take":
					next, wait := limit.Take(a, now)
					require.Equal(t, a.Blocked(now), wait >= a.BlockedUntil.Sub(now) && a.Blocked(now), "seed %d", seed)
					if a.Blocked(now) {
						require.Equal(t, a, next, "seed %d: a refusal spends nothing", seed)
					}
					return next
				case "give back":
					return limit.GiveBack(a, sentAt, now)
				case "lift":
					return quota.Lift(a)
				}
				return limit.Mend(a, now)
			}
			next := step()
			require.Equal(t, next, step(), "seed %d: %s runs again", seed, name)
			switch {
			case name == "lift" && a.Cause == quota.CauseRefused:
				require.False(t, next.Blocked(now), "seed %d", seed)
			case a.Blocked(now):
				require.False(t, next.BlockedUntil.Before(a.BlockedUntil), "seed %d: %s shortens a block", seed, name)
				if a.Cause == quota.CauseRateLimited {
					require.Equal(t, quota.CauseRateLimited, next.Cause, "seed %d: %s hides a rate limit", seed, name)
				}
			}
			if name == "begin" || name == "end" && retryAfter > 0 {
				require.True(t, next.Blocked(now), "seed %d: %s does not block", seed, name)
				require.GreaterOrEqual(t, next.BlockedUntil.Sub(now), min(retryAfter, quota.MaxBlock), "seed %d", seed)
			}
			require.LessOrEqual(t, next.BlockedUntil.Sub(now), quota.MaxBlock, "seed %d: %s blocks too long", seed, name)
			require.True(t, next.Limited >= 0 && next.Refused >= 0, "seed %d", seed)
			a = next
		}
	}
}

func FuzzTake(f *testing.F) {
	f.Add(int64(0), int64(0), 1, int64(time.Second), 5)
	f.Fuzz(func(t *testing.T, full, blocked int64, requests int, per int64, burst int) {
		if requests < 1 || requests > 1e6 || per < 1 || per > int64(24*time.Hour) || burst < 1 || burst > 1e6 {
			t.Skip()
		}
		limit := quota.Limit{Requests: requests, Per: time.Duration(per), Burst: burst}
		a := quota.Account{FullAt: start.Add(time.Duration(full)), BlockedUntil: start.Add(time.Duration(blocked))}
		a, wait := limit.Take(a, start)
		if wait < 0 {
			t.Fatalf("negative wait %v", wait)
		}
		if wait > 0 {
			if _, again := limit.Take(a, start.Add(wait)); a.BlockedUntil.Sub(start) <= 0 && again > 0 {
				t.Fatalf("waited %v, then refused for %v", wait, again)
			}
		}
		if used := limit.Used(a, start); used < 0 || used > float64(burst)+1e-6 {
			t.Fatalf("%v of %d used", used, burst)
		}
	})
}

// Requests that leave at any time within the delay after they were taken keep to the
// limit, and the rate is at most a tenth lower.
func TestSharedLimitHoldsForLateRequests(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		limit := quota.Limit{
			Requests: 1 + rng.IntN(7),
			Per:      time.Duration(1+rng.Int64N(3000)) * time.Millisecond,
			Burst:    1 + rng.IntN(6),
		}
		shared := limit.Shared()
		var a quota.Account
		var sent []time.Time
		now := start
		for range 400 {
			var wait time.Duration
			if a, wait = shared.Take(a, now); wait == 0 {
				late := time.Duration(0)
				if rng.IntN(2) == 0 { // half of them as late as allowed
					late = min(shared.Delay, time.Duration(rng.Int64N(int64(2*shared.Delay)+1)))
				}
				sent = append(sent, now.Add(late))
			}
			if now = now.Add(wait); rng.IntN(20) == 0 {
				now = now.Add(time.Duration(rng.Int64N(int64(5 * time.Second))))
			}
		}
		require.Greater(t, len(sent), 100, "seed %d: %+v", seed, shared)
		slices.SortFunc(sent, time.Time.Compare)
		checkWindows(t, limit, sent, fmt.Sprint("seed ", seed))
	}
}

func TestSharedLimit(t *testing.T) {
	perSecond := func(requests, burst int) quota.Limit {
		return quota.Limit{Requests: requests, Per: time.Second, Burst: burst}
	}
	for name, tt := range map[string]struct {
		limit quota.Limit
		delay time.Duration
		rate  float64 // that is reached, in requests per second
	}{
		"the default of 8x8":      {perSecond(1, 5), 100 * time.Millisecond, 1},
		"one at a time":           {perSecond(1, 1), 100 * time.Millisecond, 1 / 1.1},
		"one at a time, slow":     {quota.Limit{Requests: 1, Per: time.Hour, Burst: 1}, 100 * time.Millisecond, 1 / 3600.1},
		"one at a time, fast":     {perSecond(100, 1), 10 * time.Millisecond, 50},
		"two at a time":           {perSecond(1, 2), 100 * time.Millisecond, 1},
		"fast":                    {perSecond(1000, 1000), 100 * time.Millisecond, 1000},
		"fast with a small burst": {perSecond(1000, 5), 4 * time.Millisecond, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			limit := tt.limit.Shared()
			require.Equal(t, tt.delay, limit.Delay)
			a, now := quota.Lost(quota.Account{}), start
			for range 1000 {
				var wait time.Duration
				if a, wait = limit.Take(a, now); wait > 0 {
					now = now.Add(wait)
					a, wait = limit.Take(a, now)
					require.Zero(t, wait)
				}
			}
			require.InEpsilon(t, tt.rate, 1000/now.Sub(start).Seconds(), 0.01)
		})
	}
}

// A lost record is an empty bucket under any limit, with the block that is remembered.
func TestLostRecord(t *testing.T) {
	limit := quota.Limit{Requests: 1, Per: time.Second, Burst: 5}
	_, wait := limit.Take(quota.Lost(quota.Account{}), start)
	require.Equal(t, time.Second, wait)
	known := quota.Account{FullAt: start, BlockedUntil: start.Add(time.Minute), Cause: quota.CauseRateLimited, Limited: 2}
	for name, tt := range map[string]struct{ stored, want quota.Account }{
		"lost":                          {quota.Lost(quota.Account{}), quota.Lost(known)},
		"lost, with a longer block":     {quota.Lost(quota.Account{BlockedUntil: start.Add(time.Hour)}), quota.Lost(quota.Account{BlockedUntil: start.Add(time.Hour)})},
		"not lost: the block was ended": {quota.Account{FullAt: start}, quota.Account{FullAt: start}},
	} {
		require.Equal(t, tt.want, quota.Recover(tt.stored, known), name)
	}
}
