// Package config turns the configuration file as written into its checked form.
// It knows the keys that every account has; each provider decodes its own part
// through a [Section].
package config

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	promconfig "github.com/prometheus/common/config"

	"github.com/balance-exporter/balance_exporter/internal/quota"
)

const (
	// maxSize bounds the file: about 400 000 subscribers.
	maxSize        = 64 << 20
	defaultTimeout = 30 * time.Second
	// maxRecovery bounds the time in which a used-up burst comes back, so that
	// it can be computed with.
	maxRecovery = 10 * 365 * 24 * time.Hour
)

// Defaults is what a provider sets for accounts that do not.
type Defaults struct {
	BaseURL   string
	RateLimit quota.Limit
}

// Lookup returns the defaults of the provider of that name, and whether there is
// such a provider.
type Lookup func(provider string) (Defaults, bool)

// File is a checked configuration file.
type File struct {
	Accounts []*Account // in the order of the file; at least one
	Warnings []string   // one line each
}

// Account is the part of an account that is common to all providers.
type Account struct {
	Name      string // unique within its provider; valid UTF-8, not empty
	Provider  string
	BaseURL   *url.URL      // absolute http or https, without user, query, fragment and final slash
	RateLimit quota.Limit   // valid
	Timeout   time.Duration // of one HTTP request; more than 0, default 30s
	HTTP      HTTP
	Section   *Section // the provider's own part
}

// HTTP is how to reach the provider, by the names of Prometheus. Paths are as
// seen from the configuration file.
type HTTP struct {
	Proxy promconfig.ProxyConfig `yaml:",inline"`
	TLS   promconfig.TLSConfig   `yaml:"tls_config"`
}

// Errorf is [Section.Errorf]: path is relative to the account.
func (a *Account) Errorf(path, format string, args ...any) error {
	return a.Section.Errorf(path, format, args...)
}

// Load reads and checks the configuration file at path. known are the names of
// the providers, for the text of errors. Every error is one line that says
// where, what, and what to do; it shows no secret and no text from the
// environment.
func Load(path string, lookup Lookup, known []string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w; name the file by --config.file", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w; name the file by --config.file", err)
	}
	return Parse(path, filepath.Dir(path), text, os.LookupEnv, lookup, known)
}

// Parse is Load for text that is at hand. name is how errors call the file, dir
// is where relative paths start, env is the environment.
func Parse(name, dir string, text []byte, env func(string) (string, bool), lookup Lookup, known []string) (*File, error) {
	b := newBuilder(name, env)
	if len(text) > maxSize {
		return nil, b.whole(fmt.Sprintf("the file is larger than %d MiB; split it over several exporters", maxSize>>20))
	}
	root, err := b.parse(text)
	if err != nil {
		return nil, err
	}
	c := &checker{
		source: &source{file: name, dir: dir, result: &File{}, replaced: b.replaced},
		lookup: lookup,
		known:  known,
	}
	return c.file(root)
}

// written is an account as it is written.
type written struct {
	Name      string        `yaml:"name"`
	Provider  string        `yaml:"provider"`
	BaseURL   string        `yaml:"base_url"`
	RateLimit *node         `yaml:"rate_limit"`
	Timeout   time.Duration `yaml:"timeout"`
	HTTP      HTTP          `yaml:"http"`
}

// commonKeys are the keys of an account that are not its provider's.
func commonKeys() []string {
	var keys []string
	for _, f := range fields(reflect.TypeFor[written]()) {
		keys = append(keys, f.key)
	}
	return keys
}

// split returns n with only the keys given, and n without them.
func split(n *node, keys []string) (with, without *node) {
	a, b := *n, *n
	a.items, b.items = nil, nil
	for _, item := range n.items {
		if slices.Contains(keys, item.key) {
			a.items = append(a.items, item)
		} else {
			b.items = append(b.items, item)
		}
	}
	return &a, &b
}

// checker checks one file.
type checker struct {
	source *source
	lookup Lookup
	known  []string
}

func (c *checker) file(root *node) (*File, error) {
	var top struct {
		Accounts []*node `yaml:"accounts"`
	}
	if err := c.source.decoder().value(root, reflect.ValueOf(&top).Elem()); err != nil {
		return nil, err
	}
	if len(top.Accounts) == 0 {
		at, _ := root.find("accounts")
		return nil, &fault{c.source.file, at.line, "accounts", "there is no account; add at least one"}
	}
	type name struct{ provider, account string }
	seen := make(map[name]*node)
	for _, n := range top.Accounts {
		a, err := c.account(n)
		if err != nil {
			return nil, err
		}
		id := name{a.Provider, a.Name}
		if first, twice := seen[id]; twice {
			return nil, a.Errorf("name", "%s is the name of %s already (line %d); give each account of a provider its own",
				quote(n.child("name").written), first.path(), first.line)
		}
		seen[id] = n
		c.source.result.Accounts = append(c.source.result.Accounts, a)
	}
	return c.source.result, nil
}

// account checks one account, all but the part of its provider.
func (c *checker) account(n *node) (*Account, error) {
	s := &Section{source: c.source, account: n}
	w := written{Timeout: defaultTimeout}
	var common *node
	common, s.own = split(n, commonKeys())
	if err := c.source.decoder().value(common, reflect.ValueOf(&w).Elem()); err != nil {
		return nil, err
	}
	if strings.TrimSpace(w.Name) == "" {
		return nil, s.Errorf("name", "the account has no name; give it one, it becomes the label account")
	}
	if !utf8.ValidString(w.Name) {
		return nil, s.Errorf("name", "the name is not valid UTF-8; change its encoding")
	}
	oneOf := "write one of " + strings.Join(c.known, ", ")
	if w.Provider == "" {
		return nil, s.Errorf("provider", "the account has no provider; %s", oneOf)
	}
	defaults, ok := c.lookup(w.Provider)
	if !ok {
		return nil, s.Errorf("provider", "unknown provider %s; %s", quote(n.child("provider").written), oneOf)
	}
	a := &Account{Name: w.Name, Provider: w.Provider, Timeout: w.Timeout, HTTP: w.HTTP, Section: s}
	if !s.Has("base_url") {
		w.BaseURL = defaults.BaseURL
	}
	var err error
	if a.BaseURL, err = baseURL(s, w.BaseURL); err != nil {
		return nil, err
	}
	a.RateLimit = defaults.RateLimit
	if w.RateLimit != nil {
		if err := c.source.decoder().value(w.RateLimit, reflect.ValueOf(&a.RateLimit).Elem()); err != nil {
			return nil, err
		}
	}
	if err := checkRateLimit(s, a.RateLimit); err != nil {
		return nil, err
	}
	if a.Timeout <= 0 {
		return nil, s.Errorf("timeout", "the timeout must be more than 0; write one such as 30s")
	}
	if err := checkHTTP(s, &a.HTTP); err != nil {
		return nil, err
	}
	return a, nil
}

// baseURL checks a base URL. Its errors do not show it: it may hold a password.
func baseURL(s *Section, text string) (*url.URL, error) {
	const path = "base_url"
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, s.Errorf(path, "not a valid URL; write one such as https://api.example.com")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, s.Errorf(path, "the URL must start with https:// or http://; write one such as https://api.example.com")
	case u.Hostname() == "":
		return nil, s.Errorf(path, "the URL has no host; write one such as https://api.example.com")
	case !validPort(u):
		return nil, s.Errorf(path, "the port of the URL must be from 1 to 65535; correct or remove it")
	case u.User != nil:
		return nil, s.Errorf(path, "the URL must not hold a user or password; use the provider's own keys for these")
	case strings.Contains(text, "?"):
		return nil, s.Errorf(path, "the URL must not have a query; remove the ? and what follows it")
	case strings.Contains(text, "#"):
		return nil, s.Errorf(path, "the URL must not have a fragment; remove the # and what follows it")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		s.Warnf(path, "http:// sends the credentials unencrypted to a host that is not this one; use https://")
	}
	return u, nil
}

func validPort(u *url.URL) bool {
	if strings.HasSuffix(u.Host, ":") {
		return false
	}
	port, err := strconv.Atoi(cmp.Or(u.Port(), "443"))
	return err == nil && 1 <= port && port <= 65535
}

func isLoopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}

func checkRateLimit(s *Section, l quota.Limit) error {
	switch {
	case l.Requests < 1:
		return s.Errorf("rate_limit.requests", "there must be at least 1 request; write a whole number from 1")
	case l.Per <= 0:
		return s.Errorf("rate_limit.per", "the time must be more than 0; write one such as 1s")
	case l.Burst < 1:
		return s.Errorf("rate_limit.burst", "the burst must be at least 1; write a whole number from 1")
	case l.Per.Seconds()/float64(l.Requests)*float64(l.Burst) > maxRecovery.Seconds():
		return s.Errorf("rate_limit", "a used-up burst would take more than 10 years to come back; lower burst or per")
	}
	return nil
}

// checkHTTP checks h and makes its paths relative to the configuration file.
func checkHTTP(s *Section, h *HTTP) error {
	if u := h.Proxy.ProxyURL.URL; u != nil && u.String() == "" {
		h.Proxy.ProxyURL.URL = nil // as if not given
	} else if u != nil && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5") {
		return s.Errorf("http.proxy_url", "the proxy must be a whole http, https or socks5 URL; write one such as http://proxy:3128")
	}
	if err := h.Proxy.Validate(); err != nil {
		return s.Errorf("http", "%s", err)
	}
	h.TLS.SetDirectory(s.source.dir)
	if _, err := promconfig.NewTLSConfig(&h.TLS); err != nil {
		return s.Errorf("http.tls_config", "%s; correct the files or texts named here", err)
	}
	return nil
}
