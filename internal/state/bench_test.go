package state_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
	"github.com/balance-exporter/balance_exporter/providers"
)

// onDisk returns a path on a disk; see TestMain.
func onDisk(b *testing.B) string {
	dir, err := os.MkdirTemp("/var/tmp", "state") //nolint:usetesting // TempDir may be in memory
	require.NoError(b, err)
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "state.db")
}

// updates runs updates for b, and reports percentiles of the time of one.
func updates(b *testing.B, s state.Store) {
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		start := time.Now()
		_, err := s.Update(context.Background(), "a", func(quota.Account, time.Time) quota.Account { return quota.Account{Limited: n + 1} })
		took = append(took, time.Since(start))
		if err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

func BenchmarkUpdate(b *testing.B) {
	s, _, _ := open(b, onDisk(b))
	updates(b, s)
}

// BenchmarkUpdateDuringPublish measures updates while 10 000 snapshots are
// published again and again, by 8 callers, one at a time each.
func BenchmarkUpdateDuringPublish(b *testing.B) {
	s, _, _ := open(b, onDisk(b))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; ; i = (i + 8) % 10_000 {
				select {
				case <-stop:
					return
				default:
					publish(b, s, "fleet", []state.Outcome{{Key: key(i), Snapshot: subscriber(i)}})
				}
			}
		})
	}
	updates(b, s)
	close(stop)
	wg.Wait()
}

// BenchmarkPublish publishes one snapshot at a time, alone and from the workers of a large
// fleet, which is in the file already, and reports percentiles of the time of one.
func BenchmarkPublish(b *testing.B) {
	for _, workers := range []int{1, 64} {
		b.Run(fmt.Sprint(workers, " workers"), func(b *testing.B) {
			const n = 200_000
			s, _, _ := open(b, onDisk(b))
			writeFleet(b, s, n)
			var next atomic.Int64
			var mu sync.Mutex
			var took []time.Duration
			b.ResetTimer()
			start, startCPU := time.Now(), cpuTime()
			var group sync.WaitGroup
			for range workers {
				group.Go(func() {
					var mine []time.Duration
					for i := int(next.Add(1)); i <= b.N; i = int(next.Add(1)) {
						at := time.Now()
						publish(b, s, "fleet", []state.Outcome{{Key: key(i % n), Snapshot: subscriber(i)}})
						mine = append(mine, time.Since(at))
					}
					mu.Lock()
					defer mu.Unlock()
					took = append(took, mine...)
				})
			}
			group.Wait()
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "publish/s")
			b.ReportMetric(float64((cpuTime()-startCPU).Microseconds())/float64(b.N), "cpu-µs/op")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "max-ms")
		})
	}
}

// writeFleet publishes n subscribers, 1000 at a time.
func writeFleet(b *testing.B, s state.Store, n int) {
	for from := 0; from < n; from += 1000 {
		var outcomes []state.Outcome
		for i := from; i < from+1000; i++ {
			outcomes = append(outcomes, state.Outcome{Key: key(i), Snapshot: subscriber(i), Token: uint64(time.Now().UnixMicro()), Again: true}) //nolint:gosec // a time
		}
		publish(b, s, "fleet", outcomes)
	}
}

// fleetSizes are those of the benchmarks: 100 000, or as BALANCE_EXPORTER_FLEET says.
func fleetSizes() []int {
	if n, err := strconv.Atoi(os.Getenv("BALANCE_EXPORTER_FLEET")); err == nil {
		return []int{n}
	}
	return []int{100_000}
}

// loadFleet loads all subscribers, one at a time as the cache does, and reports the time,
// its CPU part, and the heap that it needs.
func loadFleet(b *testing.B, s state.Store, n int) {
	runtime.GC()
	var before, during runtime.MemStats
	runtime.ReadMemStats(&before)
	start, startCPU, loaded, peak := time.Now(), cpuTime(), 0, uint64(0)
	require.NoError(b, s.Load(context.Background(), "fleet", nil, func(string, *snapshot.Snapshot, uint64) {
		if loaded++; loaded%100_000 == 0 {
			runtime.ReadMemStats(&during)
			peak = max(peak, during.HeapAlloc)
		}
	}))
	b.ReportMetric(time.Since(start).Seconds(), "load-s")
	b.ReportMetric((cpuTime() - startCPU).Seconds(), "load-cpu-s")
	b.ReportMetric((float64(peak)-float64(before.HeapAlloc))/1e6, "heap-MB")
	require.Equal(b, n, loaded)
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func publish(b *testing.B, s state.Store, id string, outcomes []state.Outcome) {
	if _, err := s.Publish(context.Background(), id, outcomes); err != nil {
		b.Error(err)
	}
}

func key(i int) string { return fmt.Sprintf("%08x%08x", uint32(i)*2654435761, i) }

// subscriber returns a snapshot as a fleet has many of.
func subscriber(i int) *snapshot.Snapshot {
	return &snapshot.Snapshot{
		Reading: providers.Reading{
			Subscriber: fmt.Sprintf("truck-%d", i),
			SubscriberBalances: []providers.SubscriberBalance{
				{ID: "e7fcef24-5c03-41dd-9e33-995b7d6f32b1", Currency: "USD", Value: float64(i) / 3},
				{ID: "0c1d6d34-9e33-41dd-5c03-995b7d6f32b1", Unit: "MB", Value: float64(i)},
			},
		},
		FetchedAt: statetest.Start, TriedAt: statetest.Start, DueAt: statetest.Start,
	}
}

// BenchmarkFleet writes, opens and loads fleets.
func BenchmarkFleet(b *testing.B) {
	for _, n := range fleetSizes() {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path := onDisk(b)
			s, _, _ := open(b, path)
			start := time.Now()
			writeFleet(b, s, n)
			writing := time.Since(start)
			require.NoError(b, s.Close())
			info, err := os.Stat(path)
			require.NoError(b, err)
			for b.Loop() {
				start, startCPU := time.Now(), cpuTime()
				s, _, _ = open(b, path)
				b.ReportMetric(time.Since(start).Seconds(), "open-s")
				b.ReportMetric((cpuTime() - startCPU).Seconds(), "open-cpu-s")
				loadFleet(b, s, n)
				require.NoError(b, s.Close())
			}
			b.ReportMetric(writing.Seconds(), "write-s")
			b.ReportMetric(float64(info.Size())/float64(n), "B/source")
		})
	}
}

// BenchmarkDecode decodes the record of a subscriber.
func BenchmarkDecode(b *testing.B) {
	record := state.EncodeSnapshot("fleet", "k", subscriber(12345))
	startCPU := cpuTime()
	for b.Loop() {
		if _, err := state.DecodeSnapshot("fleet", "k", record); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime()-startCPU)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(len(record)), "B/record")
}

// BenchmarkPriceList writes and loads a list of 50 000 prices.
func BenchmarkPriceList(b *testing.B) {
	s, _, _ := open(b, onDisk(b))
	list := statetest.Prices(50_000)
	record := state.EncodeSnapshot("a", "prices", list)
	var writing, loading time.Duration
	for b.Loop() {
		start := time.Now()
		publish(b, s, "a", []state.Outcome{{Key: "prices", Snapshot: list}})
		writing += time.Since(start)
		start = time.Now()
		require.Len(b, statetest.Snapshots(b, s, "a")["prices"].Reading.Prices, 50_000)
		loading += time.Since(start)
	}
	b.ReportMetric(writing.Seconds()*1e3/float64(b.N), "write-ms")
	b.ReportMetric(loading.Seconds()*1e3/float64(b.N), "load-ms")
	b.ReportMetric(float64(len(record))/1e3, "record-kB")
}
