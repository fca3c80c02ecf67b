package yeastar

import (
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
)

// settings is what an account has for Yeastar. It implements [providers.Config].
type settings struct {
	ClientID     string        `yaml:"client_id"`
	ClientSecret *secret.Value `yaml:"client_secret"`
	// Currency is that of the balance, which the API does not say.
	Currency string                    `yaml:"currency"`
	Balance  providers.BalanceSettings `yaml:"balance"`
}

func configure(section *config.Section) (providers.Config, error) {
	s := &settings{Balance: providers.DefaultBalance()}
	if err := section.Decode(s); err != nil {
		return nil, err
	}
	if err := s.check(section); err != nil {
		return nil, err
	}
	return s, nil
}

// check returns the first fault, and gives the currency its usual form.
func (s *settings) check(section *config.Section) error {
	s.Currency = strings.TrimSpace(s.Currency)
	switch {
	case s.ClientID == "":
		return section.Errorf("client_id", "is required: the Client ID from System > API of the Partner Portal")
	case s.ClientSecret == nil:
		return section.Errorf("client_secret", "the key is missing; write client_secret or client_secret_file")
	case s.Currency == "":
		return section.Errorf("currency", "is required, because the API does not say it: the currency of the balance, such as USD")
	case !s.Balance.Enabled:
		return section.Errorf("balance.enabled", "the balance is turned off, which leaves nothing to read")
	}
	if err := s.Balance.Check(section, "balance"); err != nil {
		return err
	}
	if isCurrency(s.Currency) {
		s.Currency = strings.ToUpper(s.Currency)
	} else {
		section.Warnf("currency", "%q is no currency of ISO 4217, such as USD; it becomes the label as it is", s.Currency)
	}
	return nil
}

// isCurrency reports a text with the form of an ISO 4217 code, in either case.
func isCurrency(s string) bool {
	return len(s) == 3 && !strings.ContainsFunc(s, func(r rune) bool { return r|0x20 < 'a' || r|0x20 > 'z' })
}

// Parts implements [providers.Config].
func (s *settings) Parts() []providers.Part {
	return []providers.Part{s.Balance.Part()}
}

// Secrets implements [providers.Config].
func (s *settings) Secrets() []*secret.Value { return []*secret.Value{s.ClientSecret} }

// Identity implements [providers.Config]: it is the client id.
func (s *settings) Identity() string { return s.ClientID }

// Open implements [providers.Config].
func (s *settings) Open(env providers.Env) (providers.Account, error) {
	return &account{sources: []providers.Source{&balanceSource{
		http:     env.HTTP,
		tokens:   newTokens(env.HTTP, s.ClientID, s.ClientSecret),
		currency: s.Currency,
		interval: time.Duration(s.Balance.RefreshInterval),
	}}}, nil
}
