package state_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
)

func TestMemory(t *testing.T) {
	statetest.Run(t, statetest.Handles{Open: func(t *testing.T) state.Store {
		s, err := state.Open("memory:", state.Options{Logger: log.NewNopLogger()})
		require.NoError(t, err)
		return s
	}})
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

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	const advice = ": give a path in an existing directory, with permission to write the file and the directory"
	for name, tt := range map[string]struct{ url, err string }{
		"memory":                     {"memory:", ""},
		"sqlite":                     {"sqlite:" + filepath.Join(dir, "state.db"), ""},
		"sqlite with a strange name": {"sqlite:" + filepath.Join(dir, "a?b=c#d%20e é.db"), ""},
		"nothing":                    {"", `unknown scheme "", expected memory: or sqlite:PATH`},
		"no colon":                   {"memory", `expected memory:, without a path`},
		"memory with a path":         {"memory:x", `expected memory:, without a path`},
		"sqlite without a path":      {"sqlite:", `expected sqlite:PATH with the path of a file`},
		"unknown scheme":             {"redis://user:secret@host", `unknown scheme "redis", expected memory: or sqlite:PATH`},
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
