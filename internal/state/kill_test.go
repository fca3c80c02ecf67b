package state

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"
)

const (
	// killPathEnv makes the test binary the child of TestKill.
	killPathEnv = "STATE_TEST_KILL_PATH"
	// killFromEnv is the number with which the child begins.
	killFromEnv = "STATE_TEST_KILL_FROM"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(killPathEnv); path != "" {
		from, err := strconv.Atoi(os.Getenv(killFromEnv))
		if err == nil {
			err = saveForEver(path, from)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// saveForEver saves ever higher numbers, and says so when it has: "account N", or
// "source N at T".
func saveForEver(path string, n int) error {
	s, err := OpenBolt(path, log.NewLogfmtLogger(os.Stderr))
	if err != nil {
		return err
	}
	for ; ; n++ {
		if err := s.SaveAccount("a", Account{Limited: n}); err != nil {
			return err
		}
		fmt.Println("account", n)
		s.SaveSource("a", fmt.Sprint(n%500), aBalance(float64(n)))
		fmt.Println("source", n, "at", time.Now().UnixNano())
		if n%10 == 0 {
			time.Sleep(time.Millisecond) // leave the disk to others too
		}
	}
}

// TestKill kills a process at random moments. Nothing may be lost that the store
// has promised to keep.
func TestKill(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	path := filepath.Join(t.TempDir(), "state.db")
	saved := make(map[string]int) // source key → number saved a second before a kill
	last := 0
	for range rounds {
		last = killOnce(t, path, last+1, time.Duration(rand.IntN(2000))*time.Millisecond, saved)

		s, err := OpenBolt(path, log.NewNopLogger())
		require.NoError(t, err)
		require.Empty(t, asideOf(t, path))
		require.Empty(t, asideOf(t, path+".accounts"))
		account, err := s.LoadAccount("a")
		require.NoError(t, err)
		require.GreaterOrEqual(t, account.Limited, last, "a saved account is lost")
		got := sources(t, s, "a")
		for key, n := range saved {
			require.Contains(t, got, key)
			require.GreaterOrEqual(t, int(got[key].Reading.Balance.Amount), n, "a saved source is lost")
		}
		require.NoError(t, s.Close())
		last = account.Limited
	}
	require.NotEmpty(t, saved, "no round was long enough to show anything")
}

// killOnce runs a child for d and kills it. It returns the last account that the
// child has saved, and adds to saved the sources that were older than a second.
func killOnce(t *testing.T, path string, from int, d time.Duration, saved map[string]int) (last int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), killPathEnv+"="+path, killFromEnv+"="+strconv.Itoa(from))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())

	type source struct {
		n  int
		at time.Time
	}
	var list []source
	var killed time.Time
	timer := time.AfterFunc(time.Hour, func() {
		killed = time.Now()
		_ = child.Process.Kill()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if last == 0 {
			timer.Reset(d) // it has begun
		}
		n, err := strconv.Atoi(words[1])
		if err != nil || (words[0] == "source" && len(words) < 4) {
			break // the last line may be cut short
		}
		if words[0] == "account" {
			last = n
			continue
		}
		at, err := strconv.ParseInt(words[3], 10, 64)
		require.NoError(t, err)
		list = append(list, source{n, time.Unix(0, at)})
	}
	require.Error(t, child.Wait(), "it was killed")
	require.False(t, killed.IsZero(), "the child has ended by itself")
	for _, s := range list {
		if killed.Sub(s.at) > time.Second {
			saved[fmt.Sprint(s.n%500)] = s.n
		}
	}
	return last
}
