// Package servertest starts real servers for tests, and finds ports for them.
package servertest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
)

// taken keeps the sockets that reserve ports open until the process ends.
var taken struct {
	sync.Mutex
	sockets []net.PacketConn
}

// Address returns 127.0.0.1:PORT, on which no process listens, for a server that cannot
// listen on port 0. PORT is outside of the range from which the system takes ports for
// outgoing connections and for port 0. Each call in this and in all other processes
// returns another PORT while they run.
func Address(tb testing.TB) string {
	tb.Helper()
	last := lastPort()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(last-firstPort+1)))
		if reserve(tb, address) {
			return address
		}
	}
	tb.Fatalf("none of 1000 ports from %d to %d is free", firstPort, last)
	return ""
}

// reserve reports whether it took address for this process. The reservation is a UDP
// socket on the same port: the servers use only TCP, and the system closes it when the
// process ends, however it ends.
func reserve(tb testing.TB, address string) bool {
	reservation, err := (&net.ListenConfig{}).ListenPacket(tb.Context(), "udp", address)
	if err != nil {
		return false
	}
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", address)
	if err != nil {
		_ = reservation.Close()
		return false
	}
	_ = listener.Close()
	taken.Lock()
	defer taken.Unlock()
	taken.sockets = append(taken.sockets, reservation)
	return true
}

// firstPort is the first port that Address may return.
const firstPort = 20000

// lastPort returns the last one. Linux takes ports from 32768 by default, other systems
// from 49152.
func lastPort() int {
	const last = 32767
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return last
	}
	var low int
	if _, err := fmt.Sscan(string(text), &low); err == nil && low > firstPort+1000 {
		return min(last, low-1)
	}
	return last
}
