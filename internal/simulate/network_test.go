package simulate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// text is a handler that writes s.
func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

// client returns a client of a network that ends with the test.
func client(t testing.TB, n *Network) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM([]byte(CA())))
	t.Cleanup(n.Close)
	return &http.Client{
		Transport:     &http.Transport{DialContext: n.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get returns the answer at url and all of its body.
func get(ctx context.Context, c *http.Client, url string) (resp *http.Response, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	if resp, err = c.Do(req); err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// fetch returns the answer of h at http://sim/.
func fetch(t *testing.T, h http.Handler) (resp *http.Response, body string, err error) {
	t.Helper()
	n := &Network{}
	n.Handle("sim", h)
	return get(t.Context(), client(t, n), "http://sim/")
}

func TestNetworkHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Network{}
		n.Handle("API.example.com", text("web"))
		n.Handle("api.example.com:8080", text("other"))
		n.Handle("[2001:db8::1]", text("six"))
		n.Handle("192.0.2.7", text("four"))
		c := client(t, n)
		for url, want := range map[string]string{
			"http://api.example.com/":        "web",
			"https://api.EXAMPLE.com/x":      "web",
			"https://api.example.com:443/":   "web",
			"http://api.example.com:8080/":   "other",
			"https://api.example.com:8080/":  "other",
			"https://user@api.example.com/y": "web",
			"https://[2001:db8::1]/":         "six",
			"https://192.0.2.7/":             "four",
		} {
			_, body, err := get(t.Context(), c, url)
			assert.NoError(t, err)
			assert.Equal(t, want, body, url)
		}
		_, _, err := get(t.Context(), c, "https://api.example.com:8443/")
		assert.ErrorIs(t, err, syscall.ECONNREFUSED)

		n.Handle("api.example.com", text("new"))
		_, body, err := get(t.Context(), c, "https://api.example.com/")
		assert.NoError(t, err)
		assert.Equal(t, "new", body, "on the connection from before")

		n.Handle("api.example.com:8080", nil)
		n.Handle("api.example.com", nil)
		_, _, err = get(t.Context(), c, "https://api.example.com/")
		var dns *net.DNSError
		require.ErrorAs(t, err, &dns)
		assert.True(t, dns.IsNotFound)
		assert.ErrorContains(t, err, "dial tcp api.example.com:443: lookup api.example.com: no such host")
	})
}

// A request arrives as it was sent, over one TLS connection.
func TestNetworkServesOverTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got *http.Request
		n := &Network{}
		n.Handle("sim:8443", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.Copy(w, r.Body)
		}))
		c := client(t, n)
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
		for _, again := range []bool{false, true} {
			sent := strings.Repeat("hello ", 100_000)
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://sim:8443/a%2Fb?q=1", strings.NewReader(sent))
			require.NoError(t, err)
			req.Header.Set("Expect", "100-continue")
			resp, err := c.Do(req)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.True(t, sent == string(body))
			assert.Equal(t, http.StatusTeapot, resp.StatusCode)
			assert.Equal(t, "Sat, 01 Jan 2000 00:00:00 GMT", resp.Header.Get("Date"))
			assert.Equal(t, "/a%2Fb?q=1", got.RequestURI)
			assert.Equal(t, "sim:8443", got.Host)
			assert.Equal(t, "sim", got.TLS.ServerName)
			assert.Equal(t, again, reused)
		}
	})
}

// Only who trusts CA gets an answer, and only by the right name.
func TestNetworkCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Network{}
		n.Handle("sim", text("x"))
		c := client(t, n)
		transport := c.Transport.(*http.Transport)
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return n.DialContext(ctx, network, "sim:443")
		}
		_, _, err := get(t.Context(), c, "https://other/")
		var name x509.HostnameError
		assert.ErrorAs(t, err, &name)
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		_, _, err = get(t.Context(), c, "https://sim/")
		var unknown x509.UnknownAuthorityError
		assert.ErrorAs(t, err, &unknown)
	})
}

// A minute's timeout takes a minute of the bubble, and the handler sees its client
// go, whatever it does.
func TestNetworkTimeouts(t *testing.T) {
	for name, serve := range map[string]http.HandlerFunc{
		"waits": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"waits in the body": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "begin")
			flush(w)
			<-r.Context().Done()
		},
		"writes": func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					<-r.Context().Done()
					return
				}
				time.Sleep(time.Second)
			}
		},
	} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var gone time.Time
					n := &Network{}
					n.Handle("sim", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						defer func() { gone = time.Now() }()
						serve(w, r)
					}))
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					start := time.Now()
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://sim/", strings.NewReader("a body"))
					require.NoError(t, err)
					resp, err := client(t, n).Do(req)
					if err == nil {
						_, err = io.ReadAll(resp.Body)
						_ = resp.Body.Close()
					}
					assert.ErrorIs(t, err, context.DeadlineExceeded)
					assert.Equal(t, time.Minute, time.Since(start))
					time.Sleep(10 * time.Second) // a write fails when the server's buffer is full
					synctest.Wait()
					assert.WithinRange(t, gone, start.Add(time.Minute), start.Add(time.Minute+10*time.Second))
				})
			})
		}
	}
}

// Close ends what hangs; without it these bubbles would not end.
func TestNetworkClose(t *testing.T) {
	for name, fault := range map[string]Fault{"handler": Hang(), "hijacked": SwitchProtocols(), "kept alive": BreakReused(false)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &Network{}
				n.Handle("sim", fault(text("x")))
				c := client(t, n)
				asked := make(chan struct{})
				go func() {
					defer close(asked)
					resp, err := c.Get("http://sim/")
					if err == nil {
						_ = resp.Body.Close()
					}
				}()
				idle, err := n.DialContext(t.Context(), "tcp", "sim:443")
				require.NoError(t, err)
				synctest.Wait()
				n.Close()
				n.Close()
				<-asked
				_, err = idle.Read(make([]byte, 1))
				assert.ErrorIs(t, err, io.EOF)
				_, _, err = get(t.Context(), c, "http://sim/")
				assert.ErrorIs(t, err, syscall.ECONNREFUSED)
			})
		})
	}
	(&Network{}).Close()
}

// BenchmarkNetwork shows what a request costs a property test.
func BenchmarkNetwork(b *testing.B) {
	for name, bench := range map[string]struct {
		url  string
		keep bool
	}{
		"http":                 {"http://sim/", true},
		"http new connection":  {"http://sim/", false},
		"https":                {"https://sim/", true},
		"https new connection": {"https://sim/", false},
	} {
		b.Run(name, func(b *testing.B) {
			n := &Network{}
			n.Handle("sim", text("x"))
			c := client(b, n)
			c.Transport.(*http.Transport).DisableKeepAlives = !bench.keep
			for b.Loop() {
				_, _, err := get(b.Context(), c, bench.url)
				require.NoError(b, err)
			}
		})
	}
}
