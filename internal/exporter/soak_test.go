//go:build soak

package exporter

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
	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
)

var soakTime = flag.Duration("soak.duration", 10*time.Minute, "how long TestSoak runs")

// TestSoak runs twenty scrapers once a second against accounts of every case that fail
// in turn, and logs what that costs:
//
//	go test -tags soak -run TestSoak -v -timeout 20m ./internal/exporter -args -soak.duration=10m
func TestSoak(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 0)))
	w.sqlite = true
	for _, c := range alltest.Cases() {
		a := w.add(c)
		a.interval, a.timeout = 5*time.Second, 3*time.Second
	}
	w.open()

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
		_, fault := anyFault(w.rng, a)
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
	require.Less(t, at(1), 2*time.Second, "much more than the deadline of half a second")
	require.Less(t, heapAfter, heap+100)
	// Each account has a few idle connections, with four goroutines on their two ends.
	require.Less(t, goroutinesAfter, goroutines+20+4*5*len(w.accounts))
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
