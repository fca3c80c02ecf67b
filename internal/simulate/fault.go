package simulate

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
)

// Fault is middleware that makes a server misbehave. Faults can be nested:
// Delay(time.Second)(HTML(502)(h)) is slow and then wrong. This file has the
// faults of answers, connection.go those of connections.
type Fault func(http.Handler) http.Handler

// answering returns a fault that does not call the wrapped handler.
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

// Gzip compresses every answer, whether the client accepts gzip or not.
func Gzip() Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			z := gzip.NewWriter(w)
			packing := &bodyWriter{ResponseWriter: w, write: z.Write, onHeader: func(int) {
				w.Header().Del("Content-Length")
				w.Header().Set("Content-Encoding", "gzip")
			}}
			next.ServeHTTP(packing, r)
			packing.WriteHeader(http.StatusOK) // for a handler that wrote nothing
			_ = z.Close()
		})
	}
}

// Rewrite answers with what change makes of the wrapped handler's answer, which
// has no Content-Length.
func Rewrite(change func(r *http.Request, a Answer) Answer) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			change(r, record(next, w.Header(), r)).Write(w)
		})
	}
}

// record returns the answer of h. All headers but those of the Answer end up in
// header.
func record(h http.Handler, header http.Header, r *http.Request) Answer {
	rec := &recording{header: header}
	h.ServeHTTP(rec, r)
	header.Del("Content-Length")
	return Answer{Status: rec.status, ContentType: header.Get("Content-Type"), Body: rec.body.Bytes()}
}

// recording is a response that is not sent.
type recording struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements [http.ResponseWriter].
func (r *recording) Header() http.Header { return r.header }

// WriteHeader implements [http.ResponseWriter].
func (r *recording) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// Write implements [http.ResponseWriter].
func (r *recording) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}

// GzipBomb answers with a gzip body that inflates to size bytes, about a
// thousand times what is sent: a JSON array of nothing but white space. The
// body is made while it is sent.
func GzipBomb(size int64) Fault {
	return answering(Gzip()(filled("[", " ", "]", size)).ServeHTTP)
}

// Huge answers with valid JSON of n bytes (at least 12), made while it is
// sent: an object with one long array. For an endless body use
// [math.MaxInt64].
func Huge(n int64) Fault {
	opening := `{"data":[0`
	if n%2 != 0 {
		opening = `{"data": [0` // the filling has two bytes
	}
	return answering(filled(opening, ",0", "]}", n))
}

// DeepJSON answers with JSON arrays nested to the given depth.
func DeepJSON(depth int) Fault {
	return answering(func(w http.ResponseWriter, r *http.Request) {
		filled("", "[", "", int64(depth))(w, r)
		filled("", "]", "", int64(depth))(w, r)
	})
}

// filled returns a handler that writes size bytes: opening, as many fillings as
// fit, closing.
func filled(opening, filling, closing string, size int64) http.HandlerFunc {
	const blockLen = 32 << 10
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, err := io.WriteString(w, opening)
		block := strings.Repeat(filling, blockLen/len(filling))
		left := size - int64(len(opening)+len(closing))
		left -= left % int64(len(filling))
		for left > 0 && err == nil {
			var n int
			n, err = io.WriteString(w, block[:min(left, int64(len(block)))])
			left -= int64(n)
		}
		if err == nil {
			_, _ = io.WriteString(w, closing)
		}
	}
}

// bodyWriter lets a fault act on the header and in place of a write.
type bodyWriter struct {
	http.ResponseWriter
	onHeader func(status int)            // nil: nothing
	write    func(p []byte) (int, error) // nil: as it is
	wrote    bool                        // the header
}

// WriteHeader implements [http.ResponseWriter].
func (w *bodyWriter) WriteHeader(status int) {
	if w.wrote {
		return
	}
	w.wrote = true
	if w.onHeader != nil {
		w.onHeader(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [io.Writer].
func (w *bodyWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.write == nil {
		return w.ResponseWriter.Write(p)
	}
	return w.write(p)
}

// FlushError implements what [http.ResponseController] looks for.
func (w *bodyWriter) FlushError() error {
	w.WriteHeader(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for [http.ResponseController].
func (w *bodyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
