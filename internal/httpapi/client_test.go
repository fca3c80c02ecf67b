package httpapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
)

func TestAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got *http.Request
		w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r
			_, _ = io.WriteString(w, "fine")
		}), func(o *httpapi.Options) {
			o.Header = http.Header{"x-team": {"ops"}, "Accept-Encoding": {"br"}, "X-Both": {"configured"}}
		})
		require.Nil(t, w.do(t, providers.Call{
			Method: http.MethodPost, Path: "/a%2Fb", Query: "c=d", Body: []byte("body"),
			Header:    http.Header{"Content-Type": {"text/plain"}, "X-Both": {"provider"}},
			Authorize: func() (http.Header, error) { return http.Header{"Authorization": {"Bearer t"}}, nil },
			Parse: func(a providers.Answer) error {
				assert.Equal(t, "fine", string(a.Body))
				assert.Equal(t, 200, a.Status)
				return nil
			},
		}))
		body, _ := io.ReadAll(got.Body)
		assert.Equal(t, "POST /base/a%2Fb?c=d body", got.Method+" "+got.RequestURI+" "+string(body))
		assert.Equal(t, http.Header{
			"Accept": {"application/json"}, "Accept-Encoding": {"gzip"}, "Authorization": {"Bearer t"}, "Content-Length": {"4"},
			"Content-Type": {"text/plain"}, "User-Agent": {"balance_exporter/dev"}, "X-Team": {"ops"}, "X-Both": {"provider"},
		}, got.Header)
		assert.Equal(t, []string{"200"}, w.codes.seen)
	})
}

func TestHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, write("api"), func(o *httpapi.Options) { o.Hosts["pricing"] = parse(t, "http://pricing.example") })
		w.network.Handle("pricing.example", write("pricing"))
		for host, want := range map[string]string{"": "api", "pricing": "pricing"} {
			require.Nil(t, w.do(t, providers.Call{Host: host, Path: "/", Parse: func(a providers.Answer) error {
				assert.Equal(t, want, string(a.Body))
				return nil
			}}))
		}
		e := w.do(t, providers.Call{Host: "nowhere"})
		assert.Equal(t, `internal: making the request: the provider has no host "nowhere"`, e.Error())
	})
}

func TestTimeoutDoesNotCountTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, write(""), limitedTo(onePerMinute))
		_, err := w.gate.Wait(t.Context())
		require.NoError(t, err)
		start := time.Now()
		_, e := w.get(t, "/")
		assert.Nil(t, e)
		assert.Equal(t, time.Minute, time.Since(start))
	})
}

// Every answer ends within the timeout, whatever the provider does.
func TestEveryAnswerEndsWithinTheTimeout(t *testing.T) {
	// every calls f each second until the client has gone.
	every := func(f func(http.ResponseWriter)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ticks := time.NewTicker(time.Second)
			defer ticks.Stop()
			for {
				f(w)
				select {
				case <-ticks.C:
				case <-r.Context().Done():
					return
				}
			}
		})
	}
	endless := every(func(w http.ResponseWriter) {
		_, _ = io.WriteString(w, " ")
		_ = http.NewResponseController(w).Flush()
	})
	continues := every(func(w http.ResponseWriter) { w.WriteHeader(http.StatusEarlyHints) })
	for name, c := range map[string]struct {
		h      http.Handler
		reason providers.Reason
		took   time.Duration
	}{
		"no answer":                {simulate.Hang()(nil), providers.ReasonTimeout, 10 * time.Second},
		"an endless body":          {endless, providers.ReasonTimeout, 10 * time.Second},
		"a slow body":              {simulate.SlowDrip(time.Second, 1)(simulate.Body(`{"a":1234567890}`)(nil)), providers.ReasonTimeout, 10 * time.Second},
		"a slow body in gzip":      {simulate.SlowDrip(time.Second, 1)(simulate.Gzip()(write("1234567890"))), providers.ReasonTimeout, 10 * time.Second},
		"endless early hints":      {continues, providers.ReasonTimeout, 10 * time.Second},
		"a slow body of a 503":     {simulate.SlowDrip(time.Second, 1)(simulate.Status(503, "", "1234567890123", nil)(nil)), providers.ReasonUnavailable, 10 * time.Second},
		"switching protocols":      {simulate.SwitchProtocols()(nil), providers.ReasonBadResponse, 0},
		"an endless header":        {simulate.EndlessHeader()(nil), providers.ReasonBadResponse, 0},
		"a header that breaks":     {simulate.Raw("HTTP/1.1 200 OK\r\nContent-Le")(nil), providers.ReasonBadResponse, 0},
		"a body that is too short": {simulate.WrongContentLength(100)(write("short")), providers.ReasonBadResponse, 0},
		"a reset in the body":      {simulate.ResetAfter(3)(write("123456")), providers.ReasonBadResponse, 0},
		"a garbled chunk":          {simulate.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")(nil), providers.ReasonBadResponse, 0},
		"a reset":                  {simulate.ResetAfter(0)(nil), providers.ReasonUnavailable, 0},
	} {
		for _, large := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, large %v", name, large), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, c.h, nil)
					call := providers.Call{Large: large}
					start := time.Now()
					e := w.do(t, call)
					require.NotNil(t, e)
					assert.Equal(t, c.reason, e.Reason, e.Message)
					assert.Equal(t, c.took, time.Since(start))
				})
			})
		}
	}
}

// A value that ends before the answer does is no whole answer.
func TestEndOfTheAnswerIsChecked(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	// Noise, so that the end is not read ahead.
	rows, _ := json.Marshal(rand.Perm(10_000))
	_, _ = z.Write(rows)
	_ = z.Close()
	broken := packed.Bytes()
	broken[len(broken)-8] ^= 1 // the checksum
	for name, h := range map[string]http.Handler{
		"checksum": simulate.Status(200, "", string(broken), http.Header{"Content-Encoding": {"gzip"}})(nil),
		"length":   simulate.WrongContentLength(len(rows) + 1)(write(string(rows))),
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newWorld(t, h, nil).do(t, providers.Call{Large: true})
			require.NotNil(t, e, name)
			assert.Equal(t, providers.ReasonBadResponse, e.Reason, name)
		})
	}
}

func TestWaitForASlotIsNoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simulate.SlowDrip(time.Second, 1)(write("12345678")), nil)
		results := make(chan error, 3)
		for range 3 {
			go func() { results <- w.Do(t.Context(), providers.Call{Large: true}) }()
		}
		for range 3 {
			assert.NoError(t, <-results, "three answers of 8 s, one after the other, and 10 s for each")
		}
	})
}

func TestRedirects(t *testing.T) {
	for name, c := range map[string]struct {
		base, to string
		code     int
		message  string // empty if it is followed
		sent     string
	}{
		"same place":        {"http://h.example", "/there", 302, "", "POST /, GET /there"},
		"with a port":       {"http://h.example", "http://h.example:80/there", 301, "", "POST /, GET /there"},
		"without its port":  {"http://h.example:80", "http://h.example/there", 303, "", "POST /, GET /there"},
		"host in capitals":  {"http://h.example", "HTTP://H.Example/there", 307, "", "POST / body, POST /there body"},
		"permanent":         {"http://h.example", "there", 308, "", "POST / body, POST /there body"},
		"https with a port": {"https://h.example", "https://h.example:443/there", 302, "", "POST /, GET /there"},
		"other host": {"http://h.example", "http://evil.example/there", 302,
			"redirect refused: from http://h.example to http://evil.example", "POST /"},
		"other port": {"http://h.example", "http://h.example:8080/there", 307,
			"redirect refused: from http://h.example to http://h.example:8080", "POST /"},
		"other scheme": {"http://h.example", "https://h.example/there", 301,
			"redirect refused: from http://h.example to https://h.example", "POST /"},
		"endless": {"http://h.example", "/", 307,
			"redirect refused: more than 3 in a row", "POST / body, POST / body, POST / body, POST / body"},
		"nowhere":            {"http://h.example", "", 302, "the provider answered with HTTP status 302", "POST /"},
		"a secret's host":    {"http://h.example", "http://s3cret-value/", 302, "redirect refused: from http://h.example to http://<secret>", "POST /"},
		"a secret's scheme":  {"http://h.example", "s3cret-value://h.example/", 302, "redirect refused: to another scheme than http and https", "POST /"},
		"no address":         {"http://h.example", `http://[{\"password\":\"s3cret-value\"}`, 302, "redirect refused: its address cannot be read", "POST /"},
		"a host in disguise": {"http://h.example", "http://h.example@evil.example/", 302, "redirect refused: from http://h.example to http://evil.example", "POST /"},
		"a bidi host":        {"http://h.example", "http://evil%E2%80%AE.example/", 302, "redirect refused: from http://h.example to http://evil .example", "POST /"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var sent []string
				handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					sent = append(sent, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
					if r.URL.Path == "/" {
						w.Header().Set("Location", c.to)
						w.WriteHeader(c.code)
						return
					}
					_, _ = io.WriteString(w, "there")
				})
				w := newWorld(t, handler, func(o *httpapi.Options) {
					o.Hosts[""] = parse(t, c.base)
					o.Transport.(*http.Transport).TLSClientConfig = trustSimulator(t)
				}, "s3cret-value")
				for _, host := range []string{"evil.example", "h.example:8080", "s3cret-value"} {
					w.network.Handle(host, handler)
				}
				e := w.do(t, providers.Call{Method: http.MethodPost, Path: "/", Body: []byte("body")})
				want := c.sent
				if !strings.Contains(want, "body") {
					want = strings.Replace(want, "POST /", "POST / body", 1)
				}
				assert.Equal(t, want, strings.Join(sent, ", "))
				if c.message == "" {
					assert.Nil(t, e)
					return
				}
				require.NotNil(t, e)
				assert.Equal(t, providers.ReasonBadResponse, e.Reason)
				assert.Equal(t, c.message, e.Message)
			})
		})
	}
}

func TestSecretsAreMasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simulate.Status(500, "", "", nil)(nil), nil, "s3cret/value")
		w.Mask("token-abc")
		e := w.do(t, providers.Call{Parse: func(providers.Answer) error {
			e := providers.Errorf(providers.ReasonUnavailable, "said s3cret/value and s3cret%%2Fvalue and token-abc")
			e.ID, e.Err = "id-token-abc", errors.New("s3cret/value")
			return e
		}})
		assert.Equal(t, "unavailable: said <secret> and <secret> and <secret> (id id-<secret>)", e.Error())
		assert.NoError(t, e.Err)
	})
}

// A quote is masked before it is cut: a part of a secret could not be recognised.
func TestQuote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simulate.Status(400, "text/plain", "the\x1b[31m key\n\u202eis s3cret/value, isn't it", nil)(nil), nil, "s3cret/value")
		e := w.do(t, providers.Call{Parse: func(a providers.Answer) error {
			return providers.Errorf(providers.ReasonBadRequest, "%s", a.Quote(string(a.Body), 28))
		}})
		assert.Equal(t, "bad_request: the [31m key is <secret>,…", e.Error())
	})
}

// Escape and bidi characters that a provider gets into a message some other way are
// made harmless too.
func TestMessagesArePrintable(t *testing.T) {
	for name, h := range map[string]http.Handler{
		"reason phrase": simulate.Raw("HTTP/1.1 500 \x1b[2J\u202eoops\r\nContent-Length: 0\r\n\r\n")(nil),
		"no HTTP":       simulate.Raw("\x1b[2J\u202eoops\r\n\r\n")(nil),
		"coding":        simulate.Status(200, "", "x", http.Header{"Content-Encoding": {"\x1b[2J\u202eoops"}})(nil),
		"body":          simulate.Body("\x1b[2J\u202eoops")(nil),
		"title":         simulate.Status(502, "text/html", "<html><title>\x1b[2J\u202eoops</title></html>", nil)(nil),
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newWorld(t, h, nil).do(t, providers.Call{Parse: func(a providers.Answer) error {
				if e := providers.CheckStatus(a); e != nil {
					return e
				}
				return fmt.Errorf("cannot read %s", a.Body)
			}})
			require.NotNil(t, e, name)
			assert.NotContains(t, e.Error(), "\x1b", name)
			assert.NotContains(t, e.Error(), "\u202e", name)
		})
	}
}

// The transport of net/http repeats a GET by itself when a kept-alive connection
// breaks before the answer. Each request must pass the gate.
func TestBrokenReusedConnection(t *testing.T) {
	for name, c := range map[string]struct {
		call   providers.Call
		always bool // the repeat breaks too
		sent   int
		fails  bool
	}{
		"a GET":                 {providers.Call{}, false, 3, false},
		"a login":               {providers.Call{Method: http.MethodPost, Body: []byte("login"), Login: true}, false, 3, false},
		"a POST":                {providers.Call{Method: http.MethodPost, Body: []byte("x")}, false, 2, true},
		"a POST without a body": {providers.Call{Method: http.MethodPost}, false, 2, true},
		"a GET, and then again": {providers.Call{}, true, 3, true},
	} {
		for _, reset := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, reset %v", name, reset), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var first atomic.Bool
					breaks := simulate.BreakReused(reset)(write("ok"))
					w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if first.Swap(true) && c.always {
							simulate.ResetAfter(0)(nil).ServeHTTP(w, r)
						}
						breaks.ServeHTTP(w, r)
					}), limitedTo(onePerMinute))
					start := time.Now()
					_, e := w.get(t, "/")
					require.Nil(t, e)
					e = w.do(t, c.call)
					if c.fails {
						require.NotNil(t, e)
						assert.Equal(t, providers.ReasonUnavailable, e.Reason, e.Message)
					} else {
						assert.Nil(t, e)
					}
					assert.Len(t, w.codes.seen, c.sent)
					assert.Equal(t, time.Duration(c.sent-1)*time.Minute, time.Since(start), "each one passed the gate")
				})
			})
		}
	}
}

// A reused connection on which no answer comes is not broken: that is a timeout.
func TestHangOnAReusedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if hangs.Swap(true) {
				simulate.Hang()(nil).ServeHTTP(w, r)
			}
		}), nil)
		_, e := w.get(t, "/")
		require.Nil(t, e)
		_, e = w.get(t, "/")
		require.NotNil(t, e)
		assert.Equal(t, providers.ReasonTimeout, e.Reason)
		assert.Equal(t, []string{"200", "error"}, w.codes.seen)
	})
}

// A repeat uses a fresh connection, although another one is idle.
func TestRepeatOnAFreshConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simulate.Delay(time.Second)(simulate.BreakReused(true)(write("ok"))), nil)
		results := make(chan error, 2)
		for range 2 {
			go func() { results <- w.Do(t.Context(), providers.Call{}) }()
		}
		require.NoError(t, <-results)
		require.NoError(t, <-results)
		_, e := w.get(t, "/")
		assert.Nil(t, e)
		assert.Equal(t, []string{"200", "200", "error", "200"}, w.codes.seen)
	})
}

// If the repeat is not allowed in time, the failure is that of the connection.
func TestRepeatThatMayNotBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simulate.BreakReused(true)(write("ok")), limitedTo(quota.Limit{Requests: 1, Per: time.Hour, Burst: 2}))
		_, e := w.get(t, "/")
		require.Nil(t, e)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		e = providers.AsError(w.Do(ctx, providers.Call{}))
		assert.Equal(t, providers.ReasonUnavailable, e.Reason)
		assert.NotErrorIs(t, e, providers.ErrNotAsked)
	})
}

func TestFailuresOfTheConnection(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	dnsOutOfFiles := &net.DNSError{Err: "dial udp: " + syscall.EMFILE.Error(), Name: "h.example"}
	for name, c := range map[string]struct {
		base   string
		h      http.Handler
		dial   error
		reason providers.Reason
	}{
		"no listener":                {"http://h.example", nil, refused, providers.ReasonUnavailable},
		"no such host":               {"http://no-such-host.invalid", nil, nil, providers.ReasonUnavailable},
		"too many open files":        {"http://h.example", nil, &net.OpError{Op: "dial", Err: syscall.EMFILE}, providers.ReasonInternal},
		"file table overflow":        {"http://h.example", nil, &net.OpError{Op: "dial", Err: syscall.ENFILE}, providers.ReasonInternal},
		"too many files for DNS":     {"http://h.example", nil, dnsOutOfFiles, providers.ReasonInternal},
		"certificate not known":      {"https://h.example", write(""), nil, providers.ReasonTLS},
		"https to a plain port":      {"https://h.example:81", nil, nil, providers.ReasonTLS},
		"an answer that is no HTTP":  {"http://h.example", simulate.Raw("SSH-2.0-nonsense\r\n\r\n")(nil), nil, providers.ReasonBadResponse},
		"a server that speaks first": {"http://h.example:82", nil, nil, providers.ReasonBadResponse},
		"a garbled header line":      {"http://h.example", simulate.Raw("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n")(nil), nil, providers.ReasonBadResponse},
		"conflicting Content-Length": {"http://h.example", simulate.Raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx")(nil), nil, providers.ReasonBadResponse},
		"a bad Content-Length":       {"http://h.example", simulate.Raw("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n")(nil), nil, providers.ReasonBadResponse},
		"an odd Transfer-Encoding":   {"http://h.example", simulate.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")(nil), nil, providers.ReasonBadResponse},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c.h, func(o *httpapi.Options) {
					o.Hosts[""] = parse(t, c.base)
				})
				network := w.network.DialContext
				w.opts.Transport.(*http.Transport).DialContext = func(ctx context.Context, netw, addr string) (net.Conn, error) {
					switch {
					case c.dial != nil:
						return nil, c.dial
					case strings.HasSuffix(addr, ":81"):
						return speak("HTTP/1.0 400 Bad Request\r\n\r\n", true), nil
					case strings.HasSuffix(addr, ":82"):
						return speak("220 mail.example ESMTP\r\n", false), nil
					}
					return network(ctx, netw, addr)
				}
				e := w.do(t, providers.Call{})
				require.NotNil(t, e)
				assert.Equal(t, c.reason, e.Reason, e.Message)
				assert.Equal(t, []string{"error"}, w.codes.seen)
			})
		})
	}
}

// speak returns a connection whose other end writes text, if asked is set after the
// first byte.
func speak(text string, asked bool) net.Conn {
	client, server := net.Pipe()
	go func() {
		if asked {
			_, _ = server.Read(make([]byte, 1))
		}
		go func() { _, _ = io.Copy(io.Discard, server) }()
		_, _ = io.WriteString(server, text)
	}()
	return client
}

func TestBodyBounds(t *testing.T) {
	const small, large = 1 << 20, 64 << 20
	for _, c := range []struct {
		size  int
		large bool
		gzip  bool
		fine  bool
	}{
		{small, false, false, true}, {small + 1, false, false, false},
		{small, false, true, true}, {small + 1, false, true, false},
		{large, true, false, true}, {large + 1, true, false, false},
		{large, true, true, true}, {large + 1, true, true, false},
	} {
		if os.Getenv("BALANCE_EXPORTER_SLOW") == "" && c.large && c.gzip != c.fine {
			continue // 64 MiB take most of a second
		}
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					chunk := make([]byte, 1<<16)
					for left := c.size; left > 0; left -= len(chunk) {
						if _, err := w.Write(chunk[:min(left, len(chunk))]); err != nil {
							return
						}
					}
				}))
				if c.gzip {
					h = simulate.Gzip()(h)
				}
				n := 0
				call := providers.Call{Parse: func(a providers.Answer) error { n = len(a.Body); return nil }}
				call.Large = c.large
				e := newWorld(t, h, nil).do(t, call)
				if c.fine {
					assert.Nil(t, e)
					assert.Equal(t, c.size, n)
					return
				}
				require.NotNil(t, e)
				assert.Equal(t, providers.ReasonBadResponse, e.Reason)
				assert.Contains(t, e.Message, "too large")
			})
		})
	}
}

func TestContentCodings(t *testing.T) {
	packed := func(text string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, text)
		_ = z.Close()
		return b.String()
	}
	for name, c := range map[string]struct {
		coding []string
		body   string
		status int
		want   string // the body, or else the message
		reason providers.Reason
	}{
		"none":                   {nil, "text", 200, "text", ""},
		"identity":               {[]string{"identity"}, "text", 200, "text", ""},
		"gzip":                   {[]string{"gzip"}, packed("text"), 200, "text", ""},
		"x-gzip":                 {[]string{" X-GZIP "}, packed("text"), 200, "text", ""},
		"identity and gzip":      {[]string{"identity", "gzip"}, packed("text"), 200, "text", ""},
		"gzip in two members":    {[]string{"gzip"}, packed("te") + packed("xt"), 200, "text", ""},
		"gzip of nothing at all": {[]string{"gzip"}, "", 200, "", ""},
		"gzip that is none":      {[]string{"gzip"}, "text that is not compressed", 200, "reading the answer: gzip: invalid header", providers.ReasonBadResponse},
		"gzip that is cut":       {[]string{"gzip"}, packed("text")[:15], 200, "reading the answer: unexpected EOF", providers.ReasonBadResponse},
		"brotli":                 {[]string{"br"}, "text", 200, `the answer has the content coding "br", which was not asked for`, providers.ReasonBadResponse},
		"gzip twice":             {[]string{"gzip, gzip"}, packed(packed("text")), 200, `the answer has the content coding "gzip, gzip", which was not asked for`, providers.ReasonBadResponse},
		"an error in gzip":       {[]string{"gzip"}, packed("text"), 500, "text", providers.ReasonUnavailable},
		"an error in brotli":     {[]string{"br"}, "text", 500, "", providers.ReasonUnavailable},
		"an error that is cut":   {[]string{"gzip"}, packed("text")[:15], 403, "", providers.ReasonForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				header := http.Header{}
				if c.coding != nil {
					header["Content-Encoding"] = c.coding
				}
				text, e := newWorld(t, simulate.Status(c.status, "", c.body, header)(nil), nil).get(t, "/")
				if c.reason == "" {
					require.Nil(t, e)
				} else {
					require.NotNil(t, e)
					assert.Equal(t, c.reason, e.Reason)
				}
				if c.status == 200 && e != nil {
					text = e.Message
				}
				if c.status != 403 {
					assert.Equal(t, c.want, text)
				}
			})
		})
	}
}

func TestParseErrors(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		err    error
		want   string
	}{
		"not understood":           {200, errors.New("no currency"), "bad_response: reading the answer: no currency"},
		"an error, not understood": {502, errors.New("no JSON"), "unavailable: reading the answer: no JSON"},
		"an error of the provider": {200, &providers.Error{Reason: providers.ReasonNotFound, Message: "gone", ID: "7"}, "not_found: gone (id 7)"},
		"the default":              {404, nil, "not_found: the provider answered with HTTP status 404"},
		"a proxy":                  {407, nil, "bad_request: the proxy, not the provider, answered with HTTP status 407 (Proxy Authentication Required); correct the credentials in http.proxy_url or http.proxy_connect_header"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, simulate.Status(c.status, "", "", nil)(nil), nil)
			call := providers.Call{}
			if c.err != nil {
				call.Parse = func(providers.Answer) error { return c.err }
			}
			e := w.do(t, call)
			assert.Equal(t, c.want, e.Error(), name)
			assert.Equal(t, c.status, e.Status, name)
			call.Large = true
			assert.Equal(t, c.want, w.do(t, call).Error(), name)
		})
	}
}

func TestHTMLPages(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		header http.Header
		body   string
		want   string
	}{
		"a page with 200": {200, nil, "<!DOCTYPE html><title>Sign in</title>",
			`bad_response: reading the answer: no JSON; the answer is an HTML page, titled "Sign in"`},
		"Cloudflare by its header": {503, http.Header{"Server": {"cloudflare"}}, "<html><head><TITLE>Just a &quot;moment&quot;...\n</TITLE>",
			`unavailable: reading the answer: no JSON; the answer is an HTML page, served by Cloudflare, titled "Just a "moment"..."`},
		"Cloudflare by its page": {403, nil, "  <!doctype html><title>Attention Required! | Cloudflare</title>",
			`forbidden: reading the answer: no JSON; the answer is an HTML page, served by Cloudflare, titled "Attention Required! | Cloudflare"`},
		"a firewall": {200, http.Header{"Content-Type": {"text/html"}}, "<head></head>The requested URL was rejected. Please consult with your administrator.",
			`bad_response: reading the answer: no JSON; the answer is an HTML page, served by a web application firewall`},
		"text in the type of a page": {200, http.Header{"Content-Type": {"text/html"}}, "oops", `bad_response: reading the answer: no JSON`},
		"XML":                        {200, http.Header{"Content-Type": {"text/xml"}}, "<a/>", `bad_response: reading the answer: no JSON`},
	} {
		synctest.Test(t, func(t *testing.T) {
			call := providers.Call{Parse: func(providers.Answer) error { return errors.New("no JSON") }}
			e := newWorld(t, simulate.Status(c.status, "", c.body, c.header)(nil), nil).do(t, call)
			assert.Equal(t, c.want, e.Error(), name)
		})
	}
}

// The header lines that Authorize returns are those of the moment at which the
// request is sent, on every hop.
func TestAuthorize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, r.URL.Path+" "+r.Header.Get("Authorization")+" "+r.Header.Get("X-Stays"))
			if r.URL.Path == "/base/first" {
				http.Redirect(w, r, "/base/second", http.StatusFound)
			}
		}), limitedTo(onePerMinute))
		start := time.Now()
		call := providers.Call{
			Path: "/first", Header: http.Header{"X-Stays": {"stays"}},
			Authorize: func() (http.Header, error) {
				return http.Header{"Authorization": {"at " + time.Since(start).String()}}, nil
			},
		}
		require.Nil(t, w.do(t, call))
		require.Nil(t, w.do(t, call))
		assert.Equal(t, []string{"/base/first at 0s stays", "/base/second at 1m0s stays", "/base/first at 2m0s stays", "/base/second at 3m0s stays"}, seen)
	})
}

// What cannot be authorized is not sent, and its turn goes to the next at once.
func TestAuthorizeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, write(""), limitedTo(onePerMinute))
		_, err := w.gate.Wait(t.Context())
		require.NoError(t, err)
		start := time.Now()
		failed := make(chan error, 3)
		for range 3 {
			go func() {
				failed <- w.Do(t.Context(), providers.Call{Authorize: func() (http.Header, error) { return nil, providers.ErrNotAsked }})
			}()
		}
		synctest.Wait()
		_, e := w.get(t, "/")
		assert.Nil(t, e)
		for range 3 {
			assert.ErrorIs(t, <-failed, providers.ErrNotAsked)
		}
		assert.Equal(t, time.Minute, time.Since(start))
		assert.Equal(t, []string{"200"}, w.codes.seen)

		want := providers.Errorf(providers.ReasonAuth, "the file is missing")
		assert.Equal(t, want.Error(), w.do(t, providers.Call{Authorize: func() (http.Header, error) { return nil, want }}).Error())
		assert.Equal(t, quota.CauseRefused, w.gate.Record().Cause)
	})
}

// A login inside Authorize takes time and quota: the request waits for the gate
// again, and never leaves on an old grant.
func TestAuthorizeLogsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		arrived := &simulate.Recorder{}
		w := newWorld(t, arrived.Wrap(simulate.Delay(200*time.Millisecond)(write("token"))), limitedTo(quota.Limit{Requests: 1, Per: time.Second, Burst: 1}))
		var token string
		for range 3 {
			require.Nil(t, w.do(t, providers.Call{Path: "/balance", Authorize: func() (http.Header, error) {
				if token == "" {
					if e := w.do(t, providers.Call{Path: "/login", Login: true, Parse: func(a providers.Answer) error { token = string(a.Body); return nil }}); e != nil {
						return nil, e
					}
				}
				return http.Header{"Authorization": {token}}, nil
			}}))
		}
		var paths []string
		for i, a := range arrived.Arrivals() {
			paths = append(paths, a.Path)
			if i > 0 {
				assert.GreaterOrEqual(t, a.Time.Sub(arrived.Arrivals()[i-1].Time), time.Second)
			}
		}
		assert.Equal(t, []string{"/base/login", "/base/balance", "/base/balance", "/base/balance"}, paths)
	})
}

// Credentials that always take long, as from a file on a slow mount, delay the
// requests, and no more.
func TestAuthorizeIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, write(""), nil)
		start := time.Now()
		for range 3 {
			require.Nil(t, w.do(t, providers.Call{Authorize: func() (http.Header, error) {
				time.Sleep(time.Second)
				return nil, nil
			}}))
		}
		assert.Equal(t, 3*time.Second, time.Since(start))
		assert.Equal(t, []string{"200", "200", "200"}, w.codes.seen)
		assert.LessOrEqual(t, plenty.Used(w.gate.Record(), time.Now()), 1.0)
	})
}

// A 429 is obeyed in every dialect, compressed or not.
func TestRateLimited(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		body   string
		parse  error
		status int
		want   time.Duration
	}{
		"by the header":                    {http.Header{"Retry-After": {"60"}}, "", nil, 429, time.Minute},
		"by the longer of two lines":       {http.Header{"Retry-After": {"60", "90"}}, "", nil, 429, 90 * time.Second},
		"by the body":                      {nil, "Quota exceeded. Please try again in 47 second(s).", nil, 429, 47 * time.Second},
		"by the body, the header garbled":  {http.Header{"Retry-After": {"soon"}}, "try again in 47 second(s)", nil, 429, 47 * time.Second},
		"the header goes before the body":  {http.Header{"Retry-After": {"3"}}, "try again in 9 second(s)", nil, 429, 3 * time.Second},
		"by the provider's package":        {nil, "", &providers.Error{Reason: providers.ReasonRateLimited, RetryAfter: 5 * time.Minute}, 429, 5 * time.Minute},
		"more than an hour":                {http.Header{"Retry-After": {"86400"}}, "", nil, 429, time.Hour},
		"far more, by the package":         {nil, "", &providers.Error{Reason: providers.ReasonRateLimited, RetryAfter: 50 * time.Hour}, 429, time.Hour},
		"a 200 that means it":              {nil, "", &providers.Error{Reason: providers.ReasonRateLimited, RetryAfter: 30 * time.Second}, 200, 30 * time.Second},
		"a 200 that means it, with a text": {nil, "wait 20 seconds", &providers.Error{Reason: providers.ReasonRateLimited}, 200, 20 * time.Second},
		"a package that denies it":         {http.Header{"Retry-After": {"60"}}, "", errors.New("no JSON"), 429, time.Minute},
	} {
		for _, packed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, gzip %v", name, packed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := simulate.Status(c.status, "", c.body, c.header)(nil)
					if packed {
						h = simulate.Gzip()(h)
					}
					w := newWorld(t, h, nil)
					call := providers.Call{}
					if c.parse != nil {
						call.Parse = func(providers.Answer) error { return c.parse }
					}
					start := time.Now()
					e := w.do(t, call)
					assert.Equal(t, providers.ReasonRateLimited, e.Reason)
					assert.Equal(t, c.want, e.RetryAfter)
					assert.Equal(t, start.Add(c.want), w.gate.Record().BlockedUntil)
					assert.Equal(t, quota.CauseRateLimited, w.gate.Record().Cause)
					assert.ErrorIs(t, w.do(t, call), providers.ErrNotAsked)
					assert.Len(t, w.codes.seen, 1)
				})
			})
		}
	}
}

func TestRateLimitedWithoutATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simulate.Status(429, "", "", nil)(nil), nil)
		for _, want := range []time.Duration{1, 2, 4} {
			assert.Equal(t, providers.ReasonRateLimited, w.do(t, providers.Call{}).Reason)
			d := time.Until(w.gate.Record().BlockedUntil)
			assert.GreaterOrEqual(t, d, want*time.Second)
			assert.LessOrEqual(t, d, want*time.Second*6/5)
			time.Sleep(d)
		}
		w.network.Handle("h.example", write("fine"))
		require.Nil(t, w.do(t, providers.Call{Login: true}))
		assert.Equal(t, 3, w.gate.Record().Limited, "a login proves nothing")
		require.Nil(t, w.do(t, providers.Call{}))
		assert.Zero(t, w.gate.Record().Limited)
	})
}

// A 429 counts from its first byte, though its body may be slow: nothing else is
// sent, and a process that ends meanwhile has stored the block.
func TestSlow429(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		stored time.Duration // at the first byte
	}{
		"by the header": {http.Header{"Retry-After": {"600"}}, 10 * time.Minute},
		"by the body":   {nil, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limit := simulate.Status(429, "application/json", `{"message":"Please try again in 600 second(s)."}`, c.header)
				slow := simulate.SlowDrip(5*time.Second, 1000)(limit(nil))
				w := newWorld(t, flushed(slow), nil)
				start := time.Now()
				go func() { _, _ = w.get(t, "/") }()
				time.Sleep(time.Millisecond)
				assert.Equal(t, start.Add(c.stored), w.gate.Record().BlockedUntil)
				time.Sleep(2 * time.Second)
				_, err := w.gate.Wait(t.Context())
				require.ErrorIs(t, err, providers.ErrNotAsked)
				assert.LessOrEqual(t, time.Since(start), 5*time.Second)
				time.Sleep(10 * time.Second)
				assert.Greater(t, time.Until(w.gate.Record().BlockedUntil), 580*time.Second)
				assert.Equal(t, quota.CauseRateLimited, w.gate.Record().Cause)
			})
		})
	}
}

// flushed sends the header of h's answer before its body.
func flushed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(flusher{w}, r)
	})
}

type flusher struct{ http.ResponseWriter }

func (f flusher) WriteHeader(code int) {
	f.ResponseWriter.WriteHeader(code)
	_ = http.NewResponseController(f.ResponseWriter).Flush()
}

func (f flusher) Unwrap() http.ResponseWriter { return f.ResponseWriter }

func TestRefusedCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		call    providers.Call
		blocked bool
	}{
		"a key":             {providers.Call{}, true},
		"a renewable token": {providers.Call{Renewable: func() bool { return true }}, false},
		"a login":           {providers.Call{Login: true}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, simulate.Status(401, "", "", nil)(nil), nil)
			assert.Equal(t, providers.ReasonAuth, w.do(t, c.call).Reason)
			assert.Equal(t, c.blocked, w.gate.Record().Blocked(time.Now()), name)
		})
	}
}

// Retry-After of a 503 is for the source, and does not block the account.
func TestRetryAfterOfA503(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simulate.Status(503, "", "", http.Header{"Retry-After": {"60"}})(nil), nil)
		e := w.do(t, providers.Call{})
		assert.Equal(t, time.Minute, e.RetryAfter)
		assert.False(t, w.gate.Record().Blocked(time.Now()))
	})
}

func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simulate.Hang()(nil), nil)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		assert.ErrorIs(t, w.Do(ctx, providers.Call{}), context.Canceled)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := w.Do(ctx, providers.Call{})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, providers.ReasonTimeout, providers.AsError(err).Reason)
	})
}

// net/http reports bytes on an idle connection through the standard logger and no
// other: main has to redirect that.
func TestBytesOnAnIdleConnection(t *testing.T) {
	var logged bytes.Buffer
	defer stdlog.SetOutput(stdlog.Writer())
	stdlog.SetOutput(&logged)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simulate.IdleBytes(time.Second, "HTTP/1.1 400 Bad\r\nX: s3cret-value\r\n\r\n")(write("ok")), nil)
		for range 3 {
			_, e := w.get(t, "/")
			require.Nil(t, e)
			time.Sleep(2 * time.Second)
		}
	})
	assert.Equal(t, 3, strings.Count(logged.String(), "Unsolicited response received on idle HTTP channel"))
}

// No request leaves without the gate, whatever the network does: at most as many as
// the quota allows arrive, in any window.
func TestTheQuotaHolds(t *testing.T) {
	defer stdlog.SetOutput(stdlog.Writer())
	stdlog.SetOutput(io.Discard)
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			limit := quota.Limit{Requests: 2, Per: time.Second, Burst: 3}
			arrived := &simulate.Recorder{}
			var n atomic.Uint64
			random := func(n uint64) int { return rand.New(rand.NewPCG(seed, n)).Int() } // for concurrent use
			faults := []simulate.Fault{
				simulate.Body("fine"), simulate.Redirect(302, "/base/next"), simulate.BreakReused(true), simulate.BreakReused(false),
				simulate.ResetAfter(0), simulate.Status(429, "", "", http.Header{"Retry-After": {"3"}}), simulate.HTML(502), simulate.Gzip(),
				simulate.IdleBytes(100*time.Millisecond, "x"),
			}
			w := newWorld(t, arrived.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				faults[random(n.Add(1))%len(faults)](write("ok")).ServeHTTP(w, r)
			})), func(o *httpapi.Options) { o.Gate = gate.New("id", limit, &record{}) })
			results := make(chan struct{})
			for range 8 {
				go func() {
					for range 15 {
						_ = w.Do(t.Context(), providers.Call{Path: "/"})
						time.Sleep(700 * time.Millisecond)
					}
					results <- struct{}{}
				}()
			}
			for range 8 {
				<-results
			}
			times := arrived.Arrivals()
			require.Greater(t, len(times), 10)
			for i := range times {
				for j := i; j < len(times); j++ {
					window := times[j].Time.Sub(times[i].Time)
					if over := int64(j-i+1-limit.Burst)*int64(limit.Per) - int64(window)*int64(limit.Requests); over > 0 {
						t.Fatalf("%d requests in %v", j-i+1, window)
					}
				}
			}
			assert.GreaterOrEqual(t, len(w.codes.seen), len(times), "each one is counted")
		})
	}
}
