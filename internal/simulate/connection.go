package simulate

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Hang sends no answer until the client has gone.
func Hang() Fault {
	return answering(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
}

// Delay waits for d, or until the client has gone, before it calls the wrapped
// handler.
func Delay(d time.Duration) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if Sleep(r.Context(), d) != nil {
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Sleep waits for d, or until ctx ends; then it returns the context's error. For zero and
// less it starts no timer: two timers of a synctest bubble that are due when they start
// can crash the race detector (https://go.dev/issue/78156).
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// SlowDrip sends the body in pieces of chunk bytes (at least one), waiting
// before each of them.
func SlowDrip(every time.Duration, chunk int) Fault {
	chunk = max(chunk, 1)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&bodyWriter{ResponseWriter: w, write: func(p []byte) (n int, err error) {
				for n < len(p) {
					if err := Sleep(r.Context(), every); err != nil {
						return n, err
					}
					m, err := w.Write(p[n:min(n+chunk, len(p))])
					n += m
					if err != nil {
						return n, err
					}
					flush(w)
				}
				return n, nil
			}}, r)
		})
	}
}

// CloseEarly sends the header and n bytes of the body, and then closes the
// connection: the client reads [io.ErrUnexpectedEOF]. A body shorter than n
// stays whole.
func CloseEarly(n int) Fault {
	return cutting(n, func(http.ResponseWriter) {})
}

// ResetAfter resets the connection after n bytes of the body: the client gets
// [syscall.ECONNRESET]. With n 0 nothing is sent, not even the header. A body
// shorter than n stays whole.
func ResetAfter(n int) Fault {
	reset := func(w http.ResponseWriter) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			closeWithReset(c)
		}
	}
	if n > 0 {
		return cutting(n, reset)
	}
	return answering(func(w http.ResponseWriter, _ *http.Request) {
		reset(w)
		panic(http.ErrAbortHandler)
	})
}

// cutting ends the connection after n bytes of the body.
func cutting(n int, end func(http.ResponseWriter)) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			left := n
			next.ServeHTTP(&bodyWriter{ResponseWriter: w, write: func(p []byte) (int, error) {
				sent, err := w.Write(p[:min(left, len(p))])
				left -= sent
				if err == nil && left == 0 {
					flush(w)
					end(w)
					panic(http.ErrAbortHandler)
				}
				return sent, err
			}}, r)
		})
	}
}

// WrongContentLength declares a length that is not the body's, and closes the
// connection after the body. A shorter body then ends with
// [io.ErrUnexpectedEOF]; of a longer one the rest is no part of the answer.
func WrongContentLength(declared int) Fault {
	return kept(declared, func(net.Conn, *bufio.Reader) {})
}

// Raw sends text in place of an answer, status line included, and closes the
// connection.
func Raw(text string) Fault {
	return hijacked(func(c net.Conn, _ *bufio.Reader) { _, _ = io.WriteString(c, text) })
}

// SwitchProtocols answers 101 Switching Protocols, and then sends nothing until
// the client closes the connection.
func SwitchProtocols() Fault {
	return hijacked(func(c net.Conn, r *bufio.Reader) {
		_, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
		if err == nil {
			_, _ = io.Copy(io.Discard, r)
		}
	})
}

// EndlessHeader sends header lines until the client closes the connection.
func EndlessHeader() Fault {
	return hijacked(func(c net.Conn, _ *bufio.Reader) {
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		for line := "X-Filling: " + strings.Repeat("x", 1000) + "\r\n"; err == nil; {
			_, err = io.WriteString(c, line)
		}
	})
}

// IdleBytes sends the wrapped handler's answer, keeps the connection alive, and
// sends text on it after the given time, as if it answered a request that the
// client did not send.
func IdleBytes(after time.Duration, text string) Fault {
	return keptAlive(func(c net.Conn, r *bufio.Reader) {
		_ = c.SetReadDeadline(time.Now().Add(after))
		if _, err := r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			return // closed by the client, or not idle: the next request breaks it
		}
		_ = c.SetReadDeadline(time.Time{})
		if _, err := io.WriteString(c, text); err == nil {
			_, _ = io.Copy(io.Discard, r)
		}
	})
}

// BreakReused sends the wrapped handler's answer, keeps the connection alive,
// and breaks it when the next request arrives on it: by a reset, or by closing
// it.
func BreakReused(reset bool) Fault {
	return keptAlive(func(c net.Conn, r *bufio.Reader) {
		if _, err := r.ReadByte(); err == nil && reset {
			closeWithReset(c)
		}
	})
}

// keptAlive sends the wrapped handler's answer, and passes the idle connection to
// then.
func keptAlive(then func(net.Conn, *bufio.Reader)) Fault { return kept(-1, then) }

// kept is keptAlive with a declared length; -1 is that of the body.
func kept(declared int, then func(net.Conn, *bufio.Reader)) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			header := http.Header{}
			a := record(next, header, r)
			length := declared
			if declared < 0 {
				length = len(a.Body)
			}
			var text bytes.Buffer
			fmt.Fprintf(&text, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\n", a.Status, http.StatusText(a.Status), length)
			_ = header.Write(&text)
			text.WriteString("\r\n")
			text.Write(a.Body)
			hijacked(func(c net.Conn, r *bufio.Reader) {
				if _, err := text.WriteTo(c); err == nil {
					then(c, r)
				}
			})(nil).ServeHTTP(w, r)
		})
	}
}

// hijacked passes the connection to serve, and closes it afterwards.
func hijacked(serve func(net.Conn, *bufio.Reader)) Fault {
	return answering(func(w http.ResponseWriter, _ *http.Request) {
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err) // The writer of a test hides its connection: it lacks Unwrap.
		}
		defer func() { _ = c.Close() }()
		serve(c, buffered.Reader)
	})
}

// closeWithReset closes a connection so that the other end reads
// [syscall.ECONNRESET].
func closeWithReset(c net.Conn) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = t.NetConn()
	}
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = c.Close()
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }
