package exporter

import (
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/servertest"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
)

// BenchmarkStart measures the demo from the start of the binary to its first
// answer, with balances and prices. The fleet is left out: its first scrape waits
// for as many of its subscribers as the deadline allows.
func BenchmarkStart(b *testing.B) {
	binary := build(b)
	for b.Loop() {
		p := &process{address: servertest.Address(b)}
		p.cmd = exec.CommandContext(b.Context(), binary, "--demo", "--web.listen-address="+p.address, "--log.level=error")
		require.NoError(b, p.cmd.Start())
		answer := ""
		for deadline := time.Now().Add(patience); !strings.Contains(answer, "\nsms_price{"); time.Sleep(time.Millisecond) {
			require.True(b, time.Now().Before(deadline), "no prices after %v: %s", patience, answer)
			answer = p.scrape(b.Context(), "?collect[]=balances&collect[]=prices")
		}
		require.Contains(b, answer, "\naccount_balance{")
		require.NoError(b, p.cmd.Process.Signal(os.Interrupt))
		require.NoError(b, p.cmd.Wait())
	}
}

// manyAccounts writes a configuration of n accounts without prices, each with a key
// file, for a simulator on loopback. None has a low_threshold, so each causes a warning.
func manyAccounts(tb testing.TB, n int) (configFile string) {
	dir := tb.TempDir()
	var o eightxeightsim.Options
	var text strings.Builder
	text.WriteString("accounts:\n")
	sim := httptest.NewUnstartedServer(nil)
	for i := range n {
		id, key := fmt.Sprintf("0f0e0d0c-0000-4000-8000-%012d", i), fmt.Sprintf("key-of-account-%d", i)
		file := filepath.Join(dir, key)
		require.NoError(tb, os.WriteFile(file, []byte(key), 0o600))
		fmt.Fprintf(&text, "  - {name: a%d, provider: 8x8, base_url: \"http://%s\", account_id: %s, api_key_file: %s, prices: {enabled: false}}\n",
			i, sim.Listener.Addr(), id, file)
		o.Accounts = append(o.Accounts, eightxeightsim.Account{ID: id, APIKey: key, Currency: "USD", Balance: eightxeightsim.NewBalance("1")})
	}
	sim.Config.Handler = eightxeightsim.New(o)
	sim.Start()
	tb.Cleanup(sim.Close)
	configFile = filepath.Join(dir, "c.yml")
	require.NoError(tb, os.WriteFile(configFile, []byte(text.String()), 0o600))
	return configFile
}

// BenchmarkStartWithWarnings measures the start of the binary, until it is ready, with
// accounts that each cause a warning. The time is linear.
func BenchmarkStartWithWarnings(b *testing.B) {
	binary := build(b)
	var perAccount []float64
	for _, n := range []int{2_000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			file := manyAccounts(b, n)
			for b.Loop() {
				p := start(b, binary, "--config.file="+file)
				p.waitUntilReady(b)
				b.StopTimer()
				p.kill()
				require.Equal(b, n, strings.Count(p.stderr.String(), "has no low_threshold"))
				b.StartTimer()
			}
			perAccount = append(perAccount, b.Elapsed().Seconds()/float64(b.N*n))
		})
	}
	if len(perAccount) == 2 {
		b.Logf("an account of 20 000 takes %.2f times as long as one of 2 000", perAccount[1]/perAccount[0])
	}
}

// BenchmarkFirstScrapeOfManyAccounts measures the first scrape of the binary with 1 000
// accounts that each have a key file.
func BenchmarkFirstScrapeOfManyAccounts(b *testing.B) {
	const n = 1_000
	binary := build(b)
	file := manyAccounts(b, n)
	for b.Loop() {
		b.StopTimer()
		p := start(b, binary, "--config.file="+file, "--log.level=error")
		p.waitUntilReady(b)
		b.StartTimer()
		answer, err := p.get(b.Context(), "/metrics", "30")
		b.StopTimer()
		require.NoError(b, err)
		require.Equal(b, n, strings.Count(answer, "\naccount_balance{"))
		p.kill()
		b.StartTimer()
	}
}
