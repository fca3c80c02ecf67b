package state_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-kit/log"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/servertest"
	"github.com/balance-exporter/balance_exporter/internal/state"
)

// redisServer is a real server, with a client.
type redisServer struct {
	*servertest.Redis
	*redis.Client
}

// startRedis starts a server that stores nothing on disk.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	server := servertest.StartRedis(t, append([]string{"--enable-debug-command", "yes"}, args...)...)
	client := redis.NewClient(&redis.Options{Addr: server.Address, DisableIdentity: true})
	t.Cleanup(func() { _ = client.Close() })
	return &redisServer{server, client}
}

// open opens a store on the server.
func (s *redisServer) open(t testing.TB, opts state.Options) state.Store {
	t.Helper()
	return openURL(t, "redis://"+s.Address, opts)
}

func openURL(t testing.TB, url string, opts state.Options) state.Store {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = log.NewNopLogger()
	}
	if opts.Prefix == "" {
		opts.Prefix = "balance_exporter:"
	}
	store, err := state.Open(url, opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// writeSecret writes a secret to a file.
func writeSecret(t testing.TB, text string) string {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}
