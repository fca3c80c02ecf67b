package config

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	promconfig "github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"
	"golang.org/x/net/http/httpguts"

	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	defaultTimeout = 30 * time.Second
	// maxRecovery bounds the time in which an empty bucket becomes full, so that
	// no calculation with it overflows.
	maxRecovery = 10 * 365 * 24 * time.Hour
)

// common are the keys that every account has.
type common struct {
	Account `yaml:",inline"`
	BaseURL string            `yaml:"base_url"`
	Hosts   map[string]string `yaml:"hosts"`
	Headers map[string]string `yaml:"headers"`
}

// newAccount checks the common keys of the account s and leaves the others to its
// provider.
func newAccount(s *Section, known []providers.Provider) (*Account, error) {
	name, _ := find(s.node, "provider")
	var defaults providers.Provider // its name stays empty if it is unknown
	names := make([]string, len(known))
	for i, p := range known {
		if names[i] = p.Name; p.Name == name.Value {
			defaults = p
		}
	}
	if defaults.Load != nil {
		var err error
		if defaults, err = defaults.Load(); err != nil {
			return nil, err
		}
	}
	c := common{BaseURL: defaults.BaseURL}
	c.Configure = defaults.Configure
	c.RateLimit, c.Timeout, c.Section = defaults.RateLimit, defaultTimeout, s
	if s.node.Kind != yaml.MappingNode {
		return nil, s.wrongType(s.node, s.path, "a mapping")
	}
	targets := make(map[string]reflect.Value)
	s.skip = fields(reflect.ValueOf(&c).Elem(), targets)
	for _, key := range s.skip {
		if s.Has(key) {
			n, _ := find(s.node, key)
			if err := s.value(n, join(s.path, key), targets[key]); err != nil {
				return nil, err
			}
		}
	}
	oneOf, l := "write one of "+strings.Join(names, ", "), c.RateLimit
	for _, check := range []struct {
		bad           bool
		path, message string
	}{
		{strings.TrimSpace(c.Name) == "", "name", "the account has no name; give it one, it becomes the label account"},
		{!utf8.ValidString(c.Name), "name", "the name is not valid UTF-8; change its encoding"},
		{c.Provider == "", "provider", "the account has no provider; " + oneOf},
		{defaults.Name == "", "provider", fmt.Sprintf("unknown provider %.60q; %s", written(name), oneOf)},
		{c.Timeout <= 0, "timeout", "the timeout must be more than 0; write one such as 30s"},
		{l.Requests < 1, "rate_limit.requests", "there must be at least 1 request; write a whole number from 1"},
		{l.Per <= 0, "rate_limit.per", "the time must be more than 0; write one such as 1s"},
		{l.Burst < 1, "rate_limit.burst", "the burst must be at least 1; write a whole number from 1"},
		{
			l.Per.Seconds()/float64(l.Requests)*float64(l.Burst) > maxRecovery.Seconds(), "rate_limit",
			"a used-up burst would take more than 10 years to come back; lower burst or per",
		},
	} {
		if check.bad {
			return nil, s.Errorf(check.path, "%s", check.message)
		}
	}
	return &c.Account, cmp.Or(c.setURLs(s, defaults.Hosts), c.setHeader(s), checkHTTP(s, &c.HTTP))
}

// setURLs sets the base URL and the hosts of the provider, some of which the
// account may replace.
func (c *common) setURLs(s *Section, hosts map[string]string) (err error) {
	if c.BaseURL == "" {
		return s.Errorf("base_url", "is required: the address of this provider differs from account to account; write one such as https://api.example.com")
	}
	if c.Account.BaseURL, err = parseURL(s, "base_url", c.BaseURL); err != nil {
		return err
	}
	c.Account.Hosts = make(map[string]*url.URL)
	texts := maps.Clone(hosts)
	for _, name := range slices.Sorted(maps.Keys(c.Hosts)) {
		if _, known := hosts[name]; !known {
			return s.Errorf(join("hosts", keyStep(name)), "unknown host; %s", didYouMean(name, slices.Sorted(maps.Keys(hosts))))
		}
		texts[name] = c.Hosts[name]
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if c.Account.Hosts[name], err = parseURL(s, join("hosts", keyStep(name)), texts[name]); err != nil {
			return err
		}
	}
	return nil
}

// parseURL checks the address of a host. Its errors do not show it: it may hold a
// password.
func parseURL(s *Section, path, text string) (*url.URL, error) {
	const example = "write one such as https://api.example.com"
	u, err := url.Parse(text)
	switch extra := strings.IndexAny(text, "?#"); {
	case err != nil:
		return nil, s.Errorf(path, "not a valid URL; "+example)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, s.Errorf(path, "the URL must start with https:// or http://; "+example)
	case u.Hostname() == "":
		return nil, s.Errorf(path, "the URL has no host; "+example)
	case !isPort(cmp.Or(u.Port(), "443")) || strings.HasSuffix(u.Host, ":"):
		return nil, s.Errorf(path, "the port of the URL must be from 1 to 65535; correct or remove it")
	case u.User != nil:
		return nil, s.Errorf(path, "the URL must not hold a user or password; use the provider's own keys for these")
	case extra >= 0:
		return nil, s.Errorf(path, "the URL must not have a query or fragment; remove the %c and what follows it", text[extra])
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		s.Warnf(path, "http:// sends the credentials unencrypted to another host; use https://")
	}
	return u, nil
}

func isPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

func isLoopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}

var (
	credentialHeader = regexp.MustCompile(`(?i)^(proxy-)?authorization$|^cookie$`)
	// unsafeHeader matches what belongs to one connection (RFC 9110, section 7.6.1),
	// what the exporter sets itself, and what makes an answer other than whole.
	unsafeHeader = regexp.MustCompile(`(?i)^(connection|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade|` +
		`accept-encoding|content-.*|host|expect|if-.*|range)$`)
)

// setHeader does not show values in its errors: one may be a secret after all.
func (c *common) setHeader(s *Section) error {
	c.Header = make(http.Header)
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		path := join("headers", keyStep(name))
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return s.Errorf(path, "not the name of a header; write one such as X-Team, without spaces and colons")
		case credentialHeader.MatchString(name):
			return s.Errorf(path, "credentials do not belong here; use the provider's own keys for these")
		case unsafeHeader.MatchString(name):
			return s.Errorf(path, "this header would break requests or answers; remove it")
		case c.Header.Values(name) != nil:
			return s.Errorf(path, "this header is already set in another case; remove one of them")
		case !httpguts.ValidHeaderFieldValue(c.Headers[name]):
			return s.Errorf(path, "the value must be one line without control characters; correct it")
		}
		c.Header.Set(name, c.Headers[name])
	}
	return nil
}

// checkHTTP checks h and makes its paths relative to the working directory.
func checkHTTP(s *Section, h *HTTP) error {
	if u := h.Proxy.ProxyURL.URL; u != nil && u.String() == "" {
		h.Proxy.ProxyURL.URL = nil // as if not given
	} else if u != nil && (u.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme)) {
		return s.Errorf("http.proxy_url", "the proxy must be a whole http, https or socks5 URL; write one such as http://proxy:3128")
	}
	if err := h.Proxy.Validate(); err != nil {
		return s.Errorf("http", "%s; set or remove one of them", err)
	}
	h.TLS.SetDirectory(s.doc.dir)
	for _, f := range [][2]string{{"ca_file", h.TLS.CAFile}, {"cert_file", h.TLS.CertFile}, {"key_file", h.TLS.KeyFile}} {
		path := "http.tls_config." + f[0]
		if err := checkFile(f[1]); f[1] != "" && err != nil {
			return s.Errorf(path, "%s; name a file in PEM format", strings.ReplaceAll(err.Error(), f[1], s.Path(s.written(path))))
		}
	}
	if _, err := promconfig.NewTLSConfig(&h.TLS); err != nil {
		return s.Errorf("http.tls_config", "%s; correct the files or texts named here", err)
	}
	return nil
}
