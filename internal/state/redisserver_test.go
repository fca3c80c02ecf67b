package state_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/state"
)

// requireRedis makes a test fail without a server instead of skipping; CI sets it.
const requireRedis = "BALANCE_EXPORTER_REQUIRE_REDIS"

// redisProgram returns the path of a program of Redis, and skips the test without it.
func redisProgram(t testing.TB, name string) string {
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv(requireRedis) == "" {
		t.Skipf("%s is not installed", name)
	}
	require.NoError(t, err, "%s is set", requireRedis)
	return path
}

// redisServer is a real server on a free port.
type redisServer struct {
	*redis.Client
	address string
	args    []string
	cmd     *exec.Cmd
}

// startRedis starts a server that stores nothing on disk.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &redisServer{address: listener.Addr().String()}
	require.NoError(t, listener.Close())
	_, port, err := net.SplitHostPort(s.address)
	require.NoError(t, err)
	s.args = append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir(), "--enable-debug-command", "yes"}, args...)
	s.Client = redis.NewClient(&redis.Options{Addr: s.address, DisableIdentity: true})
	t.Cleanup(func() { _ = s.Close() })
	s.start(t)
	return s
}

// start starts the server and waits until it answers.
func (s *redisServer) start(t testing.TB) {
	t.Helper()
	// Not with the test's context: that ends before the functions of t.Cleanup run.
	s.cmd = exec.CommandContext(context.Background(), redisProgram(t, "redis-server"), s.args...)
	require.NoError(t, s.cmd.Start())
	cmd := s.cmd
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		err := s.Ping(context.Background()).Err()
		return err == nil || redis.HasErrorPrefix(err, "NOAUTH")
	}, 20*time.Second, 5*time.Millisecond)
}

// kill is SIGKILL.
func (s *redisServer) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// open opens a store on the server.
func (s *redisServer) open(t testing.TB, opts state.Options) state.Store {
	t.Helper()
	return openURL(t, "redis://"+s.address, opts)
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
