package simulate

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Fault is middleware that makes a server misbehave. Faults can be nested:
// Delay(time.Second)(HTML(502)(h)) is slow and then wrong.
type Fault func(http.Handler) http.Handler

// answering returns a fault that does not ask the wrapped handler.
func answering(h http.HandlerFunc) Fault {
	return func(http.Handler) http.Handler { return h }
}

// Status answers every request with the given status, content type and body.
// The headers, which may be nil, are set first; an empty contentType leaves
// theirs.
func Status(code int, contentType, body string, headers http.Header) Fault {
	return answering(func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), headers)
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	})
}

// Body answers 200 and application/json with the given text, which need not
// be JSON.
func Body(body string) Fault {
	return Status(http.StatusOK, "application/json", body, nil)
}

// HTML answers with a page, as a proxy in front of the server would.
func HTML(code int) Fault {
	text := fmt.Sprintf("%d %s", code, http.StatusText(code))
	return Status(code, "text/html; charset=utf-8",
		"<html>\r\n<head><title>"+text+"</title></head>\r\n<body><center><h1>"+text+
			"</h1></center></body>\r\n</html>\r\n", nil)
}

// Redirect answers with a redirection to location.
func Redirect(code int, location string) Fault {
	return Status(code, "", "", http.Header{"Location": {location}})
}

// Hang answers nothing until the request's context ends.
func Hang() Fault {
	return answering(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		abort(r, false)
	})
}

// Delay waits for d, or until the request's context ends, before the wrapped
// handler is asked.
func Delay(d time.Duration) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if pause(r.Context(), d) != nil {
				abort(r, false)
			}
			next.ServeHTTP(w, r)
		})
	}
}

func pause(ctx context.Context, d time.Duration) error {
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
					if err := pause(r.Context(), every); err != nil {
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
	return cutting(n, true)
}

// ResetAfter resets the connection after n bytes of the body: the client gets
// [syscall.ECONNRESET]. With n 0 nothing is sent, not even the header. A body
// shorter than n stays whole.
func ResetAfter(n int) Fault {
	if n > 0 {
		return cutting(n, false)
	}
	return answering(func(_ http.ResponseWriter, r *http.Request) { abort(r, false) })
}

func cutting(n int, closed bool) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			left := n
			next.ServeHTTP(&bodyWriter{ResponseWriter: w, write: func(p []byte) (int, error) {
				sent, err := w.Write(p[:min(left, len(p))])
				left -= sent
				if err == nil && left == 0 {
					flush(w)
					abort(r, closed)
				}
				return sent, err
			}}, r)
		})
	}
}

// WrongContentLength declares a length that is not the body's. A shorter body
// then ends with [io.ErrUnexpectedEOF]; a longer one is cut off.
func WrongContentLength(declared int64) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			declaring := &bodyWriter{ResponseWriter: w, beforeHeader: func() {
				w.Header().Set("Content-Length", strconv.FormatInt(declared, 10))
			}}
			next.ServeHTTP(declaring, r)
			declaring.header() // for a handler that wrote nothing
		})
	}
}

// GzipBomb answers with a gzip body that inflates to size bytes, about a
// thousand times what is sent: a JSON array of nothing but white space. It
// does so whatever the client accepts. The body is made while it is sent.
func GzipBomb(size int64) Fault {
	return answering(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		if writeFilled(z, "[", " ", "]", size) == nil {
			_ = z.Close()
		}
	})
}

// DeepJSON answers with JSON arrays nested to the given depth.
func DeepJSON(depth int) Fault {
	return answering(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if writeFilled(w, "", "[", "", int64(depth)) == nil {
			_ = writeFilled(w, "", "]", "", int64(depth))
		}
	})
}

// Huge answers with valid JSON of n bytes (at least 12), made while it is
// sent: an object with one long array.
func Huge(n int64) Fault {
	return answering(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		opening := `{"data":[0`
		if n%2 != 0 {
			opening = `{"data": [0` // the filling has two bytes
		}
		_ = writeFilled(w, opening, ",0", "]}", n)
	})
}

// writeFilled writes size bytes: opening, as many fillings as fit, closing.
func writeFilled(w io.Writer, opening, filling, closing string, size int64) error {
	if _, err := io.WriteString(w, opening); err != nil {
		return err
	}
	const blockLen = 32 << 10
	block := strings.Repeat(filling, blockLen/len(filling))
	left := size - int64(len(opening)+len(closing))
	left -= left % int64(len(filling))
	for left > 0 {
		n, err := io.WriteString(w, block[:min(left, int64(len(block)))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	_, err := io.WriteString(w, closing)
	return err
}

// bodyWriter lets a fault step in before the header and in place of a write.
type bodyWriter struct {
	http.ResponseWriter
	beforeHeader func() // nil: nothing
	write        func([]byte) (int, error)
	wroteHeader  bool
}

// WriteHeader implements [http.ResponseWriter].
func (w *bodyWriter) WriteHeader(status int) {
	w.header()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [io.Writer].
func (w *bodyWriter) Write(p []byte) (int, error) {
	w.header()
	if w.write == nil {
		return w.ResponseWriter.Write(p)
	}
	return w.write(p)
}

// Flush implements [http.Flusher].
func (w *bodyWriter) Flush() {
	w.header()
	flush(w.ResponseWriter)
}

func (w *bodyWriter) header() {
	if !w.wroteHeader && w.beforeHeader != nil {
		w.beforeHeader()
	}
	w.wroteHeader = true
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
