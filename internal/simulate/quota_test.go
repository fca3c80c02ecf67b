package simulate

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A hint never leads to a request that comes too early.
func TestHint(t *testing.T) {
	for _, now := range []time.Time{time.Unix(100, 0), time.Unix(100, 300), time.Unix(100, 999_999_999)} {
		for _, wait := range []time.Duration{1, time.Second, time.Second + 1, 5 * time.Second, 90*time.Second + 1} {
			at, err := http.ParseTime(HintDate.Header(wait, now))
			require.NoError(t, err)
			assert.GreaterOrEqual(t, at.Sub(now), wait)
			assert.Less(t, at.Sub(now), wait+2*time.Second)
		}
	}
	now := time.Unix(100, 300)
	assert.Equal(t, "1", HintSeconds.Header(0, now))
	assert.Equal(t, "91", HintSeconds.Header(90*time.Second+1, now))
	assert.Equal(t, "Please try again in 7 second(s).", Sentence(7*time.Second))
	assert.Empty(t, HintBody.Header(time.Second, now))
	assert.Empty(t, HintNone.Header(time.Second, now))
}

func TestMeter(t *testing.T) {
	var m Meter
	q := Quota{Requests: 1, Per: time.Second, Burst: 2}
	now := time.Unix(100, 0)
	for range 100 {
		require.Zero(t, m.Take(Quota{}, now), "no quota allows everything")
	}
	require.Zero(t, m.Take(q, now))
	require.Zero(t, m.Take(q, now))
	assert.Equal(t, time.Second, m.Take(q, now))
	assert.Zero(t, m.Take(q, now.Add(time.Second)), "what was refused has used nothing")
	q.Burst = 1
	assert.Zero(t, m.Take(q, now.Add(time.Second)), "another quota starts anew")
	assert.Equal(t, time.Second, m.Take(q, now.Add(time.Second)))
	assert.Equal(t, 2, m.Violations)
}
