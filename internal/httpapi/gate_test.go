package httpapi_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

var onePerSecond = quota.Limit{Requests: 1, Per: time.Second, Burst: 2}

func TestGateSpacesRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(onePerSecond)
		start := time.Now()
		var at []time.Duration
		for range 4 {
			require.NoError(t, gate.Wait(t.Context()))
			at = append(at, time.Since(start))
		}
		assert.Equal(t, []time.Duration{0, 0, time.Second, 2 * time.Second}, at)
	})
}

func TestGateLetsTheLatestGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(quota.Limit{Requests: 1, Per: time.Second, Burst: 1})
		require.NoError(t, gate.Wait(t.Context()))
		now := time.Now()
		var mu sync.Mutex
		var order []string
		var done sync.WaitGroup
		// A price list's requests came first; the balance is later by its interval.
		for _, w := range []struct {
			name string
			turn httpapi.Turn
		}{
			{"prices", httpapi.Turn{DueAt: now.Add(-time.Minute), Interval: time.Hour}},
			{"prices", httpapi.Turn{DueAt: now.Add(-time.Minute), Interval: time.Hour}},
			{"balance", httpapi.Turn{DueAt: now.Add(-30 * time.Second), Interval: time.Minute}},
		} {
			done.Go(func() {
				assert.NoError(t, gate.Wait(httpapi.WithTurn(t.Context(), w.turn)))
				mu.Lock()
				defer mu.Unlock()
				order = append(order, w.name)
			})
			synctest.Wait()
		}
		done.Wait()
		assert.Equal(t, []string{"balance", "prices", "prices"}, order)
	})
}

func TestHeldGateSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(onePerSecond)
		require.NoError(t, gate.Wait(t.Context()))
		gate.RateLimited(time.Minute)
		assert.ErrorIs(t, gate.Wait(t.Context()), providers.ErrNotAsked)
		gate.RateLimited(time.Second)
		until, reason := gate.Hold()
		assert.Equal(t, time.Minute, time.Until(until), "a later answer does not shorten")
		assert.Equal(t, providers.ReasonRateLimited, reason)
		time.Sleep(time.Minute)
		assert.NoError(t, gate.Wait(t.Context()))
	})
}

func TestHoldSendsAwayWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(quota.Limit{Requests: 1, Per: time.Hour, Burst: 1})
		require.NoError(t, gate.Wait(t.Context()))
		waited := make(chan error, 1)
		go func() { waited <- gate.Wait(t.Context()) }()
		synctest.Wait()
		gate.RateLimited(time.Minute)
		assert.ErrorIs(t, <-waited, providers.ErrNotAsked)
	})
}

func TestGateWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(quota.Limit{Requests: 1, Per: time.Hour, Burst: 1})
		require.NoError(t, gate.Wait(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := gate.Wait(ctx)
		assert.ErrorIs(t, err, providers.ErrNotAsked)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestLimitedBackOffDoublesAndStartsAgainAfterAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(onePerSecond)
		limited := func() time.Duration {
			gate.RateLimited(0)
			until, _ := gate.Hold()
			d := time.Until(until)
			time.Sleep(d)
			return d
		}
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
			got := limited()
			assert.GreaterOrEqual(t, got, want*time.Second)
			assert.LessOrEqual(t, got, want*time.Second*6/5, "jitter is a fifth at most")
		}
		gate.Answered(time.Now())
		assert.Less(t, limited(), 2*time.Second)
	})
}

func TestRequestsLimitedTogetherCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(onePerSecond)
		var kept state.Account
		gate.Resume(kept, func(now state.Account) { kept = now })
		for range 5 {
			gate.RateLimited(0)
		}
		assert.Equal(t, 1, kept.Limited)
	})
}

func TestChangedSecretEndsARefusal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, []byte("old-key"), 0o600))
	gate := httpapi.NewGate(onePerSecond, secret.File(path))
	gate.Refused()
	until, reason := gate.Hold()
	assert.False(t, until.IsZero())
	assert.Equal(t, providers.ReasonAuth, reason)
	require.NoError(t, os.WriteFile(path, []byte("new-key-!"), 0o600))
	until, _ = gate.Hold()
	assert.True(t, until.IsZero())
}

func TestQuotaIsKeptBeforeItIsSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(onePerSecond)
		var kept state.Account
		gate.Resume(state.Account{}, func(a state.Account) { kept = a })
		require.NoError(t, gate.Wait(t.Context()))
		require.NoError(t, gate.Wait(t.Context()))

		again := httpapi.NewGate(onePerSecond)
		again.Resume(kept, nil)
		start := time.Now()
		require.NoError(t, again.Wait(t.Context()))
		assert.Equal(t, time.Second, time.Since(start), "the new process goes on with the old one's quota")
	})
}
