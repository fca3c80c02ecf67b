package portions

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func numbers(n int, taken *int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			*taken++
			if !yield(i) {
				return
			}
		}
		*taken = -1 // ended by itself
	}
}

func TestAhead(t *testing.T) {
	for _, c := range []struct {
		values int
		want   [][]int
	}{
		{0, nil},
		{2, [][]int{{0, 1}}},
		{3, [][]int{{0, 1, 2}}},
		{7, [][]int{{0, 1, 2}, {3, 4, 5}, {6}}},
	} {
		taken := 0
		var got [][]int
		for portion := range Ahead(numbers(c.values, &taken), 3) {
			got = append(got, slices.Clone(portion))
		}
		require.Equal(t, c.want, got)
		require.Equal(t, -1, taken, "the sequence has ended")
	}
}

// While a portion is used, only the next one is taken from the sequence.
func TestAheadIsOnePortionAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken, used := 0, 0
		for portion := range Ahead(numbers(100, &taken), 10) {
			synctest.Wait()
			if used += len(portion); used < 90 {
				require.Equal(t, used+10, taken)
			}
		}
	})
}

// A loop that ends early ends the sequence.
func TestAheadEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken := 0
		for portion := range Ahead(numbers(100, &taken), 10) {
			require.Len(t, portion, 10)
			break
		}
		require.LessOrEqual(t, taken, 20)
		require.Positive(t, taken, "it has not come to its end")
	})
}
