package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
)

// codes notes the codes of the requests that were sent.
type codes struct{ ch chan string }

func (c codes) Request(_, _, code string, _ time.Duration) { c.ch <- code }

func newClient(transport http.RoundTripper, base string, gate *httpapi.Gate, secrets ...*secret.Value) (*httpapi.Client, codes) {
	u, err := url.Parse(base)
	if err != nil {
		panic(err)
	}
	seen := codes{make(chan string, 100)}
	return httpapi.New(httpapi.Options{
		Provider: "p", Account: "a", BaseURL: u, Timeout: 10 * time.Second, Transport: transport, Gate: gate,
		Slots: httpapi.NewSlots(1), Mask: secret.NewMask(secrets...), Observer: seen, Logger: log.NewNopLogger(),
	}), seen
}

func plenty() *httpapi.Gate {
	return httpapi.NewGate(quota.Limit{Requests: 1000, Per: time.Second, Burst: 1000})
}

func get(c *httpapi.Client, path string) (string, *providers.Error) {
	var text string
	err := c.Do(context.Background(), providers.Call{Path: path, Decode: func(body io.Reader) error {
		b, err := io.ReadAll(body)
		text = string(b)
		return err
	}})
	return text, providers.AsError(err)
}

func TestAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, seen := newClient(simulate.Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "/base/path", r.URL.Path)
			assert.Equal(t, "application/json", r.Header.Get("Accept"))
			_, _ = io.WriteString(w, "fine")
		})), "http://h.example/base/", plenty())
		text, err := get(client, "/path")
		assert.Nil(t, err)
		assert.Equal(t, "fine", text)
		assert.Equal(t, "200", <-seen.ch)
	})
}

func TestTimeoutDoesNotCountTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(quota.Limit{Requests: 1, Per: time.Minute, Burst: 1})
		require.NoError(t, gate.Wait(t.Context()))
		client, _ := newClient(simulate.Transport(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), "http://h.example", gate)
		start := time.Now()
		_, err := get(client, "/")
		assert.Nil(t, err)
		assert.Equal(t, time.Minute, time.Since(start))
	})
}

func TestHangIsATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, seen := newClient(simulate.Transport(simulate.Hang()(nil)), "http://h.example", plenty())
		start := time.Now()
		_, err := get(client, "/")
		assert.Equal(t, providers.ReasonTimeout, err.Reason)
		assert.Equal(t, 10*time.Second, time.Since(start))
		assert.Equal(t, "error", <-seen.ch)
	})
}

func TestWaitForAPlaceIsNoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := newClient(simulate.Transport(simulate.SlowDrip(time.Second, 1)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "12345678")
		}))), "http://h.example", plenty())
		results := make(chan error, 3)
		for range 3 {
			go func() {
				results <- client.Do(t.Context(), providers.Call{Large: true, Decode: func(body io.Reader) error {
					_, err := io.ReadAll(body)
					return err
				}})
			}()
		}
		for range 3 {
			assert.NoError(t, <-results, "three answers of 8 s, one after the other, and 10 s for each")
		}
	})
}

func TestRedirects(t *testing.T) {
	for name, c := range map[string]struct {
		to     string
		code   int
		reason providers.Reason
		sent   int
	}{
		"same place":   {"/there", 302, "", 2},
		"other host":   {"http://evil.example/there", 302, providers.ReasonBadResponse, 1},
		"other port":   {"http://h.example:8080/there", 307, providers.ReasonBadResponse, 1},
		"other scheme": {"https://h.example/there", 301, providers.ReasonBadResponse, 1},
		"endless":      {"/", 302, providers.ReasonBadResponse, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					sent++
					if r.URL.Path == "/" {
						http.Redirect(w, r, c.to, c.code)
						return
					}
					_, _ = io.WriteString(w, "there")
				})
				network := &simulate.Network{}
				for _, host := range []string{"h.example", "evil.example", "h.example:8080"} {
					network.Handle(host, handler)
				}
				client, _ := newClient(network, "http://h.example", plenty())
				text, err := get(client, "/")
				assert.Equal(t, c.sent, sent)
				if c.reason == "" {
					assert.Nil(t, err)
					assert.Equal(t, "there", text)
					return
				}
				assert.Equal(t, c.reason, err.Reason)
			})
		})
	}
}

func TestSecretsAreMasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := newClient(simulate.Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
		})), "http://h.example", plenty(), secret.Inline("s3cret/value"))
		client.Mask("token-abc")
		err := client.Do(t.Context(), providers.Call{Check: func(a providers.Answer) *providers.Error {
			return providers.Errorf(providers.ReasonUnavailable, "said s3cret/value and s3cret%%2Fvalue and token-abc")
		}})
		assert.Equal(t, "unavailable: said <secret> and <secret> and <secret>", err.Error())
	})
}

// An address is changed by being parsed or quoted, so that a secret in it would not
// be found and masked.
func TestSecretsInRedirectsAreNotShown(t *testing.T) {
	for location, message := range map[string]string{
		"S3Cret-Value://h.example/":               "redirect refused: to another scheme than http and https",
		`http://[{\"password\":\"S3Cret-Value\"}`: "redirect refused: its address cannot be read",
	} {
		synctest.Test(t, func(t *testing.T) {
			client, _ := newClient(simulate.Transport(simulate.Redirect(http.StatusFound, location)(nil)),
				"http://h.example", plenty(), secret.Inline("S3Cret-Value"))
			_, err := get(client, "/")
			assert.Equal(t, providers.ReasonBadResponse, err.Reason)
			assert.Contains(t, err.Message, message)
			assert.NotContains(t, strings.ToLower(err.Message), "s3cret")
		})
	}
}

func TestACutSecretIsMasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := newClient(simulate.Transport(simulate.Status(http.StatusBadRequest, "text/plain", "key s3cret/value", nil)(nil)),
			"http://h.example", plenty(), secret.Inline("s3cret/value"))
		err := client.Do(t.Context(), providers.Call{Check: func(a providers.Answer) *providers.Error {
			return providers.Errorf(providers.ReasonBadRequest, "%s", a.Body[:10])
		}})
		assert.Equal(t, "bad_request: key <secre", err.Error())
	})
}

// The transport of net/http repeats a GET by itself when a kept-alive connection
// ends before the answer. Each request must pass the gate.
func TestNothingIsSentBehindTheGatesBack(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	var requests atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				reader := bufio.NewReader(conn)
				for i := 0; ; i++ {
					req, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					assert.Equal(t, int64(0), req.ContentLength, "no body is announced")
					requests.Add(1)
					if i == 1 {
						return // the second request on a connection is read, and never answered
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}()
		}
	}()
	transport, err := httpapi.NewTransport("a", config.HTTP{})
	require.NoError(t, err)
	client, _ := newClient(transport, "http://"+listener.Addr().String(), plenty())
	_, first := get(client, "/")
	assert.Nil(t, first)
	_, second := get(client, "/")
	require.NotNil(t, second)
	assert.Equal(t, providers.ReasonUnavailable, second.Reason)
	assert.Equal(t, int32(2), requests.Load(), "the transport has repeated a request")
}

func TestFailuresOfTheConnection(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	secure.Config.ErrorLog = nil
	transport, err := httpapi.NewTransport("a", config.HTTP{})
	require.NoError(t, err)
	const banner = "SSH-2.0-nonsense\r\n\r\n"
	speaksFirst := listen(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, banner)
		_, _ = io.Copy(io.Discard, conn)
	})
	answers := listen(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1))
		_, _ = io.WriteString(conn, banner)
		_, _ = io.Copy(io.Discard, conn)
	})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_ = closed.Close()
	for name, c := range map[string]struct {
		base   string
		reason providers.Reason
	}{
		"nobody listens":            {"http://" + closed.Addr().String(), providers.ReasonUnavailable},
		"no such host":              {"http://no-such-host.invalid", providers.ReasonUnavailable},
		"certificate not known":     {secure.URL, providers.ReasonTLS},
		"https to a plain port":     {strings.Replace(plain.URL, "http:", "https:", 1), providers.ReasonTLS},
		"an answer that is no HTTP": {"http://" + answers, providers.ReasonBadResponse},
		"a server of another kind":  {"http://" + speaksFirst, providers.ReasonBadResponse},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := newClient(transport, c.base, plenty())
			_, err := get(client, "/")
			require.NotNil(t, err)
			assert.Equal(t, c.reason, err.Reason, err.Message)
		})
	}
}

// listen serves each connection until the client closes it, and returns the address.
func listen(t *testing.T, serve func(net.Conn)) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		done.Wait()
	})
	return listener.Addr().String()
}

func TestBodyBounds(t *testing.T) {
	for _, c := range []struct {
		size  int
		large bool
		fine  bool
	}{
		{httpapi.MaxBody, false, true}, {httpapi.MaxBody + 1, false, false},
		{httpapi.MaxLargeBody, true, true}, {httpapi.MaxLargeBody + 1, true, false},
	} {
		t.Run(fmt.Sprint(c.size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, _ := newClient(simulate.Transport(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					chunk := make([]byte, 1<<16)
					for left := c.size; left > 0; left -= len(chunk) {
						if _, err := w.Write(chunk[:min(left, len(chunk))]); err != nil {
							return
						}
					}
				})), "http://h.example", plenty())
				err := client.Do(t.Context(), providers.Call{Large: c.large, Decode: func(r io.Reader) error {
					n, err := io.Copy(io.Discard, r)
					if err == nil {
						assert.Equal(t, int64(c.size), n)
					}
					return err
				}})
				if c.fine {
					assert.NoError(t, err)
					return
				}
				assert.Equal(t, providers.ReasonBadResponse, providers.AsError(err).Reason)
			})
		})
	}
}

func TestDecodeErrorIsABadResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := newClient(simulate.Transport(simulate.Body("{")(nil)), "http://h.example", plenty())
		err := client.Do(t.Context(), providers.Call{Decode: func(r io.Reader) error {
			var v any
			return json.NewDecoder(r).Decode(&v)
		}})
		assert.Equal(t, providers.ReasonBadResponse, providers.AsError(err).Reason)
	})
}

// The header lines that Authorize returns are those of the moment in which the
// request is sent, on every hop.
func TestAuthorize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(quota.Limit{Requests: 1, Per: time.Minute, Burst: 1})
		var seen []string
		client, _ := newClient(simulate.Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, r.URL.Path+" "+r.Header.Get("Authorization")+" "+r.Header.Get("X-Kept"))
			if r.URL.Path == "/first" {
				http.Redirect(w, r, "/second", http.StatusFound)
			}
		})), "http://h.example", gate)
		start := time.Now()
		call := providers.Call{
			Path: "/first", Header: http.Header{"X-Kept": {"kept"}},
			Authorize: func() (http.Header, error) {
				return http.Header{"Authorization": {"at " + time.Since(start).String()}}, nil
			},
		}
		require.NoError(t, client.Do(t.Context(), call))
		require.NoError(t, client.Do(t.Context(), call))
		assert.Equal(t, []string{"/first at 0s kept", "/second at 1m0s kept", "/first at 2m0s kept", "/second at 3m0s kept"}, seen)
	})
}

// What cannot be authorized is not sent, and its turn goes to the next at once.
func TestAuthorizeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := httpapi.NewGate(quota.Limit{Requests: 1, Per: time.Minute, Burst: 1})
		require.NoError(t, gate.Wait(t.Context()))
		client, seen := newClient(simulate.Transport(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), "http://h.example", gate)
		start := time.Now()
		failed := make(chan error, 3)
		for range 3 {
			go func() {
				failed <- client.Do(t.Context(), providers.Call{Authorize: func() (http.Header, error) { return nil, providers.ErrNotAsked }})
			}()
		}
		synctest.Wait()
		_, err := get(client, "/")
		assert.Nil(t, err)
		for range 3 {
			assert.ErrorIs(t, <-failed, providers.ErrNotAsked)
		}
		assert.Equal(t, time.Minute, time.Since(start))
		assert.Equal(t, "200", <-seen.ch)
		assert.Empty(t, seen.ch)

		want := providers.Errorf(providers.ReasonAuth, "the file is gone")
		assert.Equal(t, want.Error(), client.Do(t.Context(), providers.Call{Authorize: func() (http.Header, error) { return nil, want }}).Error())
	})
}
