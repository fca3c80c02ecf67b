package state_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
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

// BenchmarkPublish publishes one snapshot at a time, alone and from 100 callers.
func BenchmarkPublish(b *testing.B) {
	b.Run("alone", func(b *testing.B) {
		s, _, _ := open(b, onDisk(b))
		for i := 0; b.Loop(); i++ {
			publish(b, s, "fleet", []state.Outcome{{Key: key(i % 10_000), Snapshot: subscriber(i)}})
		}
	})
	b.Run("100 callers", func(b *testing.B) {
		s, _, _ := open(b, onDisk(b))
		b.SetParallelism(100)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				publish(b, s, "fleet", []state.Outcome{{Key: key(i % 10_000), Snapshot: subscriber(i)}})
			}
		})
	})
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

// BenchmarkFleet writes, opens and loads 100 000 subscribers.
func BenchmarkFleet(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		path := onDisk(b)
		s, _, _ := open(b, path)
		start := time.Now()
		for from := 0; from < n; from += 1000 {
			var outcomes []state.Outcome
			for i := from; i < from+1000; i++ {
				outcomes = append(outcomes, state.Outcome{Key: key(i), Snapshot: subscriber(i)})
			}
			publish(b, s, "fleet", outcomes)
		}
		b.ReportMetric(time.Since(start).Seconds(), "write-s")
		require.NoError(b, s.Close())
		info, err := os.Stat(path)
		require.NoError(b, err)
		b.ReportMetric(float64(info.Size())/1e6, "file-MB")
		start = time.Now()
		s, _, _ = open(b, path)
		b.ReportMetric(time.Since(start).Seconds(), "open-s")
		start = time.Now()
		require.Len(b, statetest.Snapshots(b, s, "fleet"), n)
		b.ReportMetric(time.Since(start).Seconds(), "load-s")
		require.NoError(b, s.Close())
	}
}

// BenchmarkPriceList writes and loads a list of 50 000 prices.
func BenchmarkPriceList(b *testing.B) {
	s, _, _ := open(b, onDisk(b))
	list := statetest.Prices(50_000)
	record, err := state.EncodeSnapshot("a", "prices", list)
	require.NoError(b, err)
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
