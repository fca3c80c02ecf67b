// Package accounts turns a checked configuration into the accounts that the cache
// reads: it puts together each account's provider, gate, request chain and secrets.
package accounts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/all"
)

// largeAnswers is how many price lists are read at a time in one process, which
// bounds the memory that they take.
const largeAnswers = 2

// Loader makes accounts. Create one with [NewLoader].
type Loader struct {
	observer  httpapi.Observer
	logger    log.Logger
	transport func(name string, c config.HTTP) (http.RoundTripper, error)
	slots     httpapi.Slots

	mu    sync.RWMutex
	masks map[string]*secret.Mask // of every account loaded last, by id and digest
}

// NewLoader returns a loader. transport makes the bottom of each account's request
// chain.
func NewLoader(observer httpapi.Observer, logger log.Logger, transport func(name string, c config.HTTP) (http.RoundTripper, error)) *Loader {
	return &Loader{observer: observer, logger: logger, transport: transport, slots: httpapi.NewSlots(largeAnswers)}
}

// Account is an account that can be read, with what is known of it by its
// configuration alone.
type Account struct {
	cache.Account
	Limit quota.Limit
}

// Mask hides the secrets of the accounts loaded last.
func (l *Loader) Mask(text string) string {
	l.mu.RLock()
	masks := l.masks
	l.mu.RUnlock()
	for _, m := range masks {
		text = m.String(text)
	}
	return text
}

// Defaults returns what a provider sets for accounts that do not.
func Defaults(provider string) (config.Defaults, bool) {
	p, ok := all.Lookup(provider)
	return config.Defaults{BaseURL: p.BaseURL, RateLimit: p.RateLimit}, ok
}

// Load reads the configuration file at path; see [Loader.Open].
func (l *Loader) Load(path string) ([]Account, []string, error) {
	file, err := config.Load(path, Defaults, all.Names())
	if err != nil {
		return nil, nil, err
	}
	return l.Open(file)
}

// Open checks each account's own part of the configuration and makes the accounts.
// It returns them with warnings, one line each. It sends nothing, and changes
// nothing if it fails.
func (l *Loader) Open(file *config.File) ([]Account, []string, error) {
	// Every account is checked before one is opened: the first fault in the file
	// is the one that is told.
	checked := make([]providers.Config, len(file.Accounts))
	for i, a := range file.Accounts {
		provider, _ := all.Lookup(a.Provider)
		c, err := provider.Configure(a.Section)
		if err != nil {
			return nil, nil, err
		}
		checked[i] = c
	}
	var accounts []Account
	masks := map[string]*secret.Mask{}
	for i, a := range file.Accounts {
		// The cache leaves an account as it is that has not changed; so the mask
		// stays that has learnt its tokens.
		key := identity(a, checked[i]) + a.Section.Digest()
		mask := l.mask(key)
		if mask == nil {
			mask = secret.NewMask(checked[i].Secrets()...)
		}
		opened, err := l.open(a, checked[i], mask)
		if err != nil {
			return nil, nil, a.Errorf("", "%s", mask.String(err.Error()))
		}
		accounts = append(accounts, opened)
		masks[key] = mask
	}
	l.mu.Lock()
	l.masks = masks
	l.mu.Unlock()
	return accounts, file.Warnings, nil
}

// mask returns the mask of an account loaded last; nil if there is none.
func (l *Loader) mask(key string) *secret.Mask {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.masks[key]
}

func (l *Loader) open(a *config.Account, c providers.Config, mask *secret.Mask) (Account, error) {
	transport, err := l.transport(a.Name, a.HTTP)
	if err != nil {
		return Account{}, fmt.Errorf("http: %w", err)
	}
	if u := a.HTTP.Proxy.ProxyURL.URL; u != nil {
		if password, ok := u.User.Password(); ok {
			mask.Add(password)
		}
	}
	mask.Add(string(a.HTTP.TLS.Key))
	logger := log.With(l.logger, "provider", a.Provider, "account", a.Name)
	gate := httpapi.NewGate(a.RateLimit, c.Secrets()...)
	account, err := c.Open(providers.Env{
		Account: a.Name,
		HTTP: httpapi.New(httpapi.Options{
			Provider: a.Provider, Account: a.Name,
			BaseURL: a.BaseURL, Timeout: a.Timeout, Transport: transport,
			Gate: gate, Slots: l.slots, Mask: mask, Observer: l.observer, Logger: logger,
		}),
		Warn: func(msg string, args ...any) {
			_ = level.Warn(logger).Log(append([]any{"msg", msg}, args...)...)
		},
	})
	if err != nil {
		return Account{}, err
	}
	return Account{
		Account: cache.Account{
			Provider: a.Provider, Name: a.Name, ID: identity(a, c), Digest: a.Section.Digest(),
			Parts: c.Parts(), Sources: account.Sources(), Gate: gate,
		},
		Limit: a.RateLimit,
	}, nil
}

// identity returns the id of an account.
func identity(a *config.Account, c providers.Config) string {
	return digest(a.Provider, a.Name, a.BaseURL.String(), c.Identity())
}

// digest names a remote account in kept state without telling what it is made of.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:12])
}
