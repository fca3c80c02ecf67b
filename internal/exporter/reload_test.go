package exporter

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
)

// A reload leaves sources alone that are being read. The race detector sees if it does
// not.
func TestReloadWhileSourcesAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for _, c := range alltest.Cases() {
			w.add(c).faults.Set(simulate.Delay(700 * time.Millisecond))
		}
		w.open()
		for range 60 {
			go w.get("/metrics", 10)
			time.Sleep(400 * time.Millisecond)
			w.reload()
		}
		require.True(t, w.up(), w.failures())
		w.requireUnbroken()
	})
}
