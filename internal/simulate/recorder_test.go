package simulate

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func recorded(offsets ...time.Duration) *Recorder {
	r := &Recorder{}
	for _, d := range offsets {
		r.arrivals = append(r.arrivals, Arrival{Time: epoch.Add(d)})
	}
	return r
}

func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Recorder{}
		h := r.Wrap(Body("{}")(nil))
		_, _, err := fetch(t, h)
		require.NoError(t, err)
		time.Sleep(time.Second)
		_, _, err = fetch(t, h)
		require.NoError(t, err)
		assert.Equal(t, []Arrival{
			{Time: time.Now().Add(-time.Second), Method: "GET", Path: "/"},
			{Time: time.Now(), Method: "GET", Path: "/"},
		}, r.Arrivals())
		assert.Equal(t, 2, r.Len())
		r.Reset()
		assert.Zero(t, r.Len())
	})
}

func TestExcess(t *testing.T) {
	const s = time.Second
	_, found := recorded(0, 0, s, 2*s, 10*s, 10*s).Excess(1, s, 2)
	assert.False(t, found, "exactly the limit")

	v, found := recorded(0, 10*s, 10*s, 11*s, 12*s-1, 20*s, 20*s, 20*s).Excess(1, s, 2)
	assert.True(t, found)
	assert.Equal(t, Violation{From: epoch.Add(10 * s), To: epoch.Add(12*s - 1), Requests: 4}, v)
	assert.Equal(t, "4 requests within 1.999999999s from 2000-01-01T00:00:10Z", v.String())

	// A hundred years, and a rate that would overflow if multiplied out.
	_, found = recorded(0, 100*365*24*time.Hour).Excess(1_000_000_000, s, 1)
	assert.False(t, found)
	assert.Panics(t, func() { recorded().Excess(0, s, 1) })
}

// TestExcessAgainstBruteForce compares with the definition, window by window,
// in numbers without bounds.
func TestExcessAgainstBruteForce(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	violations := 0
	for range 3000 {
		requests, burst := 1+rnd.IntN(7), 1+rnd.IntN(4)
		per := time.Duration(1 + rnd.IntN(20))
		offsets := make([]time.Duration, 1+rnd.IntN(12))
		for i := range offsets {
			offsets[i] = time.Duration(rnd.IntN(40))
		}
		slices.Sort(offsets)
		r := recorded(offsets...)

		wantLast := -1
		for last := range offsets {
			for first := 0; first <= last && wantLast < 0; first++ {
				window := big.NewRat(int64(offsets[last]-offsets[first]), 1)
				allowed := window.Mul(window, big.NewRat(int64(requests), int64(per)))
				allowed.Add(allowed, big.NewRat(int64(burst), 1))
				if big.NewRat(int64(last-first+1), 1).Cmp(allowed) > 0 {
					wantLast = last
				}
			}
		}
		v, found := r.Excess(requests, per, burst)
		require.Equal(t, wantLast >= 0, found, "%v %d/%d burst %d", offsets, requests, per, burst)
		if !found {
			continue
		}
		violations++
		require.Equal(t, epoch.Add(offsets[wantLast]), v.To)
		// The window returned must be a violation itself.
		require.Greater(t, int64(v.Requests-burst)*int64(per), int64(v.To.Sub(v.From))*int64(requests))
	}
	assert.Greater(t, violations, 500)
	assert.Less(t, violations, 2500)
}

// TestBucket holds that what a Bucket grants is never in excess, and that it
// grants at the moment it names and not a nanosecond earlier.
func TestBucket(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		requests, burst := 1+rnd.IntN(7), 1+rnd.IntN(4)
		per := time.Duration(1 + rnd.IntN(50))
		b, r, now := NewBucket(requests, per, burst), &Recorder{}, epoch
		for range 50 {
			now = now.Add(time.Duration(rnd.IntN(12)))
			if wait := b.Take(now); wait > 0 {
				require.Positive(t, b.Take(now.Add(wait-1)))
				now = now.Add(wait)
				require.Zero(t, b.Take(now))
			}
			r.arrivals = append(r.arrivals, Arrival{Time: now})
		}
		v, found := r.Excess(requests, per, burst)
		require.False(t, found, v)
	}
}
