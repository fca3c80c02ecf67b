package cache_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/servertest"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

// BenchmarkReplicas reads 100 000 sources under a limit of 1 000 requests per second: in one
// process with a state of its own, and in two with a Redis server in common.
func BenchmarkReplicas(b *testing.B) {
	for _, replicas := range []int{1, 2} {
		b.Run(fmt.Sprint(replicas), func(b *testing.B) {
			url := "memory:"
			if replicas > 1 {
				url = "redis://" + servertest.StartRedis(b).Address
			}
			for b.Loop() {
				b.ReportMetric(readFleet(b, replicas, url), "requests/s")
			}
		})
	}
}

// readFleet returns the requests per second in ten seconds, after the bucket is empty.
func readFleet(b *testing.B, replicas int, url string) float64 {
	const n, warm, d = 100_000, 2 * time.Second, 10 * time.Second
	var sent atomic.Int64
	for range replicas {
		store, err := state.Open(url, state.Options{Logger: log.NewNopLogger(), Prefix: "bench:"})
		require.NoError(b, err)
		defer func() { _ = store.Close() }()
		limit := quota.Limit{Requests: 1000, Per: time.Second, Burst: 1000}
		if store.Shared() {
			limit = limit.Shared()
		}
		a := cache.Account{Provider: "p", Name: "fleet", ID: "fleet", Parts: parts, Gate: gate.New("fleet", limit, store)}
		for i := range n {
			s := subscriber(i)
			s.interval = time.Minute
			s.fetch = func(ctx context.Context) (providers.Reading, error) {
				for {
					grant, err := a.Gate.Wait(ctx)
					if err != nil {
						return providers.Reading{}, err
					}
					if grant.Fresh() {
						sent.Add(1)
						return balance(float64(i))(ctx)
					}
					grant.GiveBack()
				}
			}
			a.Sources = append(a.Sources, s)
		}
		c := cache.New(cache.Options{Store: store, Logger: log.NewNopLogger(), MaxWait: 2 * time.Second})
		defer c.Close()
		c.Replace([]cache.Account{a})
		ctx, stop := context.WithCancel(b.Context())
		defer stop()
		go func() {
			for ctx.Err() == nil {
				c.Refresh(ctx, providers.Kinds(), nil)
			}
		}()
	}
	time.Sleep(warm)
	before := sent.Load()
	time.Sleep(d)
	return float64(sent.Load()-before) / d.Seconds()
}
