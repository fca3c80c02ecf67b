package quota_test

import (
	"math/rand/v2"
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
	var s quota.State
	var wait time.Duration
	for range 5 {
		s, wait = limit.Take(s, start)
		require.Zero(t, wait)
	}
	before := s
	s, wait = limit.Take(s, start)
	assert.Equal(t, time.Second, wait, "the sixth waits until one has come back")
	assert.Equal(t, before, s, "a refusal spends nothing")
	assert.InDelta(t, 5, limit.Used(s, start), 1e-9)

	_, wait = limit.Take(s, start.Add(time.Second-1))
	assert.Equal(t, time.Duration(1), wait, "not a nanosecond too early")
	s, wait = limit.Take(s, start.Add(time.Second))
	assert.Zero(t, wait, "waiting exactly as long as told is enough")

	assert.Zero(t, limit.Used(s, start.Add(time.Hour)))
}

func TestBlockIsCappedAndNeverShortened(t *testing.T) {
	limit := quota.Limit{Requests: 1, Per: time.Second, Burst: 1}
	s := quota.Block(quota.State{}, start, 24*time.Hour)
	_, wait := limit.Take(s, start)
	assert.Equal(t, quota.MaxBlock, wait)

	s = quota.Block(s, start.Add(time.Minute), time.Second)
	_, wait = limit.Take(s, start.Add(time.Minute))
	assert.Equal(t, quota.MaxBlock-time.Minute, wait, "a later, shorter answer does not shorten")
}

func TestClockSteppedBack(t *testing.T) {
	limit := quota.Limit{Requests: 2, Per: time.Second, Burst: 4}
	s := quota.State{FullAt: start.Add(2 * time.Second), BlockedUntil: start}
	earlier := start.Add(-48 * time.Hour)
	_, wait := limit.Take(s, earlier)
	assert.Equal(t, quota.MaxBlock, wait, "a block from the future is no longer than the longest block")
	s.BlockedUntil = time.Time{}
	_, wait = limit.Take(s, earlier)
	assert.Equal(t, 500*time.Millisecond, wait, "a bucket cannot be more than empty")
}

// In any window at most burst + window×requests/per requests are let through,
// and whoever waits as long as told is let through.
func TestNeverMoreThanTheLimitInAnyWindow(t *testing.T) {
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 1))
		limit := quota.Limit{
			Requests: 1 + rng.IntN(7),
			Per:      time.Duration(1 + rng.Int64N(int64(3*time.Second))),
			Burst:    1 + rng.IntN(6),
		}
		var s quota.State
		var sent []time.Time
		now := start
		for range 400 {
			var wait time.Duration
			if s, wait = limit.Take(s, now); wait == 0 {
				if rng.IntN(4) == 0 {
					s = limit.GiveBack(s)
					_, wait = limit.Take(s, now)
					require.Zero(t, wait, "seed %d: given back, then refused", seed)
				} else {
					sent = append(sent, now)
				}
			} else if rng.IntN(2) == 0 {
				now = now.Add(wait)
				s, wait = limit.Take(s, now)
				require.Zero(t, wait, "seed %d: told how long to wait, then refused", seed)
				sent = append(sent, now)
			}
			if rng.IntN(10) == 0 {
				now = now.Add(time.Duration(rng.Int64N(int64(5 * time.Second))))
			} else {
				now = now.Add(time.Duration(rng.Int64N(int64(200 * time.Millisecond))))
			}
		}
		for i := range sent {
			for j := i; j < len(sent); j++ {
				window := sent[j].Sub(sent[i])
				// count <= burst + window×requests/per, without division
				over := int64(j-i+1-limit.Burst)*int64(limit.Per) - int64(window)*int64(limit.Requests)
				if over > 0 {
					t.Fatalf("seed %d: %v: %d requests in %v", seed, limit, j-i+1, window)
				}
			}
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
		s := quota.State{FullAt: start.Add(time.Duration(full)), BlockedUntil: start.Add(time.Duration(blocked))}
		s, wait := limit.Take(s, start)
		if wait < 0 {
			t.Fatalf("negative wait %v", wait)
		}
		if wait > 0 {
			if _, again := limit.Take(s, start.Add(wait)); s.BlockedUntil.Sub(start) <= 0 && again > 0 {
				t.Fatalf("waited %v, then refused for %v", wait, again)
			}
		}
	})
}
