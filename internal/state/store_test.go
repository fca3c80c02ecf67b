package state_test

import (
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
	statetest.Run(t, func(*testing.T) state.Store { return state.NewMemory() }, nil)
}

func TestBolt(t *testing.T) {
	paths := make(map[state.Store]string)
	openAt := func(t *testing.T, path string) state.Store {
		s, err := state.OpenBolt(path, log.NewNopLogger())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		paths[s] = path
		return s
	}
	statetest.Run(t,
		func(t *testing.T) state.Store {
			return openAt(t, filepath.Join(t.TempDir(), "state.db"))
		},
		func(t *testing.T, s state.Store) state.Store {
			require.NoError(t, s.Close())
			defer func() {
				aside, err := filepath.Glob(paths[s] + "*.damaged*")
				require.NoError(t, err)
				require.Empty(t, aside, "a good file must stay")
			}()
			return openAt(t, paths[s])
		})
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct{ url, err string }{
		"memory":               {"memory:", ""},
		"bolt":                 {"bolt:" + filepath.Join(dir, "state.db"), ""},
		"nothing":              {"", `state URL "": expected memory: or bolt:PATH`},
		"no colon":             {"memory", `state URL "memory": expected memory: or bolt:PATH`},
		"memory with a path":   {"memory:x", `state URL "memory:x": memory: takes no path`},
		"bolt without a path":  {"bolt:", `state URL "bolt:": expected bolt:PATH with the path of a file`},
		"unknown kind":         {"redis:x", `state URL "redis:x": unknown kind "redis", expected memory: or bolt:PATH`},
		"directory is missing": {"bolt:" + dir + "/none/state.db", "state file " + dir + "/none/state.db: the directory " + dir + "/none does not exist; create it, and let the exporter write in it"},
		"directory is a file":  {"bolt:" + os.Args[0] + "/state.db", "state file " + os.Args[0] + "/state.db: " + os.Args[0] + " is not a directory"},
		"path is a directory":  {"bolt:" + dir, "state file " + dir + ": not a regular file; give the path of a file"},
		"name is too long":     {"bolt:" + dir + "/" + strings.Repeat("x", 256), "state file: open " + dir + "/" + strings.Repeat("x", 256) + ": file name too long"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := state.Open(tt.url, log.NewNopLogger())
			if tt.err != "" {
				require.EqualError(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.NoError(t, s.Close())
		})
	}
}
