package exporter

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
)

// withPrices starts the program with one account whose price list of so many rows takes
// as long to come as delay says.
func withPrices(t *testing.T, binary string, rows int, delay time.Duration) *process {
	c := casesWith(prices, false)[0]
	list := simulate.Delay(delay)(eightxeightsim.LargePrices(rows)(nil))
	configFile := onLoopback(t, c, func(sim http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/prices") {
				list.ServeHTTP(w, r)
			} else {
				sim.ServeHTTP(w, r)
			}
		})
	})
	text, err := os.ReadFile(configFile)
	require.NoError(t, err)
	unlimited := regexp.MustCompile(`prices: {.*}`).ReplaceAll(text, []byte("prices: {refresh_interval: 1h}"))
	require.NoError(t, os.WriteFile(configFile, unlimited, 0o600))
	p := start(t, binary, "--config.file="+configFile)
	p.waitUntilReady(t)
	return p
}

// A price list of 100 000 rows that comes just before the deadline delays none of 200
// scrapes past it, although every core is busy with something else. How long 200 scrapes
// at once take when nothing is missing measures the machine: twice that time is allowed
// after the deadline of 9.5 s if it is longer than the offset. A machine that sleeps for a
// second could still delay one, so a round is tried three times.
func TestDeadlineOnABusyMachine(t *testing.T) {
	if os.Getenv(slowVariable) == "" {
		t.Skip("a minute of load; " + slowVariable + "=1 runs it")
	}
	binary := build(t)
	for range 2 {
		busy := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
		require.NoError(t, busy.Start())
		t.Cleanup(func() { _, _ = busy.Process.Kill(), busy.Wait() })
	}
	const deadline = 9500 * time.Millisecond
	for _, delay := range []time.Duration{8 * time.Second, 9 * time.Second, 9400 * time.Millisecond} {
		var failed error
		for range 3 {
			p := withPrices(t, binary, 1, 0)
			waitForPrices(t, p, 1)
			usual, err := scrapesAtOnce(t, p)
			require.NoError(t, err)
			p.kill()

			p = withPrices(t, binary, 100_000, delay)
			took, err := scrapesAtOnce(t, p)
			allowed := deadline + max(500*time.Millisecond, 2*usual)
			t.Logf("prices after %s: 200 scrapes took %s, %s allowed, error %v", delay, took, allowed, err)
			if failed = err; err == nil && took > allowed {
				failed = fmt.Errorf("the scrapes took %s, more than %s", took, allowed)
			}
			waitForPrices(t, p, 100_000)
			p.kill()
			if failed == nil {
				break
			}
		}
		require.NoError(t, failed, "prices after %s", delay)
	}
}

// scrapesAtOnce sends 200 scrapes at once. It returns how long the slowest took, and the
// error of one that has no balance.
func scrapesAtOnce(t *testing.T, p *process) (took time.Duration, err error) {
	var scrapes errgroup.Group
	start := time.Now()
	for range 200 {
		scrapes.Go(func() error {
			answer, err := p.get(t.Context(), "/metrics?collect[]=balances&collect[]=prices&collect[]=exporter", "10")
			if err == nil && !strings.Contains(answer, "\naccount_balance{") {
				err = errors.New("an answer has no balance")
			}
			return err
		})
	}
	err = scrapes.Wait()
	return time.Since(start), err
}

// waitForPrices waits until so many prices are served.
func waitForPrices(t *testing.T, p *process, rows int) {
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		answer, err := p.get(t.Context(), "/metrics?collect[]=prices", "10")
		if strings.Count(answer, "sms_price{") == rows {
			return
		}
		require.True(t, time.Now().Before(end), "the prices are not served: %v", err)
	}
}

// Reading, rendering and compressing 50 000 prices takes at most 80 MB of memory, with
// the program itself and all that its heap holds.
func TestPeakMemoryOfAPriceList(t *testing.T) {
	if os.Getenv(slowVariable) == "" {
		t.Skip("it builds the program; " + slowVariable + "=1 runs it")
	}
	p := withPrices(t, build(t), 50_000, 0)
	before := p.memory(t, "VmHWM")
	answer, err := p.get(t.Context(), "/metrics", "60")
	require.NoError(t, err)
	require.Equal(t, 50_000, strings.Count(answer, "\nsms_price{"))
	peak := p.memory(t, "VmHWM")
	t.Logf("peak %.1f MB, before the scrape %.1f MB", peak, before)
	require.LessOrEqual(t, peak, 80.0, "MB")
}

// memory returns a line of /proc/PID/status, in megabytes.
func (p *process) memory(t *testing.T, name string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(t, err)
	m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(text)
	require.NotNil(t, m, "%s", text)
	kilobytes, err := strconv.Atoi(string(m[1]))
	require.NoError(t, err)
	return float64(kilobytes) * 1024 / 1e6
}
