package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
)

// The real binary, killed about every second while it is scraped: the provider gets
// no more than the limit, and no value that was older than a second is lost.
//
// Requests that were sent apart may arrive close together. The counter allows for
// that with one more request of burst, which is for ever and not for each process:
// what a restart would spend twice grows with every kill and soon exceeds it.
func TestCrashLoop(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and runs the program")
	}
	duration := 10 * time.Second
	if os.Getenv(slowVariable) != "" {
		duration = 2 * time.Minute
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "balance_exporter")
	build, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, string(build))

	var quota, prices simulate.Recorder
	sim := eightxeightsim.New(eightxeightsim.Options{Accounts: []eightxeightsim.Account{
		{ID: accountOne, APIKey: "key-one-1234", Currency: "USD", Balance: eightxeightsim.NewBalance("100.5"), Prices: somePrices},
	}})
	provider := httptest.NewServer(quota.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/prices") {
			prices.Wrap(sim).ServeHTTP(w, r)
			return
		}
		sim.ServeHTTP(w, r)
	})))
	defer provider.Close()
	config := fmt.Sprintf(`accounts:
  - {name: one, provider: 8x8, base_url: "%s", account_id: %s, api_key: key-one-1234, rate_limit: {requests: 1, per: 2s, burst: 3},
     balance: {refresh_interval: 1s, max_age: 1h}, prices: {refresh_interval: 1h, max_age: 1d}}
`, provider.URL, accountOne)
	file := filepath.Join(dir, "c.yml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))

	read := time.Time{} // when the price list was first seen
	kills := 0
	for start := time.Now(); time.Since(start) < duration; kills++ {
		life := 500*time.Millisecond + rand.N(time.Second)
		_, body := oneLife(t, binary, file, filepath.Join(dir, "state"), life)
		if strings.Contains(body, "sms_price{") && read.IsZero() {
			read = time.Now()
		}
		if !read.IsZero() {
			require.Contains(t, body, "sms_price{", "after %d kills the kept prices are gone", kills)
			require.Contains(t, body, "account_balance{", "after %d kills the kept balance is gone", kills)
		}
		if v, found := quota.Excess(1, 2*time.Second, 3+1); found {
			t.Fatalf("after %d kills: %v", kills, v)
		}
	}
	require.False(t, read.IsZero(), "the prices were never read")
	// A list read within the last second before a kill is read again, once or twice
	// before one lives long enough; in its interval of an hour never after that.
	require.LessOrEqual(t, prices.Len(), 4)
	require.Greater(t, quota.Len(), 3, "nothing was asked")
	t.Logf("%d kills, %d requests, %d of them for prices", kills, quota.Len(), prices.Len())
}

// oneLife starts the program, scrapes it for its life and kills it. It returns the
// last answer.
func oneLife(t *testing.T, binary, config, state string, life time.Duration) (string, string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, "--config.file="+config, "--state.url=bolt:"+state, "--web.listen-address="+address)
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }() // SIGKILL
	last := ""
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for end := time.After(life); ; {
		select {
		case <-end:
			if last != "" {
				_ = cmd.Process.Kill()
				_ = cmd.Wait() // until then the log is written
				return log.String(), last
			}
			end = time.After(100 * time.Millisecond) // not up yet on a busy machine
		case <-ticker.C:
		}
		require.NoError(t, ctx.Err(), "the program does not come up: %s", &log)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics?collect[]=balances&collect[]=prices", nil)
		require.NoError(t, err)
		req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "1")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil && resp.StatusCode == http.StatusOK {
			last = string(body)
		}
	}
}
