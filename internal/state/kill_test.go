package state_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
)

// The test binary is also the process that is killed.
const (
	killPathEnv = "STATE_TEST_KILL_PATH"
	killFromEnv = "STATE_TEST_KILL_FROM"
	// readyURLEnv makes the process report whether the store at a URL is ready.
	readyURLEnv = "STATE_TEST_READY_URL"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(killPathEnv); path != "" {
		fmt.Fprintln(os.Stderr, writeForEver(path, os.Getenv(killFromEnv)))
		os.Exit(1)
	}
	if url := os.Getenv(readyURLEnv); url != "" {
		s, err := state.Open(url, state.Options{Logger: log.NewNopLogger()})
		if err == nil {
			err = s.Ready(context.Background())
		}
		fmt.Print(err)
		os.Exit(0)
	}
	// Memory is as good as a disk for all tests, and does not wait for syncs.
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		_ = os.Setenv("TMPDIR", "/dev/shm")
	}
	_ = flag.Set("test.parallel", "4") // tests with a server wait most of the time
	os.Exit(m.Run())
}

// The sources that the killed process publishes: many small ones and a price list.
const (
	killWorkers = 4
	killKeys    = 50
	killPrices  = "prices"
)

// killPriceCount returns how long price list n is.
func killPriceCount(n int) int { return 1000 + n%7*500 }

// writeForEver writes ever higher numbers from several goroutines, and reports each
// number when the call has returned: "quota ACCOUNT N" or "source KEY N".
func writeForEver(path, from string) error {
	s, err := state.Open("sqlite:"+path, state.Options{Logger: log.NewLogfmtLogger(os.Stderr)})
	if err != nil {
		return err
	}
	var first int
	if _, err := fmt.Sscan(from, &first); err != nil {
		return err
	}
	publish := func(key string, n int, shot *snapshot.Snapshot) {
		if _, err := s.Publish(context.Background(), "a", []state.Outcome{{Key: key, Snapshot: shot}}); err == nil {
			fmt.Printf("source %s %d\n", key, n)
		}
	}
	var wg sync.WaitGroup
	for w := range killWorkers {
		wg.Go(func() {
			account := fmt.Sprint("account-", w)
			for n := first; ; n++ {
				_, err := s.Update(context.Background(), account, func(quota.Account, time.Time) quota.Account { return quota.Account{Limited: n} })
				if err == nil {
					fmt.Printf("quota %s %d\n", account, n)
				}
				publish(fmt.Sprintf("source-%d-%d", w, n%killKeys), n, statetest.Balance(float64(n)))
			}
		})
	}
	for n := first; ; n++ {
		shot := statetest.Prices(killPriceCount(n))
		shot.Reading.Prices[0].Amount = float64(n)
		publish(killPrices, n, shot)
	}
}

// TestKill kills a process while it writes. Nothing that it has reported as written
// may be lost. The moment is a random number of reports, so no time is waited for.
func TestKill(t *testing.T) {
	rounds := 8
	if slow {
		rounds = 200
	}
	path := filepath.Join(t.TempDir(), "state.db")
	reported := make(map[string]int) // the newest number by "quota ACCOUNT" or "source KEY"
	for round := range rounds {
		killOnce(t, path, 1_000_000*(round+1), 1+rand.IntN(600), reported)

		s, logged, _ := open(t, path)
		got := statetest.Snapshots(t, s, "a")
		for name, n := range reported {
			kind, key, _ := strings.Cut(name, " ")
			switch {
			case kind == "quota":
				require.GreaterOrEqual(t, statetest.Quota(t, s, key).Limited, n, name)
			case key == killPrices:
				require.Contains(t, got, key)
				prices := got[key].Reading.Prices
				require.GreaterOrEqual(t, int(prices[0].Amount), n, name)
				require.Len(t, prices, killPriceCount(int(prices[0].Amount)))
			default:
				require.Contains(t, got, key)
				require.GreaterOrEqual(t, int(got[key].Reading.Balances[0].Amount), n, name)
			}
		}
		require.Empty(t, logged.String())
		if round%2 == 0 {
			require.NoError(t, s.Close())
			continue
		}
		// The next process starts from what a kill of this one would leave.
		statetest.SetQuota(t, s, "parent", quota.Account{Limited: round})
		path = afterKill(t, path)
		require.NoError(t, s.Close())
	}
	for _, name := range []string{"quota account-0", "source source-0-0", "source " + killPrices} {
		if rounds >= 200 {
			require.Contains(t, reported, name)
		}
	}
}

// killOnce runs a process until it has made a number of reports, and kills it. It
// adds what was reported, also until the process has ended.
func killOnce(t *testing.T, path string, from, reports int, reported map[string]int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), killPathEnv+"="+path, fmt.Sprintf("%s=%d", killFromEnv, from))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	lines := bufio.NewReader(out)
	for i := 1; ; i++ {
		line, err := lines.ReadString('\n')
		if err != nil { // the last line may be cut
			require.ErrorIs(t, err, io.EOF)
			require.GreaterOrEqual(t, i, reports, "the process has ended by itself")
			break
		}
		var kind, key string
		var n int
		_, err = fmt.Sscan(line, &kind, &key, &n)
		require.NoError(t, err)
		reported[kind+" "+key] = n
		if i == reports {
			require.NoError(t, child.Process.Kill())
		}
	}
	require.Error(t, child.Wait())
}

// TestSecondProcess checks the lock between processes, which TestFilesInUse does not
// see: within one process the library needs no lock of the system.
func TestSecondProcess(t *testing.T) {
	path := makeFiles(t)
	first, _, _ := open(t, path)
	statetest.SetQuota(t, first, "a", coolDown)
	for _, used := range []string{path, path + ".quota"} {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), killPathEnv+"="+used, killFromEnv+"=1")
		out, err := child.CombinedOutput()
		require.Error(t, err)
		require.Equal(t, "state file "+used+": in use by another process: stop that one, or give each process a --state.url of its own\n", string(out))
	}
	statetest.SetQuota(t, first, "b", coolDown)
	require.NoError(t, first.Close())
	got, logged := requireSound(t, path)
	require.Len(t, got, len(written()))
	require.Empty(t, logged.String())
}
