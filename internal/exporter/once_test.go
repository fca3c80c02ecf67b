package exporter

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		var stdout, stderr bytes.Buffer
		require.NoError(t, b.once(t.Context(), &stdout, &stderr))
		require.Equal(t, "8x8/one balance: ok\n8x8/one prices: ok\n8x8/two balance: ok\n", stderr.String())
		require.Contains(t, stdout.String(), bothBalances)
		require.Equal(t, 3, b.asked(""))
	})
}

// A source that fails, and one that may not be asked, are failures.
func TestOnceWithFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		b.sim.Faults.Add(simulate.Rule{Fault: simulate.Status(401, "application/json", `{"code":1200}`, nil), Match: onAccount(accountOne), Times: 1})
		var stdout, stderr bytes.Buffer
		require.ErrorIs(t, b.once(t.Context(), &stdout, &stderr), errSourcesFailed)
		require.Contains(t, stdout.String(), balanceTwo, "what was read is written")
		require.Equal(t, 3, strings.Count(stderr.String(), "\n"))
		require.Equal(t, 1, strings.Count(stderr.String(), "failed, auth: "), "the refused source")
		require.Equal(t, 2, strings.Count(stderr.String(), "cool-down until 2000-01-01T00:00:05Z (auth)"), "both sources of the account: %s", stderr.String())
		require.Contains(t, stderr.String(), "8x8/two balance: ok\n")
	})
}

func TestOnceIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		b.sim.Faults.Set(simulate.Hang())
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errors.New("terminated")) })
		var stdout, stderr bytes.Buffer
		start := time.Now()
		require.EqualError(t, b.once(ctx, &stdout, &stderr), "interrupted: terminated")
		require.Equal(t, time.Second, time.Since(start))
		require.Empty(t, stdout.String(), "the metrics would be incomplete")
	})
}

// broken is a writer that fails.
type broken struct{}

// Write implements [io.Writer].
func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestOnceCannotWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		require.EqualError(t, b.once(t.Context(), broken{}, &bytes.Buffer{}), "writing the metrics: disk full")
	})
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		b.sim.Faults.Add(simulate.Rule{Fault: simulate.Delay(700 * time.Millisecond), Match: onAccount(accountTwo)})
		ctx, done := context.WithTimeout(t.Context(), 1200*time.Millisecond)
		defer done()
		go b.cache.RefreshAll(ctx)
		var out bytes.Buffer
		b.showProgress(ctx, &out)
		require.Equal(t, "\r\x1b[Kread 2 of 3 sources\r\x1b[Kread 3 of 3 sources\r\x1b[K", out.String())
	})
}

func TestIsTerminal(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer func() { _ = null.Close() }()
	assert.False(t, isTerminal(null))
	file, err := os.Create(t.TempDir() + "/file")
	require.NoError(t, err)
	assert.False(t, isTerminal(file))
	require.NoError(t, file.Close())
	assert.False(t, isTerminal(file), "a closed file")
}
