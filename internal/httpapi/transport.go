package httpapi

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"

	"github.com/balance-exporter/balance_exporter/internal/config"
)

const (
	idleConnTimeout     = 5 * time.Minute // longer than most refresh intervals, to keep connections
	idleConnsPerHost    = 1000            // as many as an account sends at a time
	tlsHandshakeTimeout = 10 * time.Second
	maxHeader           = 1 << 20 // bytes of the header of an answer
)

// NewTransport returns a transport that follows an account's proxy and TLS
// settings, and reads a file with a CA again when it changes. HTTP/2 is off: the
// requests are few and small, and HTTP/2 would repeat some of them by itself. An
// answer is not decompressed; [Client] does that. dial replaces the network; nil for the
// real one.
func NewTransport(name string, c config.HTTP, dial func(ctx context.Context, network, addr string) (net.Conn, error)) (http.RoundTripper, error) {
	tlsConfig, err := promconfig.NewTLSConfig(&c.TLS)
	if err != nil {
		return nil, fmt.Errorf("account %s: http: %w", name, err)
	}
	transport := func(tlsConfig *tls.Config) (http.RoundTripper, error) {
		return &http.Transport{
			DialContext:            dial,
			Proxy:                  c.Proxy.Proxy(),
			ProxyConnectHeader:     c.Proxy.GetProxyConnectHeader(),
			OnProxyConnectResponse: checkProxy,
			TLSClientConfig:        tlsConfig,
			TLSHandshakeTimeout:    tlsHandshakeTimeout,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    idleConnsPerHost,
			IdleConnTimeout:        idleConnTimeout,
			MaxResponseHeaderBytes: maxHeader,
		}, nil
	}
	if c.TLS.CAFile == "" {
		return transport(tlsConfig)
	}
	settings := promconfig.TLSRoundTripperSettings{CA: promconfig.NewFileSecret(c.TLS.CAFile)}
	rt, err := promconfig.NewTLSRoundTripper(tlsConfig, settings, transport)
	if err != nil {
		return nil, fmt.Errorf("account %s: http: %w", name, err)
	}
	return rt, nil
}

func checkProxy(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return proxyRefused(resp.StatusCode)
	}
	return nil
}

// ProxySecrets returns the credentials that are sent to proxies, which must be
// masked: a proxy may echo them. They come from the configuration or, with
// proxy_from_environment, from the environment.
func ProxySecrets(c config.HTTP) []string {
	var secrets []string
	for _, values := range c.Proxy.ProxyConnectHeader {
		for _, value := range values {
			secrets = append(secrets, string(value))
			if _, credentials, ok := strings.Cut(string(value), " "); ok { // as in "Basic …"
				secrets = append(secrets, credentials)
			}
		}
	}
	proxyFor := c.Proxy.Proxy()
	if proxyFor == nil {
		return secrets
	}
	for _, scheme := range []string{"http", "https"} {
		proxy, err := proxyFor(&http.Request{URL: &url.URL{Scheme: scheme, Host: "provider.invalid"}})
		if err != nil || proxy == nil {
			continue
		}
		if password, ok := proxy.User.Password(); ok {
			basic := base64.StdEncoding.EncodeToString([]byte(proxy.User.Username() + ":" + password))
			secrets = append(secrets, password, basic)
		}
	}
	return secrets
}
