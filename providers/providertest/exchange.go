package providertest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
)

const (
	maxStory = 20      // exchanges
	maxShown = 2000    // bytes of a body
	maxKept  = 1 << 20 // bytes of a body
)

// exchange is a request and the start of its answer.
type exchange struct {
	request string // method and address
	method  string
	path    string
	// params are the parts of the request that may say what it asks for, by their
	// place: path segments, parts of the query, members of a JSON body.
	params map[string]string
	status int
	body   []byte
}

// recorded returns h with its exchanges recorded.
func (w *world) recorded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(sent))
		e := &exchange{request: r.Method + " " + r.Host + r.URL.RequestURI(), method: r.Method, path: r.URL.Path, params: leaves(decode(sent))}
		for i, segment := range strings.Split(r.URL.Path, "/") {
			e.params[fmt.Sprintf("path %d", i)] = segment
		}
		for name, values := range r.URL.Query() {
			e.params["query "+name] = strings.Join(values, " ")
		}
		w.mu.Lock()
		w.exchanges = append(w.exchanges, e)
		w.mu.Unlock()
		h.ServeHTTP(&tee{rw, w, e}, r)
	})
}

// story returns the newest exchanges as text.
func (w *world) story() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, e := range w.exchanges[max(0, len(w.exchanges)-maxStory):] {
		fmt.Fprintf(&b, "%s\n\t→ %d %s\n", e.request, e.status, bytes.ToValidUTF8(e.body[:min(len(e.body), maxShown)], []byte("�")))
	}
	if n := len(w.exchanges) - maxStory; n > 0 {
		return fmt.Sprintf("(%d requests before)\n%s", n, &b)
	}
	return b.String()
}

// tee copies an answer to an exchange.
type tee struct {
	http.ResponseWriter
	w *world
	e *exchange
}

// WriteHeader implements [http.ResponseWriter].
func (t *tee) WriteHeader(status int) {
	t.w.mu.Lock()
	if t.e.status == 0 {
		t.e.status = status
	}
	t.w.mu.Unlock()
	t.ResponseWriter.WriteHeader(status)
}

// Write implements [io.Writer].
func (t *tee) Write(p []byte) (int, error) {
	t.w.mu.Lock()
	if t.e.status == 0 {
		t.e.status = http.StatusOK
	}
	t.e.body = append(t.e.body, p[:min(len(p), max(0, maxKept-len(t.e.body)))]...)
	t.w.mu.Unlock()
	return t.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (t *tee) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// identifies reports whether the answers to a and b say what was asked: a member
// of the answers repeats a part of the requests, and differs.
func identifies(a, b answer) bool {
	inA, inB := leaves(decode(a.body)), leaves(decode(b.body))
	for at, text := range inA {
		for param, asked := range a.params {
			if text == asked && inB[at] == b.params[param] && inB[at] != text && inB[at] != "" {
				return true
			}
		}
	}
	return false
}
