package httpapi_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Kept quota from before the clock was set back is worth an empty bucket, and no
// more: it once let nothing through until the old time had come again.
func TestGateAfterTheClockWasSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(onePerSecond)
		gate.Resume(state.Account{Quota: quota.State{FullAt: time.Now().AddDate(1, 0, 0)}}, nil)
		start := time.Now()
		for range 3 {
			require.NoError(t, gate.Wait(t.Context()))
		}
		assert.Equal(t, 3*time.Second, time.Since(start))
	})
}

// A 429 counts from its first byte, though its body may be slow.
func TestNothingIsSentWhileA429IsRead(t *testing.T) {
	for name, header := range map[string]http.Header{
		"told by the header": {"Retry-After": {"60"}},
		"told by the body":   {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate := plenty()
				limit := simulate.Status(429, "application/json", `{"message":"Please try again in 60 second(s)."}`, header)
				client, _ := newClient(simulate.Transport(simulate.SlowDrip(5*time.Second, 1000)(limit(nil))), "http://h.example", gate)
				go func() { _, _ = get(client, "/") }()
				time.Sleep(time.Second)
				start := time.Now()
				err := gate.Wait(t.Context())
				require.ErrorIs(t, err, providers.ErrNotAsked)
				assert.LessOrEqual(t, time.Since(start), 4*time.Second, "it is told when the body has come")
				time.Sleep(5 * time.Second)
				until, reason := gate.Hold()
				assert.Greater(t, time.Until(until), 50*time.Second)
				assert.Equal(t, providers.ReasonRateLimited, reason)
			})
		})
	}
}

// A process that is killed while it reads a 429 has seen its header, and keeps to it
// in its next life.
func TestKeptHoldWhileA429IsRead(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		want   time.Duration
	}{
		"told by the header": {http.Header{"Retry-After": {"600"}}, 10 * time.Minute},
		"told by the body":   {nil, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var kept atomic.Pointer[state.Account]
				gate := plenty()
				gate.Resume(state.Account{}, func(now state.Account) { kept.Store(&now) })
				limit := simulate.Status(429, "application/json", `{"message":"Please try again in 60 second(s)."}`, c.header)
				client, _ := newClient(simulate.Transport(simulate.SlowDrip(5*time.Second, 1000)(limit(nil))), "http://h.example", gate)
				start := time.Now()
				go func() { _, _ = get(client, "/") }()
				synctest.Wait()
				assert.Equal(t, start.Add(c.want), kept.Load().Quota.BlockedUntil)
				time.Sleep(time.Minute)
			})
		})
	}
}

// A changed secret ends the hold of refused credentials, and no other.
func TestChangedSecretDoesNotEndA429(t *testing.T) {
	for name, hold := range map[string]func(g *httpapi.Gate){
		"limited, then refused": func(g *httpapi.Gate) { g.RateLimited(time.Second); g.Refused() },
		"refused, then limited": func(g *httpapi.Gate) { g.Refused(); g.RateLimited(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "key")
				require.NoError(t, os.WriteFile(file, []byte("old-key"), 0o600))
				gate := httpapi.NewGate(onePerSecond, secret.File(file))
				hold(gate)
				require.NoError(t, os.WriteFile(file, []byte("new-key"), 0o600))
				until, _ := gate.Hold()
				assert.False(t, until.IsZero(), "the account is held no more")
				assert.True(t, errors.Is(gate.Wait(t.Context()), providers.ErrNotAsked))
			})
		})
	}
}

// A secret that changes while a request is under way is not the one that is refused.
func TestSecretChangesBeforeTheRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(file, []byte("old-key"), 0o600))
		gate := httpapi.NewGate(onePerSecond, secret.File(file))
		require.NoError(t, gate.Wait(t.Context()))
		require.NoError(t, os.WriteFile(file, []byte("new-key"), 0o600))
		gate.Refused()
		until, _ := gate.Hold()
		assert.True(t, until.IsZero(), "the new key was not refused")
		require.NoError(t, gate.Wait(t.Context()))
		gate.Refused()
		until, _ = gate.Hold()
		assert.False(t, until.IsZero())
	})
}

func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(onePerSecond)
		assert.True(t, gate.Idle())
		require.NoError(t, gate.Wait(t.Context()))
		assert.False(t, gate.Idle(), "some of the burst is spent")
		time.Sleep(time.Second)
		assert.True(t, gate.Idle())
		gate.RateLimited(time.Minute)
		assert.False(t, gate.Idle(), "it is held")
		time.Sleep(time.Minute)
		assert.True(t, gate.Idle())
	})
}
