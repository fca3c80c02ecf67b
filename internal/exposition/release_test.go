package exposition

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var freed atomic.Int32
		r := &release{free: func() { freed.Add(1) }}
		after := func(wait time.Duration) int32 {
			time.Sleep(wait)
			synctest.Wait()
			return freed.Load()
		}
		r.note(releaseAfter - 1)
		require.EqualValues(t, 0, after(time.Hour), "too little")
		for range 10 {
			r.note(releaseAfter / 4)
			require.EqualValues(t, 0, after(releaseDelay/2), "still rendering")
		}
		require.EqualValues(t, 1, after(releaseDelay))
		require.EqualValues(t, 1, after(time.Hour), "once")
		r.note(releaseAfter)
		require.EqualValues(t, 2, after(releaseDelay))
	})
}
