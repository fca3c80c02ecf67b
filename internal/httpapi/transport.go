package httpapi

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	promconfig "github.com/prometheus/common/config"

	"github.com/balance-exporter/balance_exporter/internal/config"
)

// NewTransport returns a transport that follows an account's proxy and TLS
// settings. HTTP/2 is off: the requests are few and small, and HTTP/2 would repeat
// some of them by itself.
func NewTransport(name string, c config.HTTP) (http.RoundTripper, error) {
	transport, err := promconfig.NewRoundTripperFromConfig(promconfig.HTTPClientConfig{
		ProxyConfig: c.Proxy,
		TLSConfig:   c.TLS,
	}, name, promconfig.WithHTTP2Disabled(), promconfig.WithIdleConnTimeout(idleConnTimeout))
	if err != nil {
		return nil, fmt.Errorf("account %s: http: %w", name, err)
	}
	return transport, nil
}

// once is the link of the chain that keeps the transport from repeating a request
// by itself, behind the gate's back. Go's transport repeats a GET when a kept-alive
// connection breaks before the answer, unless the request has a body that cannot
// be had again.
type once struct {
	next http.RoundTripper
}

func (l once) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.GetBody = nil
	if req.Body == nil || req.Body == http.NoBody {
		req.Body = io.NopCloser(bytes.NewReader(nil)) // read, found empty and not sent
	}
	return l.next.RoundTrip(req)
}
