package simulate

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
)

// tlsHandshake is the first byte of a TLS connection (RFC 8446, section 5.1).
const tlsHandshake = 22

// Network is a set of hosts, each a handler behind a real HTTP server, that
// clients reach through [Network.DialContext]. Every port speaks HTTP/1.1, in
// plain text and over TLS with a certificate of [CA]. The zero value is a
// network without hosts. It is safe for concurrent use.
type Network struct {
	mu     sync.Mutex
	hosts  map[string]http.Handler // by name and port
	names  map[string]int          // number of ports of each name
	server *http.Server            // nil before the first connection
	conns  chan net.Conn           // to be served
	ctx    context.Context         // ends with Close
	end    context.CancelFunc
}

// Handle makes h the server at host, which is a name ("sms.8x8.com"), served
// on the ports of http and https, or a name and a port ("localhost:8080"). It
// replaces an earlier one, also for connections that are open; nil removes it.
func (n *Network) Handle(host string, h http.Handler) {
	name, port, err := net.SplitHostPort(host)
	ports := []string{port}
	if err != nil {
		name, ports = strings.Trim(host, "[]"), []string{"80", "443"}
	}
	name = strings.ToLower(name)

	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts, n.names = map[string]http.Handler{}, map[string]int{}
	}
	for _, port := range ports {
		addr := net.JoinHostPort(name, port)
		if n.hosts[addr] != nil {
			delete(n.hosts, addr)
			n.names[name]--
		}
		if h != nil {
			n.hosts[addr] = h
			n.names[name]++
		}
	}
}

// DialContext connects to a host. An unknown name is a [net.DNSError]; a known
// name without the port, and any host after Close, is [syscall.ECONNREFUSED].
func (n *Network) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	addr = strings.ToLower(addr)
	name, _, err := net.SplitHostPort(addr)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: address(addr), Err: err}
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	n.start()
	switch {
	case n.names[name] == 0:
		err = &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case n.hosts[addr] == nil || n.ctx.Err() != nil:
		err = os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: address(addr), Err: err}
	}
	client, server := connect("192.0.2.1:49152", address(addr))
	server.stop = context.AfterFunc(n.ctx, func() { _ = server.Close() })
	go n.accept(server, name)
	return client, nil
}

// start starts the one server of all hosts; n is locked.
func (n *Network) start() {
	if n.server != nil {
		return
	}
	n.ctx, n.end = context.WithCancel(context.Background())
	n.conns = make(chan net.Conn)
	n.server = &http.Server{ //nolint:gosec // no ReadHeaderTimeout: the only client is this process
		Handler:      http.HandlerFunc(n.serve),
		BaseContext:  func(net.Listener) context.Context { return n.ctx },
		ErrorLog:     log.New(io.Discard, "", 0),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // no HTTP/2
	}
	go func() { _ = n.server.Serve(listener{n}) }()
}

// accept hands a connection to the server as soon as it is known from its first
// byte whether it begins with a TLS handshake.
func (n *Network) accept(c *conn, name string) {
	first, err := c.in.peek()
	if err != nil {
		_ = c.Close()
		return
	}
	var served net.Conn = c
	if first == tlsHandshake {
		served = tls.Server(c, serverTLS(name))
	}
	select {
	case n.conns <- served:
	case <-n.ctx.Done():
	}
}

// serve passes a request to the handler of the host it was sent to. The body is
// read first: only then does a server notice that its client has gone.
func (n *Network) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))

	n.mu.Lock()
	h := n.hosts[r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()]
	n.mu.Unlock()
	if h == nil {
		panic(http.ErrAbortHandler)
	}
	defer func() {
		// A fault of a handler must not look like one of the provider.
		if v := recover(); v != nil && v != http.ErrAbortHandler { //nolint:errorlint // net/http compares the same way
			stack := debug.Stack()
			go panic(fmt.Sprintf("simulate: handler panicked: %v\n%s", v, stack))
		} else if v != nil {
			panic(v)
		}
	}()
	h.ServeHTTP(w, r)
}

// Close ends the server and every connection, hijacked ones too. The goroutines
// of the network and of its clients' connections end soon after.
func (n *Network) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.start()
	n.end()
	_ = n.server.Close()
}

// listener is the server's side of [Network.DialContext].
type listener struct{ n *Network }

// Accept implements [net.Listener].
func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.n.conns:
		return c, nil
	case <-l.n.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (listener) Close() error { return nil }

// Addr implements [net.Listener].
func (listener) Addr() net.Addr { return address("192.0.2.2:443") }
