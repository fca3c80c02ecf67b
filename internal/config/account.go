package config

import (
	"cmp"
	"errors"
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

	promconfig "github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"
	"golang.org/x/net/http/httpguts"

	"github.com/balance-exporter/balance_exporter/internal/quota"
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
// provider. It returns no account without a known provider.
func newAccount(s *Section, known []providers.Provider) (*Account, error) {
	name, _ := find(s.node, "provider")
	defaults := providers.Provider{RateLimit: quota.Limit{Requests: 1, Per: time.Second, Burst: 1}} // of an unknown one
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
	var faults []error
	s.common = make(map[string]reflect.Value)
	s.skip = fields(reflect.ValueOf(&c).Elem(), s.common)
	for _, key := range s.skip {
		if s.Has(key) {
			n, _ := find(s.node, key)
			faults = append(faults, s.value(n, join(s.path, key), s.common[key]))
		}
	}
	oneOf, l := "write one of "+strings.Join(names, ", "), c.RateLimit
	for _, check := range []struct {
		bad           bool
		path, message string
	}{
		{strings.TrimSpace(c.Name) == "", "name", "the account has no name; give it one, it becomes the label account"},
		{c.Provider == "", "provider", "the account has no provider; " + oneOf},
		{defaults.Name == "", "provider", fmt.Sprintf("unknown provider %.60q; %s", written(name), oneOf)},
		{c.Timeout <= 0, "timeout", "the timeout must be more than 0; write one such as 30s"},
		{l.Requests < 1, "rate_limit.requests", "there must be at least 1 request; write a whole number from 1"},
		{l.Per <= 0, "rate_limit.per", "the time must be more than 0; write one such as 1s"},
		{l.Burst < 1, "rate_limit.burst", "the burst must be at least 1; write a whole number from 1"},
		{
			l.Requests > 0 && l.Per.Seconds()/float64(l.Requests)*float64(l.Burst) > maxRecovery.Seconds(), "rate_limit",
			"a used-up burst would take more than 10 years to come back; lower burst or per",
		},
	} {
		if check.bad {
			faults = append(faults, s.Errorf(check.path, "%s", check.message))
		}
	}
	faults = append(faults, c.setHeader(s), checkHTTP(s, &c.HTTP))
	if defaults.Name == "" {
		return nil, errors.Join(faults...)
	}
	return &c.Account, errors.Join(append(faults, c.setURLs(s, defaults))...)
}

// setURLs sets the base URL and the hosts of the provider, some of which the
// account may replace.
func (c *common) setURLs(s *Section, defaults providers.Provider) error {
	if c.BaseURL == "" {
		return s.Errorf("base_url", "is required: the address of this provider differs from account to account; write one such as https://api.example.com")
	}
	base, err := parseURL(s, "base_url", c.BaseURL)
	faults := []error{err}
	if c.Account.BaseURL = base; err == nil && s.Has("base_url") {
		c.warnBaseURL(s, defaults)
	}
	c.Account.Hosts = make(map[string]*url.URL)
	texts := maps.Clone(defaults.Hosts)
	for _, name := range slices.Sorted(maps.Keys(c.Hosts)) {
		if _, known := defaults.Hosts[name]; known {
			texts[name] = c.Hosts[name]
		} else {
			faults = append(faults, s.Errorf(join("hosts", keyStep(name)), "unknown host; %s", didYouMean(name, slices.Sorted(maps.Keys(defaults.Hosts)))))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		c.Account.Hosts[name], err = parseURL(s, join("hosts", keyStep(name)), texts[name])
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// warnBaseURL warns of a base URL that is valid and probably wrong.
func (c *common) warnBaseURL(s *Section, defaults providers.Provider) {
	u := c.Account.BaseURL
	if u.Path != "" {
		s.Warnf("base_url", "the path %s comes before the path of every request; remove it unless a gateway needs it", u.Path)
	}
	host := strings.ToLower(u.Hostname())
	company := func(host string) string { // the label before the last
		labels := strings.Split("."+host, ".")
		return labels[len(labels)-2]
	}
	if known := defaults.Regions; len(known) > 0 && !slices.Contains(known, host) && company(host) == company(known[0]) {
		s.Warnf("base_url", "%s is no known region of %s; write one of %s", host, defaults.Name, strings.Join(known, ", "))
	}
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
	var faults []error
	fault := func(path, text string) { faults = append(faults, s.Errorf(path, "%s", text)) }
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		path := join("headers", keyStep(name))
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			fault(path, "not the name of a header; write one such as X-Team, without spaces and colons")
		case credentialHeader.MatchString(name):
			fault(path, "credentials do not belong here; use the provider's own keys for these")
		case unsafeHeader.MatchString(name):
			fault(path, "this header would break requests or answers; remove it")
		case c.Header.Values(name) != nil:
			fault(path, "this header is already set in another case; remove one of them")
		case !httpguts.ValidHeaderFieldValue(c.Headers[name]):
			fault(path, "the value must be one line without control characters; correct it")
		default:
			c.Header.Set(name, c.Headers[name])
		}
	}
	return errors.Join(faults...)
}

// checkHTTP checks h and makes its paths relative to the working directory.
func checkHTTP(s *Section, h *HTTP) error {
	var faults []error
	if u := h.Proxy.ProxyURL.URL; u != nil && u.String() == "" {
		h.Proxy.ProxyURL.URL = nil // as if not given
	} else if u != nil && (u.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme)) {
		faults = append(faults, s.Errorf("http.proxy_url", "the proxy must be a whole http, https or socks5 URL; write one such as http://proxy:3128"))
	}
	if err := h.Proxy.Validate(); err != nil {
		faults = append(faults, s.Errorf("http", "%s; set or remove one of them", err))
	}
	h.TLS.SetDirectory(s.doc.dir)
	for _, f := range [][2]string{{"ca_file", h.TLS.CAFile}, {"cert_file", h.TLS.CertFile}, {"key_file", h.TLS.KeyFile}} {
		path := "http.tls_config." + f[0]
		if err := checkFile(f[1]); f[1] != "" && err != nil {
			faults = append(faults, s.Errorf(path, "%s; name a file in PEM format", strings.ReplaceAll(err.Error(), f[1], s.Path(s.written(path)))))
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	if _, err := promconfig.NewTLSConfig(&h.TLS); err != nil {
		return s.Errorf("http.tls_config", "%s; correct the files or texts named here", err)
	}
	return nil
}
