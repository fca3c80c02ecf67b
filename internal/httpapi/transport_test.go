package httpapi_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	promconfig "github.com/prometheus/common/config"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
)

func trustSimulator(t testing.TB) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM([]byte(simulate.CA())))
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

func proxied(t testing.TB, proxy string, header promconfig.ProxyHeader) config.HTTP {
	t.Helper()
	return config.HTTP{
		Proxy: promconfig.ProxyConfig{ProxyURL: promconfig.URL{URL: parse(t, proxy)}, ProxyConnectHeader: header},
		TLS:   promconfig.TLSConfig{CA: simulate.CA()},
	}
}

// A proxy that does not pass on a request is named as the one who answered, over
// plain HTTP and over a tunnel, and what it echoes is masked.
func TestProxyRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		base   string
		status int
		want   string
	}{
		"407 of a tunnel": {"https://h.example", 407,
			"bad_request: the proxy, not the provider, answered with HTTP status 407 (Proxy Authentication Required); correct the credentials in http.proxy_url or http.proxy_connect_header"},
		"407 without a tunnel": {"http://h.example", 407,
			"bad_request: the proxy, not the provider, answered with HTTP status 407 (Proxy Authentication Required); correct the credentials in http.proxy_url or http.proxy_connect_header"},
		"503 of a tunnel": {"https://h.example", 503,
			"unavailable: the proxy, not the provider, answered with HTTP status 503 (Service Unavailable)"},
		"429 of a tunnel": {"https://h.example", 429,
			"unavailable: the proxy, not the provider, answered with HTTP status 429 (Too Many Requests)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				settings := proxied(t, "http://user:p%40ssword@proxy.example:3128", nil)
				var echoed string
				w := newWorld(t, nil, func(o *httpapi.Options) {
					o.Hosts[""] = parse(t, c.base)
					rt, err := httpapi.NewTransport("a", settings, nil)
					require.NoError(t, err)
					o.Transport = rt
				}, httpapi.ProxySecrets(settings)...)
				w.network.Handle("proxy.example:3128", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					echoed = r.Header.Get("Proxy-Authorization")
					http.Error(rw, echoed, c.status)
				}))
				w.opts.Transport.(*http.Transport).DialContext = w.network.DialContext
				e := w.do(t, providers.Call{})
				require.NotNil(t, e)
				assert.Equal(t, c.want, e.Error())
				assert.Equal(t, c.status, e.Status)
				assert.Equal(t, "Basic "+base64.StdEncoding.EncodeToString([]byte("user:p@ssword")), echoed)
				assert.Equal(t, "Basic <secret>", w.opts.Mask.String(echoed))
				w.opts.Transport.(*http.Transport).CloseIdleConnections()
			})
		})
	}
}

func TestProxySecrets(t *testing.T) {
	c := proxied(t, "http://user:p%40ssword@proxy:3128", promconfig.ProxyHeader{"Proxy-Authorization": {"Bearer t0ken"}})
	basic := base64.StdEncoding.EncodeToString([]byte("user:p@ssword"))
	assert.Equal(t, []string{"Bearer t0ken", "t0ken", "p@ssword", basic, "p@ssword", basic}, httpapi.ProxySecrets(c))
	assert.Empty(t, httpapi.ProxySecrets(config.HTTP{}))

	t.Setenv("HTTPS_PROXY", "user:env-p4ss@proxy:3128")
	t.Setenv("HTTP_PROXY", "")
	t.Setenv("http_proxy", "")
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	assert.Empty(t, httpapi.ProxySecrets(config.HTTP{}), "the environment is not used unless it is configured")
	assert.Contains(t, httpapi.ProxySecrets(config.HTTP{Proxy: promconfig.ProxyConfig{ProxyFromEnvironment: true}}), "env-p4ss")
}

// A file with a CA is read again when it changes.
func TestCAFile(t *testing.T) {
	server := httptest.NewTLSServer(write("ok"))
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	file := filepath.Join(t.TempDir(), "ca.pem")
	settings := config.HTTP{TLS: promconfig.TLSConfig{CAFile: file}}
	_, err := httpapi.NewTransport("a", settings, nil)
	require.ErrorContains(t, err, "account a: http: ")

	require.NoError(t, os.WriteFile(file, []byte(simulate.CA()), 0o600))
	rt, err := httpapi.NewTransport("a", settings, nil)
	require.NoError(t, err)
	w := newWorld(t, nil, func(o *httpapi.Options) {
		o.Hosts[""] = parse(t, server.URL)
		o.Transport = rt
	})
	_, e := w.get(t, "/")
	require.NotNil(t, e)
	assert.Equal(t, providers.ReasonTLS, e.Reason)

	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(file, ca, 0o600))
	text, e := w.get(t, "/")
	require.Nil(t, e)
	assert.Equal(t, "ok", text)
}
