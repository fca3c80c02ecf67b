// Package yeastar reads the balance of an account of the Yeastar Partner Portal:
//
//	settings (yeastar.go) → request (balance.go) → answer (answer.go) → domain
//
// The documentation does not describe errors, so the body of an answer decides
// before its HTTP status, and every likely form is accepted:
// https://help.yeastar.com/en/pp-ptr/developer-guide/query-account-balance.html
package yeastar

import (
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// Provider is the Yeastar Partner Portal API. It has no documented rate limit. Its
// base URL is from
// https://help.yeastar.com/en/pp-ptr/developer-guide/request-structure.html.
var Provider = providers.Provider{
	Name:      "yeastar",
	BaseURL:   "https://openapi.partner.yeastar.com",
	RateLimit: quota.Limit{Requests: 1, Per: time.Second, Burst: 2},
	Configure: configure,
}

// settings are the keys of an account that only this provider knows.
type settings struct {
	ClientID     string        `yaml:"client_id"`
	ClientSecret *secret.Value `yaml:"client_secret"`
	Currency     string        `yaml:"currency"` // of the balance; the API does not return it
	Auth         kit.Login     `yaml:"auth"`
	Balance      kit.Balance   `yaml:"balance"`
}

func configure(section providers.Section) (providers.Account, error) {
	s := settings{Balance: kit.NewBalance()}
	faults := &kit.Faults{Section: section}
	faults.Add(section.Decode(&s))
	s.Currency = strings.TrimSpace(s.Currency)
	faults.If(s.ClientID == "", "client_id", "is required: the Client ID from System > API of the Partner Portal")
	faults.If(s.ClientSecret == nil, "client_secret", "is required; set client_secret or client_secret_file")
	faults.If(s.Currency == "", "currency", "is required, because the API does not return it: the currency of the balance, such as USD")
	faults.If(!s.Balance.Enabled, "balance.enabled", "the balance is turned off, so there is nothing to read")
	s.Balance.Check(faults, "balance")
	if err := faults.Err(); err != nil {
		return providers.Account{}, err
	}
	if code, ok := kit.Currency(s.Currency); ok {
		s.Currency = code
	} else {
		section.Warnf("currency", "%q is no ISO 4217 code such as USD; the label has it as it is", s.Currency)
	}
	return providers.Account{
		Parts:     []providers.Part{s.Balance.Domain()},
		Secrets:   []*secret.Value{s.ClientSecret},
		Identity:  s.ClientID,
		OneReader: !s.Auth.ConcurrentLogins,
		Open: func(env providers.Env) ([]providers.Source, error) {
			return []providers.Source{newBalance(env.HTTP, s)}, nil
		},
	}, nil
}
