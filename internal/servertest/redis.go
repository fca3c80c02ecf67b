package servertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// requireRedis makes a test fail without Redis instead of skipping it; CI sets it.
const requireRedis = "BALANCE_EXPORTER_REQUIRE_REDIS"

// Redis is a real redis-server or redis-sentinel. Kill and Start are not for concurrent
// use.
type Redis struct {
	// Address is 127.0.0.1:PORT, the same for each Start.
	Address string

	path    string
	args    []string
	process *os.Process
	ended   chan struct{}
}

// StartRedis starts a redis-server that stores nothing on disk, with further arguments.
// It skips the test if the program is not installed.
func StartRedis(tb testing.TB, args ...string) *Redis {
	tb.Helper()
	return startRedis(tb, "redis-server", append([]string{"--save", "", "--dir", tb.TempDir()}, args...), func() string { return Address(tb) })
}

// StartSentinel starts a redis-sentinel with a configuration, which it rewrites. It skips
// the test if the program is not installed.
func StartSentinel(tb testing.TB, configFile string) *Redis {
	tb.Helper()
	return startRedis(tb, "redis-sentinel", []string{configFile}, func() string { return Address(tb) })
}

// startRedis tries other addresses while another process has the port.
func startRedis(tb testing.TB, program string, args []string, address func() string) *Redis {
	tb.Helper()
	path, err := exec.LookPath(program)
	if err != nil && os.Getenv(requireRedis) == "" {
		tb.Skipf("%s is not installed", program)
	}
	require.NoError(tb, err, "%s is set", requireRedis)
	r := &Redis{path: path, args: args}
	for range 5 {
		r.Address = address()
		if err = r.start(tb); !errors.Is(err, errPortInUse) {
			break
		}
	}
	require.NoError(tb, err)
	return r
}

// Start starts the server again after Kill, and waits until it listens.
func (r *Redis) Start(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, r.start(tb))
}

var errPortInUse = errors.New("another process has the port")

// start waits for the line that this server logs when it listens: an answer on the port
// can be that of another server.
func (r *Redis) start(tb testing.TB) error {
	host, port, err := net.SplitHostPort(r.Address)
	if err != nil {
		return err
	}
	// Not with the test's context: that ends before the functions of tb.Cleanup run.
	cmd := exec.CommandContext(context.Background(), r.path, append(r.args[:len(r.args):len(r.args)], "--bind", host, "--port", port)...)
	log := &redisLog{listens: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	r.process, r.ended = cmd.Process, ended
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	select {
	case <-log.listens:
		return nil
	case <-ended:
	case <-time.After(time.Minute):
		r.Kill()
	}
	if strings.Contains(log.String(), "Address already in use") {
		return errPortInUse
	}
	return fmt.Errorf("%s does not listen: %s", r.path, log)
}

// Kill is SIGKILL.
func (r *Redis) Kill() {
	_ = r.process.Kill()
	<-r.ended
}

// Signal sends a signal to the server, for example SIGSTOP.
func (r *Redis) Signal(tb testing.TB, s os.Signal) {
	tb.Helper()
	require.NoError(tb, r.process.Signal(s))
}

// redisLog is what a server logs.
type redisLog struct {
	mu      sync.Mutex
	text    bytes.Buffer
	listens chan struct{}
	closed  bool
}

// Write implements [io.Writer].
func (l *redisLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if text := l.text.Bytes(); !l.closed && (bytes.Contains(text, []byte("Ready to accept connections")) || bytes.Contains(text, []byte("Sentinel ID is"))) {
		close(l.listens)
		l.closed = true
	}
	return len(p), nil
}

// String returns what was logged.
func (l *redisLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
