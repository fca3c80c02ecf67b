package servertest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// child makes the test binary another process that takes addresses.
const child = "BALANCE_EXPORTER_TAKE_ADDRESSES"

// addresses takes n addresses at the same time.
func addresses(t *testing.T, n int) []string {
	list := make([]string, n)
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() { list[i] = Address(t) })
	}
	work.Wait()
	return list
}

// Two processes that each take many of the same few thousand ports get no port twice.
func TestAddress(t *testing.T) {
	const n = 400
	if os.Getenv(child) != "" {
		for _, address := range addresses(t, n) {
			_, _ = fmt.Fprintln(os.Stderr, address)
		}
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent has compared them
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAddress$")
	cmd.Env = append(os.Environ(), child+"=1")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	all := addresses(t, n)
	for lines := bufio.NewScanner(stderr); len(all) < 2*n && lines.Scan(); {
		all = append(all, lines.Text())
	}
	require.NoError(t, stdin.Close())
	require.NoError(t, cmd.Wait())

	require.Len(t, all, 2*n)
	last := lastPort()
	for _, address := range all {
		host, port, err := net.SplitHostPort(address)
		require.NoError(t, err)
		number, err := strconv.Atoi(port)
		require.NoError(t, err)
		require.Equal(t, "127.0.0.1", host)
		require.GreaterOrEqual(t, number, firstPort)
		require.LessOrEqual(t, number, last)
	}
	slices.Sort(all)
	require.Len(t, slices.Compact(all), 2*n)
}

// Another server that answers on the port is not taken for Redis.
func TestRedisOnAPortInUse(t *testing.T) {
	other := httptest.NewServer(nil)
	defer other.Close()
	next := []string{other.Listener.Addr().String(), Address(t)}
	want := next[1]
	r := startRedis(t, "redis-server", []string{"--save", "", "--dir", t.TempDir()}, func() (address string) {
		address, next = next[0], next[1:]
		return address
	})
	require.Equal(t, want, r.Address)
	requirePong(t, r)
	r.Kill()
	_, err := net.Dial("tcp", r.Address)
	require.Error(t, err)
	r.Start(t)
	requirePong(t, r)
}

func requirePong(t *testing.T, r *Redis) {
	t.Helper()
	conn, err := net.Dial("tcp", r.Address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprint(conn, "PING\r\n")
	require.NoError(t, err)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "+PONG\r\n", answer)
}
