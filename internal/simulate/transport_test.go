package simulate

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// text is a handler that writes s at once.
func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

func newRequest(t *testing.T, ctx context.Context, url string) *http.Request { //nolint:revive // t first reads better
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	return r
}

// fetch returns the answer of h and all of its body, which is closed.
func fetch(t *testing.T, h http.Handler) (resp *http.Response, body string, err error) {
	t.Helper()
	resp, err = Transport(h).RoundTrip(newRequest(t, t.Context(), "http://sim/"))
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

func TestTransportAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got *http.Request
		client := &http.Client{Transport: Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r
			body, err := io.ReadAll(r.Body)
			assert.NoError(t, err)
			w.Header().Set("X-Method", r.Method)
			w.WriteHeader(http.StatusTeapot)
			w.Header().Set("X-Late", "1")
			_, _ = w.Write(body)
		}))}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://sim:8443/a%2Fb?q=1", strings.NewReader("hello"))
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		synctest.Wait()

		assert.Equal(t, "hello", string(body))
		assert.Equal(t, "418 I'm a teapot", resp.Status)
		assert.Equal(t, "POST", resp.Header.Get("X-Method"))
		assert.Empty(t, resp.Header.Get("X-Late"))
		assert.Equal(t, "Sat, 01 Jan 2000 00:00:00 GMT", resp.Header.Get("Date"))
		assert.EqualValues(t, -1, resp.ContentLength)

		assert.Equal(t, "/a%2Fb?q=1", got.RequestURI)
		assert.Equal(t, "/a/b", got.URL.Path)
		assert.Empty(t, got.URL.Host)
		assert.Equal(t, "sim:8443", got.Host)
		assert.Equal(t, "sim", got.TLS.ServerName)
		assert.Equal(t, "5", got.Header.Get("Content-Length"))
		assert.Equal(t, "Go-http-client/1.1", got.UserAgent())
		assert.Error(t, got.Context().Err(), "ends with the handler")
	})
}

func TestTransportStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			w.(http.Flusher).Flush()
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, "one")
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, "two")
		})
		start := time.Now()
		resp, err := Transport(h).RoundTrip(newRequest(t, t.Context(), "http://sim/"))
		require.NoError(t, err)
		assert.Equal(t, time.Second, time.Since(start))
		buf := make([]byte, 10)
		n, err := resp.Body.Read(buf)
		require.NoError(t, err)
		assert.Equal(t, "one", string(buf[:n]))
		assert.Equal(t, 2*time.Second, time.Since(start))
		rest, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.Equal(t, "two", string(rest))
		assert.NoError(t, resp.Body.Close())
	})
}

func TestTransportContextEndsBeforeTheHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var handlerErr, writeErr error
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			handlerErr = r.Context().Err()
			time.Sleep(time.Second)
			_, writeErr = io.WriteString(w, "too late")
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := Transport(h).RoundTrip(newRequest(t, ctx, "http://sim/"))
		assert.Equal(t, context.DeadlineExceeded, err)
		assert.Equal(t, time.Minute, time.Since(start))
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Equal(t, context.DeadlineExceeded, handlerErr)
		assert.ErrorIs(t, writeErr, io.ErrClosedPipe)
	})
}

func TestTransportContextEndsInTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writeErr error
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "begin")
			<-r.Context().Done()
			time.Sleep(time.Second)
			_, writeErr = io.WriteString(w, "end")
		})
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := Transport(h).RoundTrip(newRequest(t, ctx, "http://sim/"))
		require.NoError(t, err)
		time.AfterFunc(time.Second, cancel)
		body, err := io.ReadAll(resp.Body)
		assert.Equal(t, "begin", string(body))
		assert.Equal(t, context.Canceled, err)
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.ErrorIs(t, writeErr, io.ErrClosedPipe)
	})
}

// TestTransportContextEndsHandlerAndBody is about a handler that gives up because
// the client has gone: what it wrote so far must not look like a whole body.
func TestTransportContextEndsHandlerAndBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "begin")
			<-r.Context().Done()
		})
		for range 100 { // two goroutines race to end the body
			ctx, cancel := context.WithCancel(t.Context())
			resp, err := Transport(h).RoundTrip(newRequest(t, ctx, "http://sim/"))
			require.NoError(t, err)
			time.AfterFunc(time.Second, cancel)
			_, err = io.ReadAll(resp.Body)
			require.Equal(t, context.Canceled, err)
		}
	})
}

func TestTransportClosedBodyEndsTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writeErr, ctxErr error
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for writeErr == nil {
				_, writeErr = io.WriteString(w, "on and on ")
			}
			ctxErr = r.Context().Err()
		})
		resp, err := Transport(h).RoundTrip(newRequest(t, t.Context(), "http://sim/"))
		require.NoError(t, err)
		_, err = io.CopyN(io.Discard, resp.Body, 100)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		_, err = resp.Body.Read(make([]byte, 1))
		assert.Error(t, err)
		synctest.Wait()
		assert.Error(t, writeErr)
		assert.Equal(t, context.Canceled, ctxErr)
	})
}

func TestTransportEndedContextSendsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := newRequest(t, ctx, "http://sim/")
	body := &closing{Reader: strings.NewReader("x")}
	r.Body = body
	_, err := Transport(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("served") })).RoundTrip(r)
	assert.Equal(t, context.Canceled, err)
	assert.True(t, body.closed)
}

func TestTransportClosesTheRequestBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRequest(t, t.Context(), "http://sim/")
		body := &closing{Reader: strings.NewReader("x")}
		r.Body = body
		resp, err := Transport(text("")).RoundTrip(r)
		require.NoError(t, err)
		_ = resp.Body.Close()
		synctest.Wait()
		assert.True(t, body.closed)
	})
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func TestTransportBrokenConnections(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		body    string
		err     error
	}{
		"aborted before the header": {
			handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			err:     syscall.ECONNRESET,
		},
		"aborted in the body": {
			handler: func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "some")
				panic(http.ErrAbortHandler)
			},
			body: "some",
			err:  syscall.ECONNRESET,
		},
		"shorter than declared": {
			handler: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "5")
				_, _ = io.WriteString(w, "some")
			},
			body: "some",
			err:  io.ErrUnexpectedEOF,
		},
		"longer than declared": {
			handler: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "3")
				_, err := io.WriteString(w, "some")
				assert.ErrorIs(t, err, http.ErrContentLength)
			},
			body: "som",
		},
		"no content": {
			handler: func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusNoContent)
				_, err := io.WriteString(w, "some")
				assert.ErrorIs(t, err, http.ErrBodyNotAllowed)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, body, err := fetch(t, test.handler)
				assert.Equal(t, test.body, body)
				assert.ErrorIs(t, err, test.err)
			})
		})
	}

	_, _, err := fetch(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") }))
	assert.ErrorContains(t, err, "handler panicked: a bug\n")
	assert.ErrorContains(t, err, "transport_test.go")
}

func TestTransportGzip(t *testing.T) {
	zipped := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Accept", r.Header.Get("Accept-Encoding"))
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, "plain")
		_ = z.Close()
	})
	synctest.Test(t, func(t *testing.T) {
		resp, body, err := fetch(t, zipped)
		require.NoError(t, err)
		assert.Equal(t, "plain", body)
		assert.True(t, resp.Uncompressed)
		assert.Empty(t, resp.Header.Get("Content-Encoding"))
		assert.Equal(t, "gzip", resp.Header.Get("X-Accept"))
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRequest(t, t.Context(), "http://sim/")
		r.Header.Set("Accept-Encoding", "gzip")
		resp, err := Transport(zipped).RoundTrip(r)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		assert.False(t, resp.Uncompressed)
		z, err := gzip.NewReader(resp.Body)
		require.NoError(t, err)
		body, err := io.ReadAll(z)
		require.NoError(t, err)
		assert.Equal(t, "plain", string(body))
	})
	for _, broken := range []string{"", "not gzip"} {
		_, _, err := fetch(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, broken)
		}))
		assert.Error(t, err)
	}
}

func TestNetwork(t *testing.T) {
	var n Network
	n.Handle("API.example.com", text("web"))
	n.Handle("api.example.com:8080", text("other"))
	ask := func(url string) (string, error) {
		resp, err := n.RoundTrip(newRequest(t, t.Context(), url))
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	for url, want := range map[string]string{
		"http://api.example.com/":        "web",
		"https://api.EXAMPLE.com/x":      "web",
		"https://api.example.com:443/":   "web",
		"http://api.example.com:8080/":   "other",
		"https://user@api.example.com/y": "web",
	} {
		body, err := ask(url)
		assert.NoError(t, err)
		assert.Equal(t, want, body)
	}
	_, err := ask("https://api.example.com:8443/")
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	_, err = ask("ftp://api.example.com/")
	assert.ErrorContains(t, err, "unsupported protocol scheme")

	n.Handle("api.example.com:8080", nil)
	n.Handle("api.example.com", nil)
	_, err = ask("https://api.example.com/")
	var dns *net.DNSError
	require.True(t, errors.As(err, &dns))
	assert.True(t, dns.IsNotFound)
	assert.ErrorContains(t, err, "no such host")
}
