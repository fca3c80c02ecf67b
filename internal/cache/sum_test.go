package cache

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// After a million changes a sum is that of the numbers that are left, to the last bit.
func TestSumDoesNotDrift(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func() float64 {
		switch rng.IntN(4) {
		case 0:
			return math.Round(rng.Float64()*1e6) / 100
		case 1:
			return float64(rng.IntN(1e9))
		case 2:
			return -rng.ExpFloat64() * math.Pow(10, float64(rng.IntN(20)-6))
		}
		return rng.Float64()
	}
	values := make([]float64, 1000)
	var kept sum
	for _, v := range values {
		kept.add(v, 1)
	}
	for range 1_000_000 {
		i := rng.IntN(len(values))
		kept.add(values[i], -1)
		values[i] = random()
		kept.add(values[i], 1)
	}
	var fresh sum
	for _, v := range values {
		fresh.add(v, 1)
	}
	require.Equal(t, fresh.digits, kept.digits)
	require.Equal(t, fresh.value(), kept.value()) //nolint:testifylint // to the last bit
	for _, v := range values {
		kept.add(v, -1)
	}
	require.Empty(t, kept.digits)
	require.Zero(t, kept.value())
}

func TestSumsAreThoseOfDecimals(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{0.1, 0.2}, 0.3},
		{[]float64{0.1, 0.2, 0.3, -0.6}, 0},
		{[]float64{1e17, 1, -1e17}, 1},
		{[]float64{1e300, -1e300, 5e-324}, 5e-324},
		{[]float64{12.34, -0.04, 100}, 112.3},
		{[]float64{math.MaxFloat64, 1}, math.MaxFloat64},
		{[]float64{math.Copysign(0, -1)}, 0},
	} {
		var s sum
		for _, v := range c.values {
			s.add(v, 1)
		}
		require.Equal(t, c.want, s.value(), "%v", c.values) //nolint:testifylint // to the last bit
	}
}
