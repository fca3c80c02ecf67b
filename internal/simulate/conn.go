package simulate

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// connBuffer is how many bytes are on their way in one direction before a write
// blocks, as in the buffers of a socket.
const connBuffer = 64 << 10

// conn is one end of a connection in memory. It behaves like a [net.TCPConn].
// [net.Pipe] does not: its writes wait for the reader, and a server that writes
// an answer while the client writes a request would stop both.
type conn struct {
	in, out       *half
	local, remote address

	stop  func() bool // called by Close; nil for nothing
	reset atomic.Bool // by Close
}

// connect returns the two ends of a new connection.
func connect(clientAddr, serverAddr address) (client, server *conn) {
	up, down := newHalf(), newHalf()
	return &conn{in: down, out: up, local: clientAddr, remote: serverAddr},
		&conn{in: up, out: down, local: serverAddr, remote: clientAddr}
}

// Read implements [net.Conn].
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.wrap("read", err)
}

// Write implements [net.Conn].
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.wrap("write", err)
}

func (c *conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // half returns io.EOF unwrapped
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Close implements [net.Conn]. The other end can read what was written before. This end
// stops reading first: the other end must not be able to answer the close.
func (c *conn) Close() error {
	if c.stop != nil {
		c.stop()
	}
	if c.reset.Load() {
		c.in.end(net.ErrClosed, os.NewSyscallError("write", syscall.ECONNRESET))
		c.out.end(os.NewSyscallError("read", syscall.ECONNRESET), net.ErrClosed)
	} else {
		c.in.end(net.ErrClosed, os.NewSyscallError("write", syscall.EPIPE))
		c.out.end(io.EOF, net.ErrClosed)
	}
	return nil
}

// SetLinger makes Close reset the connection if sec is 0, like
// [net.TCPConn.SetLinger].
func (c *conn) SetLinger(sec int) error {
	c.reset.Store(sec == 0)
	return nil
}

// LocalAddr implements [net.Conn].
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements [net.Conn].
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements [net.Conn].
func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements [net.Conn].
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	return nil
}

// SetWriteDeadline implements [net.Conn].
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

// address is a host and port.
type address string

// Network implements [net.Addr].
func (address) Network() string { return "tcp" }

// String implements [net.Addr].
func (a address) String() string { return string(a) }

// half is one direction of a connection.
type half struct {
	mu              sync.Mutex
	changed         sync.Cond
	buf             bytes.Buffer
	readErr         error     // after the buffer is empty; nil while the writer is open
	writeErr        error     // nil while the reader is open
	readBy, writeBy time.Time // zero is no deadline
}

func newHalf() *half {
	h := &half{}
	h.changed.L = &h.mu
	return h
}

// read returns what has arrived, and waits until there is something.
func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if err := h.await(); err != nil {
		return 0, err
	}
	defer h.changed.Broadcast()
	return h.buf.Read(p)
}

// peek returns the first byte to read, without taking it.
func (h *half) peek() (byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.await(); err != nil {
		return 0, err
	}
	return h.buf.Bytes()[0], nil
}

// await returns nil when there is something to read.
func (h *half) await() error {
	for {
		switch {
		case past(h.readBy):
			return os.ErrDeadlineExceeded
		case h.buf.Len() > 0:
			return nil
		case h.readErr != nil:
			return h.readErr
		}
		h.changed.Wait()
	}
}

// write waits until all of p is in the buffer.
func (h *half) write(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.writeErr != nil:
			return n, h.writeErr
		case past(h.writeBy):
			return n, os.ErrDeadlineExceeded
		}
		m := min(len(p)-n, connBuffer-h.buf.Len())
		h.buf.Write(p[n : n+m])
		if n += m; m > 0 {
			h.changed.Broadcast()
		}
		if n == len(p) {
			return n, nil
		}
		h.changed.Wait()
	}
}

// end closes the direction. The errors of an earlier call stay. If the reader
// has closed, nothing is left to read.
func (h *half) end(readErr, writeErr error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if readErr == net.ErrClosed { //nolint:errorlint // as passed by Close
		h.buf.Reset()
	}
	if h.readErr == nil {
		h.readErr = readErr
	}
	if h.writeErr == nil {
		h.writeErr = writeErr
	}
	h.changed.Broadcast()
}

func (h *half) setDeadline(by *time.Time, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*by = t
	h.changed.Broadcast()
	if d := time.Until(t); d > 0 {
		time.AfterFunc(d, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.changed.Broadcast()
		})
	}
}

func past(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }
