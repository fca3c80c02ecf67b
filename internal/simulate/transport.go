package simulate

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
)

// Transport returns a RoundTripper that answers every request from h, in the
// process.
//
// It behaves as a connection of [http.Transport] to a server would:
//
//   - h runs in its own goroutine. RoundTrip returns at h's first Write,
//     WriteHeader or Flush, and the body streams from there on without a
//     buffer.
//   - When the request's context ends or the response body is closed, the
//     context h sees ends and its writes fail. The client gets the context's
//     error from RoundTrip, or from reading the body.
//   - A body shorter than its Content-Length ends with
//     [io.ErrUnexpectedEOF], and h cannot write more than it declared.
//   - panic([http.ErrAbortHandler]) resets the connection: an error that is
//     [syscall.ECONNRESET]. Any other panic is the error, with its stack, so
//     that a faulty handler shows in the test's output.
//   - A gzip answer to a request without Accept-Encoding is decompressed.
//
// Unlike [http.Transport] it never sends a request a second time.
func Transport(h http.Handler) http.RoundTripper {
	return transport{handler: h}
}

type transport struct{ handler http.Handler }

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	reqCtx := req.Context()
	if reqCtx.Err() != nil {
		closeBody(req)
		return nil, context.Cause(reqCtx)
	}

	conn := &connection{}
	ctx, cancel := context.WithCancel(context.WithValue(reqCtx, connectionKey{}, conn))
	pr, pw := io.Pipe()
	stop := context.AfterFunc(reqCtx, func() { pw.CloseWithError(context.Cause(reqCtx)) })

	served, wantsGzip := serverRequest(ctx, req)
	w := &responseWriter{
		req:    served,
		header: http.Header{},
		length: -1,
		answer: make(chan answer, 1),
		pipe:   pw,
	}
	go func() {
		defer cancel()
		defer stop()
		defer closeBody(req)
		err := conn.serve(t.handler, w, served)
		if err == nil {
			// A handler that ends because the client has gone has not ended the
			// body in good order.
			err = context.Cause(reqCtx)
		}
		w.finish(err)
	}()

	select {
	case <-reqCtx.Done():
		return nil, context.Cause(reqCtx)
	case a := <-w.answer:
		if a.err != nil {
			return nil, a.err
		}
		resp := a.resp
		resp.Request = req
		resp.TLS = served.TLS
		resp.Body = &responseBody{PipeReader: pr, cancel: cancel}
		if wantsGzip && resp.Header.Get("Content-Encoding") == "gzip" {
			resp.Header.Del("Content-Encoding")
			resp.Header.Del("Content-Length")
			resp.ContentLength = -1
			resp.Uncompressed = true
			resp.Body = &gzipBody{compressed: resp.Body}
		}
		return resp, nil
	}
}

// serverRequest returns req as a server sees it, and whether the transport
// asked for gzip on its own account.
func serverRequest(ctx context.Context, req *http.Request) (served *http.Request, wantsGzip bool) {
	served = req.Clone(ctx)
	if served.Header == nil {
		served.Header = http.Header{}
	}
	if req.URL.Scheme == "https" {
		served.TLS = &tls.ConnectionState{
			Version:           tls.VersionTLS13,
			HandshakeComplete: true,
			ServerName:        req.URL.Hostname(),
		}
	}
	if served.Host == "" {
		served.Host = req.URL.Host
	}
	served.RequestURI = req.URL.RequestURI()
	served.URL.Scheme, served.URL.Host, served.URL.User = "", "", nil
	served.URL.Fragment, served.URL.RawFragment = "", ""
	served.RemoteAddr = "192.0.2.1:49152"
	served.Proto, served.ProtoMajor, served.ProtoMinor = "HTTP/1.1", 1, 1
	served.GetBody = nil
	served.Body = http.NoBody
	if req.Body != nil {
		served.Body = requestBody{ctx: ctx, ReadCloser: req.Body}
	}
	if _, set := served.Header["User-Agent"]; !set {
		served.Header.Set("User-Agent", "Go-http-client/1.1")
	} else if served.Header.Get("User-Agent") == "" {
		served.Header.Del("User-Agent")
	}
	if req.ContentLength > 0 {
		served.Header.Set("Content-Length", strconv.FormatInt(req.ContentLength, 10))
	}
	// The conditions are those of http.Transport.
	wantsGzip = served.Header.Get("Accept-Encoding") == "" &&
		served.Header.Get("Range") == "" && req.Method != http.MethodHead
	if wantsGzip {
		served.Header.Set("Accept-Encoding", "gzip")
	}
	return served, wantsGzip
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// requestBody fails once the client has gone, like a body read from a socket.
type requestBody struct {
	ctx context.Context
	io.ReadCloser
}

func (b requestBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.ReadCloser.Read(p)
}

// connection lets a fault, however deeply wrapped, tell the transport how the
// connection ended. It travels in the request's context.
type connection struct {
	closed bool
}

type connectionKey struct{}

// abort ends the handler of r and its connection: with a reset, or, if closed
// is set, as if the server had closed the connection in good order too early.
// A real server knows only one kind.
func abort(r *http.Request, closed bool) {
	if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		c.closed = closed
	}
	panic(http.ErrAbortHandler)
}

// serve runs h and returns how the connection ended: nil if in good order.
func (c *connection) serve(h http.Handler, w http.ResponseWriter, r *http.Request) (err error) {
	returned := false
	defer func() {
		v := recover()
		switch {
		case returned:
		case v != nil && v != http.ErrAbortHandler: //nolint:errorlint // net/http compares the same way
			err = fmt.Errorf("simulate: handler panicked: %v\n%s", v, debug.Stack())
		case c.closed:
			err = io.ErrUnexpectedEOF
		default:
			// Also for runtime.Goexit, which is how t.FailNow leaves.
			err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
		}
	}()
	h.ServeHTTP(w, r)
	returned = true
	return nil
}

// answer is what RoundTrip waits for.
type answer struct {
	resp *http.Response
	err  error
}

// responseWriter is the handler's side of an exchange.
type responseWriter struct {
	req     *http.Request
	header  http.Header
	status  int   // 0 before the header is sent
	length  int64 // as declared, -1 if not
	written int64
	answer  chan answer // holds one, so that sending never blocks
	pipe    *io.PipeWriter
}

// Header implements [http.ResponseWriter].
func (w *responseWriter) Header() http.Header { return w.header }

// WriteHeader implements [http.ResponseWriter]. Informational answers are
// dropped, as clients do.
func (w *responseWriter) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	}
	if w.status != 0 || status < 200 {
		return
	}
	w.status = status
	header := w.header.Clone()
	if header.Get("Date") == "" {
		header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	if n, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		w.length = n
	} else {
		header.Del("Content-Length")
	}
	w.answer <- answer{resp: &http.Response{
		Status:        fmt.Sprintf("%d %s", status, http.StatusText(status)),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		ContentLength: w.length,
	}}
}

// Write implements [io.Writer]. It returns when the client has read p.
func (w *responseWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		if _, set := w.header["Content-Type"]; !set && len(p) > 0 {
			w.header.Set("Content-Type", http.DetectContentType(p))
		}
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case len(p) == 0:
		return 0, nil // the pipe would wait for a reader
	case w.status == http.StatusNoContent || w.status == http.StatusNotModified:
		return 0, http.ErrBodyNotAllowed
	case w.req.Method == http.MethodHead:
		return len(p), nil
	}
	var tooLong error
	if w.length >= 0 && w.written+int64(len(p)) > w.length {
		p = p[:w.length-w.written]
		tooLong = http.ErrContentLength
	}
	n := 0
	if len(p) > 0 {
		var err error
		if n, err = w.pipe.Write(p); err != nil {
			return n, err
		}
	}
	w.written += int64(n)
	return n, tooLong
}

// Flush implements [http.Flusher].
func (w *responseWriter) Flush() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
}

// finish ends the exchange after the handler, err being how the connection
// ended.
func (w *responseWriter) finish(err error) {
	if err != nil {
		if w.status == 0 {
			w.answer <- answer{err: err}
		}
		w.pipe.CloseWithError(err)
		return
	}
	w.Flush()
	if w.req.Method != http.MethodHead && w.written < w.length {
		w.pipe.CloseWithError(io.ErrUnexpectedEOF)
		return
	}
	_ = w.pipe.Close()
}

// responseBody is the client's side of an exchange.
type responseBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close implements [io.Closer]; the handler sees the client go.
func (b *responseBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}

// gzipBody decompresses. It starts at the first Read, because the header of
// the stream may be late.
type gzipBody struct {
	compressed io.ReadCloser
	plain      *gzip.Reader
	err        error
}

func (b *gzipBody) Read(p []byte) (int, error) {
	if b.plain == nil && b.err == nil {
		b.plain, b.err = gzip.NewReader(b.compressed)
		if errors.Is(b.err, io.EOF) {
			b.err = io.ErrUnexpectedEOF // no stream at all is not an empty body
		}
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.plain.Read(p)
}

func (b *gzipBody) Close() error { return b.compressed.Close() }
