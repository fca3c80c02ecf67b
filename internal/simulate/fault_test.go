package simulate

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault  Fault
		status int // 0 if there is no answer
		body   string
		err    error
	}{
		"status": {fault: Status(404, "text/plain", "none", nil), status: 404, body: "none"},
		"body":   {fault: Body("{"), status: 200, body: "{"},
		"html": {
			fault: HTML(502), status: 502,
			body: "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n" +
				"<body><center><h1>502 Bad Gateway</h1></center></body>\r\n</html>\r\n",
		},
		"redirect":                        {fault: Redirect(307, "http://elsewhere/"), status: 307},
		"closed early":                    {fault: CloseEarly(4), status: 200, body: "orig", err: io.ErrUnexpectedEOF},
		"closed early, in a second write": {fault: CloseEarly(9), status: 200, body: "original ", err: io.ErrUnexpectedEOF},
		"closed after the header":         {fault: CloseEarly(0), status: 200, err: io.ErrUnexpectedEOF},
		"closed after the end":            {fault: CloseEarly(100), status: 200, body: "original body"},
		"reset in the body":               {fault: ResetAfter(4), status: 200, body: "orig", err: syscall.ECONNRESET},
		"reset before the header":         {fault: ResetAfter(0), err: syscall.ECONNRESET},
		"length declared too large":       {fault: WrongContentLength(20), status: 200, body: "original body", err: io.ErrUnexpectedEOF},
		"deep JSON":                       {fault: DeepJSON(3), status: 200, body: "[[[]]]"},
		"huge JSON, even":                 {fault: Huge(16), status: 200, body: `{"data":[0,0,0]}`},
		"huge JSON, odd":                  {fault: Huge(15), status: 200, body: `{"data": [0,0]}`},
		"gzip bomb, small":                {fault: GzipBomb(5), status: 200, body: "[   ]"},
		"gzip":                            {fault: Gzip(), status: 200, body: "original body"},
		"rewritten": {fault: Rewrite(func(r *http.Request, a Answer) Answer {
			return Answer{Status: 201, Body: []byte(r.Method + string(a.Body))}
		}), status: 201, body: "GEToriginal body"},
		"raw":                                   {fault: Raw("HTTP/1.0 203 What\r\n\r\nall"), status: 203, body: "all"},
		"first on a connection that breaks":     {fault: BreakReused(true), status: 200, body: "original body"},
		"first on a connection with a surprise": {fault: IdleBytes(time.Hour, "x"), status: 200, body: "original body"},
		"slow, but whole":                       {fault: SlowDrip(time.Second, 5), status: 200, body: "original body"},
		"delayed, but whole":                    {fault: Delay(time.Second), status: 200, body: "original body"},
		"a fault inside a fault, delaying":      {fault: func(h http.Handler) http.Handler { return Delay(time.Hour)(CloseEarly(1)(h)) }, status: 200, body: "o", err: io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				resp, body, err := fetch(t, test.fault(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					_, _ = io.WriteString(w, "original ")
					_, _ = io.WriteString(w, "body")
				})))
				assert.ErrorIs(t, err, test.err)
				assert.Equal(t, test.body, body)
				if test.status != 0 {
					assert.Equal(t, test.status, resp.StatusCode)
				}
			})
		})
	}
}

func TestStatusHeaders(t *testing.T) {
	resp, _, err := fetch(t, Status(429, "application/json", "{}", http.Header{"Retry-After": {"7"}})(nil))
	require.NoError(t, err)
	assert.Equal(t, "7", resp.Header.Get("Retry-After"))
	assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	resp, _, err = fetch(t, Redirect(302, "/there")(nil))
	require.NoError(t, err)
	assert.Equal(t, "/there", resp.Header.Get("Location"))
}

func TestSlowFaultsEndWithTheContext(t *testing.T) {
	for name, fault := range map[string]Fault{
		"hang":  Hang(),
		"delay": Delay(time.Hour),
		"drip":  SlowDrip(time.Hour, 1),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				start := time.Now()
				n := &Network{}
				n.Handle("sim", fault(text("x")))
				_, _, err := get(ctx, client(t, n), "http://sim/")
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.Equal(t, 10*time.Second, time.Since(start))
			})
		})
	}
}

// A client whose connections break or misbehave between two requests.
func TestKeptAliveConnections(t *testing.T) {
	for name, test := range map[string]struct {
		fault Fault
		body  string
		err   error // of the second request on the connection
	}{
		"reset on reuse":        {BreakReused(true), "original body", syscall.ECONNRESET},
		"closed on reuse":       {BreakReused(false), "original body", io.EOF},
		"bytes while idle":      {IdleBytes(time.Second, "HTTP/1.1 408 Request Timeout\r\n\r\n"), "original body", nil},
		"bytes with the answer": {IdleBytes(0, "surplus"), "original body", nil},
		"longer than declared":  {WrongContentLength(8), "original", nil},
		"nothing wrong":         {func(h http.Handler) http.Handler { return h }, "original body", nil},
	} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log.SetOutput(io.Discard) // net/http logs unsolicited bytes
					defer log.SetOutput(os.Stderr)
					n := &Network{}
					s := NewSwitch(text("original body"))
					s.Next(1, test.fault)
					n.Handle("sim", s)
					c := client(t, n)
					reused := false
					ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
					_, body, err := get(ctx, c, scheme+"://sim/")
					require.NoError(t, err)
					assert.Equal(t, test.body, body)
					time.Sleep(time.Minute)

					req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://sim/", io.NopCloser(strings.NewReader(""))) // not replayable
					require.NoError(t, err)
					resp, err := c.Do(req)
					if test.err != nil {
						assert.ErrorIs(t, err, test.err)
						assert.True(t, reused)
						return
					}
					require.NoError(t, err)
					assert.NoError(t, resp.Body.Close())
					assert.Equal(t, name == "nothing wrong", reused)
				})
			})
		}
	}
}

// The body of a 101 is the connection: no context ends a read of it.
func TestSwitchProtocols(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Network{}
		n.Handle("sim", SwitchProtocols()(nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sim/", nil)
		require.NoError(t, err)
		resp, err := client(t, n).Do(req)
		require.NoError(t, err)
		assert.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		assert.Equal(t, "h2c", resp.Header.Get("Upgrade"))
		start := time.Now()
		time.AfterFunc(time.Hour, func() { _ = resp.Body.Close() })
		_, err = io.ReadAll(resp.Body)
		assert.Error(t, err)
		assert.Equal(t, time.Hour, time.Since(start))
	})
}

func TestEndless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, err := fetch(t, EndlessHeader()(nil))
		assert.ErrorContains(t, err, "server response headers exceeded")

		n := &Network{}
		n.Handle("sim", Huge(math.MaxInt64)(nil))
		resp, err := client(t, n).Get("http://sim/")
		require.NoError(t, err)
		_, err = io.CopyN(io.Discard, resp.Body, 10<<20)
		assert.NoError(t, err)
		assert.NoError(t, resp.Body.Close())
	})
}

func TestGzipWithoutBeingAsked(t *testing.T) {
	n := &Network{}
	n.Handle("sim", Gzip()(Status(429, "text/plain", "slower", http.Header{"Content-Length": {"6"}})(nil)))
	c := client(t, n)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://sim/", nil)
	require.NoError(t, err)
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	assert.Equal(t, "gzip", resp.Header.Get("Content-Encoding"))
	z, err := gzip.NewReader(resp.Body)
	require.NoError(t, err)
	body, err := io.ReadAll(z)
	require.NoError(t, err)
	assert.Equal(t, "slower", string(body))
	assert.Equal(t, 429, resp.StatusCode)
}

// The faults of connections do the same on sockets, and behind a writer of a test.
func TestFaultsOnSockets(t *testing.T) {
	s := NewSwitch(text("original body"))
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(&bodyWriter{ResponseWriter: w}, r)
	}))
	defer server.Close()
	for name, test := range map[string]struct {
		fault Fault
		body  string
		err   error
	}{
		"reset":         {ResetAfter(0), "", syscall.ECONNRESET},
		"reset in body": {ResetAfter(4), "orig", syscall.ECONNRESET},
		"closed":        {CloseEarly(4), "orig", io.ErrUnexpectedEOF},
		"kept alive":    {BreakReused(true), "original body", nil},
		"raw":           {Raw("HTTP/1.0 200 OK\r\n\r\nx"), "x", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s.Next(1, test.fault)
			_, body, err := get(t.Context(), server.Client(), server.URL)
			assert.ErrorIs(t, err, test.err)
			assert.Equal(t, test.body, body)
			server.Client().CloseIdleConnections()
		})
	}
}

func TestSlowDripTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, body, err := fetch(t, SlowDrip(time.Minute, 2)(text("12345")))
		require.NoError(t, err)
		assert.Equal(t, "12345", body)
		assert.Equal(t, 3*time.Minute, time.Since(start))
	})
}

func TestLargeBodies(t *testing.T) {
	const size = 1 << 20
	for _, fault := range []Fault{Huge(size), Huge(size + 1), GzipBomb(size)} {
		_, body, err := fetch(t, fault(nil))
		require.NoError(t, err)
		assert.InDelta(t, size, len(body), 1)
		assert.True(t, json.Valid([]byte(body)))
	}
	_, body, err := fetch(t, DeepJSON(100_000)(nil))
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000), body)
}

func TestSwitch(t *testing.T) {
	s := NewSwitch(text("fine"))
	n := &Network{}
	n.Handle("sim", s)
	c := client(t, n)
	ask := func(path string) string {
		_, body, err := get(t.Context(), c, "http://sim"+path)
		require.NoError(t, err)
		return body
	}
	assert.Equal(t, "fine", ask("/"))

	s.Set(Body("all"))
	s.Add(Rule{Fault: Body("a"), Match: func(r *http.Request) bool { return r.URL.Path == "/a" }, Times: 2})
	s.Next(1, Body("next"))
	s.Next(0, Body("never"))
	var got []string
	for _, path := range []string{"/b", "/b", "/a", "/a", "/a"} {
		got = append(got, ask(path))
	}
	assert.Equal(t, []string{"next", "all", "a", "a", "all"}, got)

	s.Add(Rule{Match: func(r *http.Request) bool { return r.URL.Path == "/spared" }})
	assert.Equal(t, "fine", ask("/spared"))
	s.Clear()
	assert.Equal(t, "fine", ask("/"))
}

func TestSwitchCountsUnderConcurrency(t *testing.T) {
	s := NewSwitch(text("fine"))
	s.Next(50, Body("fault"))
	rec := &Recorder{}
	faults := make(chan string, 100)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			_, body, err := fetch(t, rec.Wrap(s))
			assert.NoError(t, err)
			faults <- body
		})
	}
	wg.Wait()
	close(faults)
	count := map[string]int{}
	for f := range faults {
		count[f]++
	}
	assert.Equal(t, map[string]int{"fine": 50, "fault": 50}, count)
	assert.Equal(t, 100, rec.Len())
}
