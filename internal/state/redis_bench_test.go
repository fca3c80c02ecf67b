package state_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
)

// benchRedis calls do from several goroutines at a time, and reports calls per second
// and the median of their duration.
func benchRedis(b *testing.B, do func(s state.Store, worker, i int) error) {
	server := startRedis(b)
	s := server.open(b, state.Options{})
	const workers = 8
	var mu sync.Mutex
	var took []time.Duration
	start := time.Now()
	b.ResetTimer()
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range b.N/workers + 1 {
				at := time.Now()
				if err := do(s, w, i); err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(at))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/time.Since(start).Seconds(), "calls/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRedisUpdate takes requests from the quotas of eight accounts.
func BenchmarkRedisUpdate(b *testing.B) {
	limit := quota.Limit{Requests: 1000, Per: time.Second, Burst: 1000}.Shared()
	benchRedis(b, func(s state.Store, worker, _ int) error {
		_, err := s.Update(context.Background(), fmt.Sprint(worker), func(a quota.Account, now time.Time) quota.Account {
			a, _ = limit.Take(a, now)
			return a
		})
		return err
	})
}

// BenchmarkRedisClaim claims a source and publishes its snapshot.
func BenchmarkRedisClaim(b *testing.B) {
	benchRedis(b, func(s state.Store, worker, i int) error {
		key := fmt.Sprint(worker, "-", i)
		claims, err := s.Claim(context.Background(), "fleet", false, []state.Source{{Key: key}})
		if err != nil {
			return err
		}
		_, err = s.Publish(context.Background(), "fleet", []state.Outcome{{Key: key, Token: claims[0].Token, Snapshot: subscriber(i)}})
		return err
	})
}

// BenchmarkRedisLoad loads fleets, as a replica does when it starts, and asks for newer
// snapshots of all, as one does that was not scraped for hours.
func BenchmarkRedisLoad(b *testing.B) {
	for _, n := range fleetSizes() {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			server := startRedis(b)
			s := server.open(b, state.Options{})
			writeFleet(b, s, n)
			used, err := server.MemoryUsage(context.Background(), "balance_exporter:snapshots:fleet").Result()
			require.NoError(b, err)
			for b.Loop() {
				loadFleet(b, s, n)
				start, newer := time.Now(), 0
				for from := 0; from < n; from += 1000 {
					var sources []state.Source
					for i := from; i < from+1000; i++ {
						sources = append(sources, state.Source{Key: key(i)})
					}
					_, err := s.Newer(context.Background(), "fleet", sources, func(string, *snapshot.Snapshot, uint64) { newer++ })
					require.NoError(b, err)
				}
				b.ReportMetric(time.Since(start).Seconds(), "newer-s")
				require.Equal(b, n, newer)
			}
			b.ReportMetric(float64(used)/float64(n), "B/source")
		})
	}
}
