package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/common/version"

	"github.com/balance-exporter/balance_exporter/providers"
)

// request is what is sent, apart from the credentials. It can be sent again.
type request struct {
	method string
	url    *url.URL
	header http.Header
	body   []byte
}

func (c *Client) newRequest(call providers.Call) (*request, error) {
	base, ok := c.opts.Hosts[call.Host]
	if !ok {
		return nil, fmt.Errorf("the provider has no host %q", call.Host)
	}
	target := strings.TrimSuffix(base.String(), "/") + call.Path
	if call.Query != "" {
		target += "?" + call.Query
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("the path and query of a call to host %q are not valid in a URL", call.Host)
	}
	header := http.Header{"User-Agent": {"balance_exporter/" + cmp.Or(version.Version, "dev")}, "Accept": {"application/json"}}
	for _, lines := range []http.Header{c.opts.Header, call.Header} {
		for name, values := range lines {
			header[http.CanonicalHeaderKey(name)] = values
		}
	}
	header.Set("Accept-Encoding", "gzip")
	return &request{method: cmp.Or(call.Method, http.MethodGet), url: u, header: header, body: call.Body}, nil
}

// http returns the request for the transport.
func (r *request) http(ctx context.Context, credentials http.Header) *http.Request {
	header := r.header.Clone()
	maps.Copy(header, credentials)
	req := &http.Request{Method: r.method, URL: r.url, Host: r.url.Host, Header: header}
	// The transport repeats a request by itself if a reused connection breaks,
	// unless the request has a body and no GetBody. A GET gets a body that is read,
	// found empty, and not sent.
	if r.body != nil || r.method != http.MethodPost {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(r.body)), int64(len(r.body))
	}
	return req.WithContext(ctx)
}

// redirect returns the request that resp redirects to; nil if it does not. A
// redirect that leaves the place where the credentials belong is refused.
func (r *request) redirect(resp *http.Response) (*request, *providers.Error) {
	location := resp.Header.Get("Location")
	if location == "" {
		return nil, nil
	}
	next := *r
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		next.method, next.body, next.header = http.MethodGet, nil, r.header.Clone()
		next.header.Del("Content-Type")
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	u, err := r.url.Parse(location)
	switch {
	case err != nil:
		// The error quotes the address, where a secret may be escaped twice.
		return nil, redirectRefused("its address cannot be read")
	case u.Scheme != "http" && u.Scheme != "https":
		// Not shown: parsing changes the case of a scheme, so that a secret in it
		// would not be masked.
		return nil, redirectRefused("to another scheme than http and https")
	case origin(u) != origin(r.url):
		return nil, redirectRefused("from %s://%s to %s://%s", r.url.Scheme, r.url.Host, u.Scheme, u.Host)
	}
	next.url = u
	return &next, nil
}

func redirectRefused(format string, args ...any) *providers.Error {
	return providers.Errorf(providers.ReasonBadResponse, "redirect refused: "+format, args...)
}

// origin returns scheme, host and effective port of u in one spelling.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + " " + port
}
