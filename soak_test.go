//go:build soak

package main

import (
	"flag"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

var soakTime = flag.Duration("soak.duration", 10*time.Minute, "how long TestSoak runs")

// TestSoak scrapes from twenty sides once a second, from three providers that fail
// in turn, and says what that costs:
//
//	go test -tags soak -run TestSoak -v -timeout 20m . -args -soak.duration=10m
func TestSoak(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 0)))
	w.addEightXEight(eightxeightsim.NewBalance("100.5"), 0)
	w.addYeastar(yeastarsim.Options{})
	w.addFloLIVE(50, fleetNamed, flolivesim.Options{})
	for _, a := range w.accounts {
		a.interval, a.timeout = 5*time.Second, 3*time.Second
	}
	w.open()
	defer func() { w.exporter.close() }()

	var mu sync.Mutex
	var took []time.Duration
	failed := 0
	heap, goroutines := resources()
	end := time.Now().Add(*soakTime)
	var scrapers sync.WaitGroup
	for range 20 {
		scrapers.Go(func() {
			ticker := time.NewTicker(time.Second)
			defer ticker.Stop()
			for time.Now().Before(end) {
				start := time.Now()
				answer := w.get("/metrics", 1)
				mu.Lock()
				took = append(took, time.Since(start))
				if answer.Code != http.StatusOK {
					failed++
				}
				mu.Unlock()
				<-ticker.C
			}
		})
	}
	for i := 0; time.Now().Before(end); i++ {
		a := w.accounts[i%len(w.accounts)]
		_, fault := w.anyFault()
		a.faults.Clear()
		a.faults.Add(simulate.Rule{Fault: fault, Times: 1 + i%5})
		time.Sleep(5 * time.Second)
	}
	scrapers.Wait()
	w.restore()
	time.Sleep(5 * time.Second) // for the requests under way

	slices.Sort(took)
	at := func(p float64) time.Duration { return took[int(p*float64(len(took)-1))] }
	heapAfter, goroutinesAfter := resources()
	t.Logf("%d scrapes, %d failed; p50 %v p90 %v p99 %v max %v; heap %.1f → %.1f MiB, goroutines %d → %d",
		len(took), failed, at(0.5), at(0.9), at(0.99), at(1), heap, heapAfter, goroutines, goroutinesAfter)
	require.Zero(t, failed)
	require.Less(t, at(1), 2*time.Second, "far beyond the deadline of half a second")
	require.Less(t, heapAfter, heap+100)
	require.Less(t, goroutinesAfter, goroutines+20)
	for _, a := range w.accounts {
		_, found := a.watch.requests.Excess(a.limit.Requests, a.limit.Per, a.limit.Burst+1) // one more for jitter
		require.False(t, found)
	}
}

// resources returns the heap in use, in MiB, and the number of goroutines.
func resources() (float64, int) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20), runtime.NumGoroutine()
}
