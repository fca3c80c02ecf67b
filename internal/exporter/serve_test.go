package exporter

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/logging"
)

// lines passes on each line of a log.
type lines chan string

// Write implements [io.Writer].
func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// served is an exporter that serves on a port of loopback.
type served struct {
	*bench
	lines lines
	stop  context.CancelCauseFunc
	done  chan error
	hup   chan os.Signal
}

// serveOn starts to serve at address with a web configuration.
func serveOn(t *testing.T, address, webConfig string) *served {
	s := &served{bench: benchOf(t, twoAccounts, nil), lines: make(lines, 100), done: make(chan error, 1), hup: make(chan os.Signal)}
	logger, err := logging.New(s.lines, "info", logging.Logfmt, s.masks.String)
	require.NoError(t, err)
	s.logger = logger
	systemd := false
	s.opts.Web = &web.FlagConfig{WebListenAddresses: &[]string{address}, WebSystemdSocket: &systemd, WebConfigFile: &webConfig}
	ctx, stop := context.WithCancelCause(t.Context())
	s.stop = stop
	go func() { s.done <- s.run(ctx, s.hup, io.Discard, io.Discard) }()
	return s
}

// line waits for a line that matches, and returns its first group.
func (s *served) line(pattern string) string {
	s.t.Helper()
	r := regexp.MustCompile(pattern)
	for {
		select {
		case line := <-s.lines:
			if m := r.FindStringSubmatch(line); m != nil {
				return m[1]
			}
		case err := <-s.done:
			if len(s.lines) == 0 {
				s.t.Fatalf("ended without %s: %v", pattern, err)
			}
			s.done <- err // the line may be among the last
		}
	}
}

const servingLine = `msg="serving metrics" url=(\S+) `

// The logged address is that of a bound port, with the true scheme: a client can
// use it at once.
func TestLoggedAddress(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(cert.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert.TLS.Certificates[0].Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: der},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	webConfig := filepath.Join(dir, "web.yml")
	require.NoError(t, os.WriteFile(webConfig, []byte("tls_server_config: {cert_file: cert.pem, key_file: key.pem}"), 0o600))
	for _, c := range []struct{ address, webConfig, want string }{
		{"127.0.0.1:0", "", `^http://127\.0\.0\.1:\d+/metrics$`},
		{"127.0.0.1:0", webConfig, `^https://127\.0\.0\.1:\d+/metrics$`},
		{":0", "", `^http://localhost:\d+/metrics$`},
	} {
		s := serveOn(t, c.address, c.webConfig)
		url := s.line(servingLine)
		require.Regexp(t, c.want, url)
		client := &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, //nolint:gosec // a self-signed certificate
		}}
		resp, err := client.Get(url + "?collect[]=exporter")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		s.stop(errors.New("terminated"))
		require.NoError(t, <-s.done)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	s := serveOn(t, l.Addr().String(), "")
	require.ErrorContains(t, <-s.done, "cannot serve: listen tcp "+l.Addr().String()+": bind: address already in use")
	close(s.lines)
	for line := range s.lines {
		require.NotContains(t, line, "serving metrics")
	}
}

// SIGHUP reloads. A bad configuration is an error in the log, and no end.
func TestHangup(t *testing.T) {
	s := serveOn(t, "127.0.0.1:0", "")
	s.line(servingLine)
	s.configure("accounts: []")
	s.hup <- syscall.SIGHUP
	s.line(`level=error msg="configuration not reloaded, the previous one stays active" err="(.*accounts.*)"`)
	s.configure(twoAccounts)
	s.hup <- syscall.SIGHUP
	s.line(`msg="configuration (loaded)" accounts=2`)
	s.stop(errors.New("terminated"))
	require.Equal(t, "terminated", s.line(`msg="shutting down" cause=(\S+)`))
	require.NoError(t, <-s.done)
}

// A file or mount that hangs during the start does not delay the end.
func TestEndWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := benchOf(t, twoAccounts, nil)
		released := make(chan struct{})
		b.transport = func(string, config.HTTP) (http.RoundTripper, error) {
			<-released
			return nil, errors.New("released")
		}
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { stop(errors.New("terminated")) })
		start := time.Now()
		require.EqualError(t, b.run(ctx, nil, io.Discard, io.Discard), "terminated")
		require.Equal(t, time.Minute, time.Since(start))
		close(released)
	})
}

// pipes is a listener whose connections are in memory.
type pipes struct {
	conns chan net.Conn
	once  atomic.Bool
}

// Accept implements [net.Listener].
func (p *pipes) Accept() (net.Conn, error) {
	if c, ok := <-p.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

// Close implements [net.Listener].
func (p *pipes) Close() error {
	if p.once.CompareAndSwap(false, true) {
		close(p.conns)
	}
	return nil
}

// Addr implements [net.Listener].
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A scrape in flight is answered after SIGTERM, and one that hangs is cut off after ten
// seconds.
func TestShutDown(t *testing.T) {
	for answer, end := range map[time.Duration]time.Duration{3 * time.Second: 3 * time.Second, time.Hour: shutdownTime} {
		t.Run(answer.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					select {
					case <-time.After(answer):
					case <-r.Context().Done():
					}
				})}
				l := &pipes{conns: make(chan net.Conn)}
				go func() { _ = server.Serve(l) }()
				client, conn := net.Pipe()
				l.conns <- conn
				status := make(chan string, 1)
				go func() {
					_, _ = fmt.Fprint(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
					text, _ := io.ReadAll(client)
					status <- string(text[:min(15, len(text))])
				}()
				synctest.Wait()
				start := time.Now()
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				require.NoError(t, shutDown(ctx, server))
				require.InDelta(t, end, time.Since(start), float64(time.Second), "net/http polls")
				require.Equal(t, map[bool]string{true: "HTTP/1.1 200 OK", false: ""}[answer < shutdownTime], <-status)
			})
		})
	}
}
