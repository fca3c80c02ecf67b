package state_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
)

func TestMemory(t *testing.T) {
	statetest.Run(t, statetest.Handles{QuotaOnly: true, Open: func(t *testing.T) state.Store {
		s, err := state.Open("memory:", state.Options{Logger: log.NewNopLogger()})
		require.NoError(t, err)
		return s
	}})
}

// TestDurable checks the store that the tests of other packages restart on.
func TestDurable(t *testing.T) {
	statetest.Run(t, statetest.Handles{
		Open:  func(*testing.T) state.Store { return statetest.NewDurable() },
		Other: func(_ *testing.T, s state.Store) state.Store { return s },
	})
}

func TestSQLite(t *testing.T) {
	paths := make(map[state.Store]string)
	open := func(t *testing.T, path string) state.Store {
		s, err := state.Open("sqlite:"+path, state.Options{Logger: log.NewNopLogger()})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		paths[s] = path
		return s
	}
	statetest.Run(t, statetest.Handles{
		Open: func(t *testing.T) state.Store { return open(t, filepath.Join(t.TempDir(), "state.db")) },
		Other: func(t *testing.T, s state.Store) state.Store {
			require.NoError(t, s.Close())
			damaged, err := filepath.Glob(paths[s] + "*.damaged-*")
			require.NoError(t, err)
			require.Empty(t, damaged)
			return open(t, paths[s])
		},
	})
}

// What is polled one after the other is near one another in the file, so that few pages
// are written and what is loaded has the order of the cache.
func TestSQLiteLoadsInTheOrderOfPolling(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := open(t, path)
		var want []string
		for i := range 2500 {
			want = append(want, fmt.Sprint("k", i*7919%2500))
			statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{want[i]: statetest.Balance(1)})
		}
		for _, key := range []string{"k5", "k0"} {
			statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{key: statetest.Balance(2)})
		}
		var got []string
		require.NoError(t, s.Load(t.Context(), "a", nil, func(key string, _ *snapshot.Snapshot, _ uint64) { got = append(got, key) }))
		require.Equal(t, want, got)
		require.NoError(t, s.Close())
	})
}

// Snapshots that are published at about the same time share a transaction: each would
// write at least a page of 4096 bytes.
func TestSQLitePublishesTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := open(t, path)
		before, err := os.Stat(path + "-wal")
		require.NoError(t, err)
		var publishing sync.WaitGroup
		for i := range 100 {
			publishing.Go(func() {
				time.Sleep(time.Duration(i+1) * 20 * time.Microsecond)
				statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{fmt.Sprint("k", i): statetest.Balance(1)})
			})
		}
		publishing.Wait()
		after, err := os.Stat(path + "-wal")
		require.NoError(t, err)
		require.Less(t, after.Size()-before.Size(), int64(20*4096))
		require.Len(t, statetest.Snapshots(t, s, "a"), 100)
		require.NoError(t, s.Close())
	})
}

func TestRedis(t *testing.T) {
	server := startRedis(t)
	accounts := 0 // each store has a prefix of its own
	prefixes := make(map[state.Store]string)
	open := func(t *testing.T, prefix string) state.Store {
		s := server.open(t, state.Options{Prefix: prefix})
		prefixes[s] = prefix
		return s
	}
	statetest.Run(t, statetest.Handles{
		Unknown: quota.Lost(quota.Account{}),
		Open: func(t *testing.T) state.Store {
			accounts++
			return open(t, fmt.Sprint("p", accounts, ":"))
		},
		Other: func(t *testing.T, s state.Store) state.Store { return open(t, prefixes[s]) },
	})
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	const noPort = "expected HOST:PORT with a port from 1 to 65535, such as localhost:6379 or [::1]:6379"
	forms := state.Forms
	const advice = ": give a path in an existing directory, with permission to write the file and the directory"
	for name, tt := range map[string]struct{ url, err string }{
		"memory":                     {"memory:", ""},
		"sqlite":                     {"sqlite:" + filepath.Join(dir, "state.db"), ""},
		"sqlite with a strange name": {"sqlite:" + filepath.Join(dir, "a?b=c#d%20e é.db"), ""},
		"nothing":                    {"", `unknown scheme "", expected ` + forms},
		"no colon":                   {"memory", `expected memory:, without a path`},
		"memory with a path":         {"memory:x", `expected memory:, without a path`},
		"sqlite without a path":      {"sqlite:", `expected sqlite:PATH with the path of a file`},
		"unknown scheme":             {"postgres://user:secret@host", `unknown scheme "postgres", expected ` + forms},
		"password":                   {"redis://user:secret@host:6379", `a password in the URL is visible in the process list; remove it and give --state.password-file`},
		"password without a user":    {"rediss://:secret@host:6379/1", `a password in the URL is visible in the process list; remove it and give --state.password-file`},
		"password with an at":        {"redis-sentinel://:s@cret@host:26379/m", `a password in the URL is visible in the process list; remove it and give --state.password-file`},
		"redis without slashes":      {"redis:host:6379", `malformed URL, expected ` + forms},
		"redis with options":         {"redis://host:6379?password=secret", `malformed URL, expected ` + forms},
		"redis without a port":       {"redis://host", noPort},
		"redis with port 0":          {"redis://host:0", noPort},
		"redis without a host":       {"redis://:6379", noPort},
		"bad user":                   {"redis://%zz@host:6379", `the user has a bad %-encoding`},
		"bad database":               {"redis://host:6379/-1", `the database is not a number, expected one such as /0 at the end`},
		"long path":                  {"redis://host:6379/0/1", `malformed path, expected ` + forms},
		"two servers":                {"redis://a:1,b:2", `more than one address needs Sentinel, expected ` + forms},
		"no master":                  {"redis-sentinel://a:1,b:2", `the name of the master is missing, expected ` + forms},
		"bad sentinel":               {"redis-sentinel://a:1,b/m", noPort},
		"directory is missing":       {"sqlite:" + dir + "/none/state.db", "state file " + dir + "/none/state.db: open " + dir + "/none/state.db: no such file or directory" + advice},
		"directory is a file":        {"sqlite:" + os.Args[0] + "/state.db", "state file " + os.Args[0] + "/state.db: open " + os.Args[0] + "/state.db: not a directory" + advice},
		"path is a directory":        {"sqlite:" + dir, "state file " + dir + ": not a regular file" + advice},
		"name is too long":           {"sqlite:" + dir + "/" + strings.Repeat("x", 256), "state file " + dir + "/" + strings.Repeat("x", 256) + ": open " + dir + "/" + strings.Repeat("x", 256) + ": file name too long" + advice},
	} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			s, err := state.Open(tt.url, state.Options{Logger: log.NewLogfmtLogger(&logged)})
			require.Empty(t, logged.String())
			if tt.err != "" {
				require.EqualError(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.NoError(t, s.Close())
			if path, ok := strings.CutPrefix(tt.url, "sqlite:"); ok {
				require.FileExists(t, path)
				require.FileExists(t, path+".quota")
			}
		})
	}
}
