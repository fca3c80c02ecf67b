package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkStart measures the demo from the start of the binary to its first
// answer, with balances and prices. The fleet is left out: its first scrape waits
// for as many of its subscribers as the deadline allows.
func BenchmarkStart(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "balance_exporter")
	out, err := exec.CommandContext(b.Context(), "go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(b, err, "%s", out)
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	require.NoError(b, err)
	address := listener.Addr().String()
	require.NoError(b, listener.Close())
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), binary, "--demo", "--web.listen-address="+address, "--log.level=error")
		require.NoError(b, cmd.Start())
		answer := awaitMetrics(b, "http://"+address+"/metrics?collect[]=balances&collect[]=prices")
		require.Contains(b, answer, "\nsms_price{")
		require.Contains(b, answer, "\naccount_balance{")
		require.NoError(b, cmd.Process.Signal(os.Interrupt))
		require.NoError(b, cmd.Wait())
	}
}

// awaitMetrics asks until there is an answer, for at most ten seconds.
func awaitMetrics(b *testing.B, address string) string {
	b.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, address, nil)
		require.NoError(b, err)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue // it does not listen yet
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		require.NoError(b, err)
		require.Equal(b, http.StatusOK, resp.StatusCode)
		return string(body)
	}
	b.Fatal("no answer within ten seconds")
	return ""
}
