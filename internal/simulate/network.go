package simulate

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
)

// Network is a RoundTripper over several hosts, each a handler reached
// through [Transport]. The zero value is a network without hosts. It is safe
// for concurrent use.
type Network struct {
	mu    sync.RWMutex
	hosts map[string]map[string]http.Handler // by name, then port
}

// Handle makes h the server at host, which is a name ("sms.8x8.com"), served
// on the ports of http and https, or a name and a port ("localhost:8080"). It
// replaces an earlier one; a nil h takes it away.
func (n *Network) Handle(host string, h http.Handler) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = strings.Trim(host, "[]"), ""
	}
	name = strings.ToLower(name)
	ports := []string{port}
	if port == "" {
		ports = []string{"80", "443"}
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = map[string]map[string]http.Handler{}
	}
	if n.hosts[name] == nil {
		n.hosts[name] = map[string]http.Handler{}
	}
	for _, p := range ports {
		if h == nil {
			delete(n.hosts[name], p)
		} else {
			n.hosts[name][p] = h
		}
	}
	if len(n.hosts[name]) == 0 {
		delete(n.hosts, name)
	}
}

// RoundTrip implements [http.RoundTripper]. A name nobody has is a
// [net.DNSError]; a known name with nothing on the port is
// [syscall.ECONNREFUSED].
func (n *Network) RoundTrip(req *http.Request) (*http.Response, error) {
	h, err := n.dial(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	return Transport(h).RoundTrip(req)
}

func (n *Network) dial(req *http.Request) (http.Handler, error) {
	name, port := strings.ToLower(req.URL.Hostname()), req.URL.Port()
	switch req.URL.Scheme {
	case "http":
		if port == "" {
			port = "80"
		}
	case "https":
		if port == "" {
			port = "443"
		}
	default:
		return nil, fmt.Errorf("unsupported protocol scheme %q", req.URL.Scheme)
	}

	n.mu.RLock()
	defer n.mu.RUnlock()
	ports, ok := n.hosts[name]
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{
			Err: "no such host", Name: name, IsNotFound: true,
		}}
	}
	h, ok := ports[port]
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	return h, nil
}
