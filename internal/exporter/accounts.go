package exporter

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/all"
)

// largeAnswers is how many price lists are read at a time in one process, which
// bounds the memory that they take.
const largeAnswers = 2

// account is one account of the configuration, checked but not opened.
type account struct {
	*config.Account
	checked providers.Account
	// remote names the account at the provider, and id this account of the
	// configuration, without revealing what they are made from.
	remote, id string
}

// configure checks each account's own part of the configuration, whose other faults
// are in err. It returns the accounts with warnings, one line each.
func configure(file *config.File, err error) ([]account, []string, error) {
	faults, faulty := []error{err}, err != nil
	accounts := make([]account, len(file.Accounts))
	first := map[string]string{} // name of the first account, by remote account
	for i, c := range file.Accounts {
		provider, _ := all.Lookup(c.Provider)
		checked, err := provider.Configure(c.Section)
		faulty = faulty || err != nil
		if faults = append(faults, err); faulty {
			continue // the rest needs valid accounts
		}
		a := account{Account: c, checked: checked}
		remote := []string{c.Provider, c.BaseURL.String(), checked.Identity}
		for _, name := range slices.Sorted(maps.Keys(c.Hosts)) {
			remote = append(remote, name, c.Hosts[name].String())
		}
		a.remote, a.id = digest(remote...), digest(append(remote, c.Name)...)
		if other, twice := first[a.remote]; twice {
			c.Section.Warnf("", "is the same account at the provider as %s: both spend one quota, which their rate_limit does not know; remove one of them", other)
		} else {
			first[a.remote] = c.Name
		}
		for _, p := range checked.Parts {
			if p.Kind == providers.KindBalance && p.LowThreshold == nil {
				c.Section.Warnf("balance", "has no low_threshold: no alert fires when the balance is low; set one")
			}
		}
		accounts[i] = a
	}
	return accounts, file.Warnings, config.Join(faults...)
}

// digest returns a text that identifies parts and does not reveal them.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:12])
}

// opener opens accounts: it puts together each one's sources, gate, HTTP client and
// mask. An account that has not changed since the last call stays the same.
type opener struct {
	store     state.Store
	observer  httpapi.Observer
	logger    log.Logger
	transport func(name string, c config.HTTP) (http.RoundTripper, error)
	slots     httpapi.Slots
	masks     *secret.Mask

	opened   map[string]opened // by id and digest
	warnings []string          // about the accounts that the last call has opened
}

type opened struct {
	cache.Account
	mask *secret.Mask
}

// open opens accounts. It sends nothing, and keeps the previous ones if it fails.
func (o *opener) open(accounts []account) ([]cache.Account, error) {
	next := make(map[string]opened, len(accounts))
	o.warnings = nil
	for _, a := range accounts {
		key := a.id + a.Section.Digest()
		one, unchanged := o.opened[key]
		if !unchanged {
			one.mask = secret.NewMask(a.checked.Secrets...)
		}
		next[key] = one
	}
	// A provider may log while it opens: the masks come first.
	o.masks.Replace(append(masksOf(o.opened), masksOf(next)...)...)
	out := make([]cache.Account, len(accounts))
	for i, a := range accounts {
		key := a.id + a.Section.Digest()
		one := next[key]
		if one.Gate == nil {
			var err error
			if one.Account, err = o.openOne(a, one.mask); err != nil {
				o.masks.Replace(masksOf(o.opened)...)
				return nil, err
			}
			next[key] = one
		}
		out[i] = one.Account
	}
	o.opened = next
	o.masks.Replace(masksOf(next)...)
	return out, nil
}

func masksOf(accounts map[string]opened) []*secret.Mask {
	masks := make([]*secret.Mask, 0, len(accounts))
	for _, a := range accounts {
		masks = append(masks, a.mask)
	}
	return masks
}

func (o *opener) openOne(a account, mask *secret.Mask) (cache.Account, error) {
	for _, text := range httpapi.ProxySecrets(a.HTTP) {
		mask.Add(text)
	}
	mask.Add(string(a.HTTP.TLS.Key))
	transport, err := o.transport(a.Name, a.HTTP)
	if err != nil {
		return cache.Account{}, a.Section.Errorf("http", "%s", mask.String(err.Error()))
	}
	logger := log.With(o.logger, "provider", a.Provider, "account", a.Name)
	g := gate.New(a.id, a.RateLimit, o.store)
	hosts := map[string]*url.URL{"": a.BaseURL}
	maps.Copy(hosts, a.Hosts)
	sources, err := a.checked.Open(providers.Env{
		Account: a.Name,
		HTTP: httpapi.New(httpapi.Options{
			Provider: a.Provider, Account: a.Name, Hosts: hosts, Header: a.Header,
			Timeout: a.Timeout, Transport: transport, Gate: g, Slots: o.slots,
			Mask: mask, Observer: o.observer, Logger: logger,
		}),
		Warn: func(msg string, args ...any) {
			_ = level.Warn(logger).Log(append([]any{"msg", msg}, args...)...)
		},
	})
	if err != nil {
		return cache.Account{}, a.Section.Errorf("", "%s", mask.String(err.Error()))
	}
	opened := cache.Account{
		Provider: a.Provider, Name: a.Name, ID: a.id, Digest: a.Section.Digest(),
		Parts: a.checked.Parts, Sources: sources, Secrets: a.checked.Secrets, Gate: g,
	}
	// Later the sources may be in use, and must not be asked for their plan.
	if warning := planOf(opened).warning(); warning != "" {
		o.warnings = append(o.warnings, warning)
	}
	return opened, nil
}
