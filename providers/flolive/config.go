package flolive

import (
	"fmt"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
)

const minInterval = time.Second

// settings is what an account has for floLIVE. It implements [providers.Config].
type settings struct {
	Username    string             `yaml:"username"`
	Password    *secret.Value      `yaml:"password"`
	Token       *secret.Value      `yaml:"token"` // instead of a login
	Auth        authSettings       `yaml:"auth"`
	Subscribers subscriberSettings `yaml:"subscribers"`

	list  []identity
	names names // of list
	csv   *subscriberFile
}

// authSettings say how a token is sent. That the API takes one by Authorization was
// seen; the page about it is not public.
type authSettings struct {
	Header string `yaml:"header"`
	Prefix string `yaml:"prefix"`
	// TokenLifetime is the age at which a token is given up that does not tell its
	// end.
	TokenLifetime config.Duration `yaml:"token_lifetime"`
}

type subscriberSettings struct {
	providers.Settings `yaml:",inline"`
	List               []listed `yaml:"list"`
	File               string   `yaml:"file"`        // "" for none
	CustomerID         string   `yaml:"customer_id"` // "" for no listing
}

// listed is a subscriber as it is written.
type listed struct {
	Type       string   `yaml:"type"`
	Value      string   `yaml:"value"`
	Name       string   `yaml:"name"`
	BalanceIDs []string `yaml:"balance_ids"`
}

func configure(section *config.Section) (providers.Config, error) {
	s := &settings{
		Auth: authSettings{
			Header:        "Authorization",
			Prefix:        "Bearer ",
			TokenLifetime: config.Duration(10 * time.Minute),
		},
		Subscribers: subscriberSettings{Settings: providers.Enabled(15*time.Minute, 6*time.Hour)},
	}
	if err := section.Decode(s); err != nil {
		return nil, err
	}
	if err := s.checkAuth(section); err != nil {
		return nil, err
	}
	if err := s.checkSubscribers(section); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *settings) checkAuth(section *config.Section) error {
	switch {
	case s.Token != nil && s.Username != "":
		return section.Errorf("username", "a token is set too; remove one of them")
	case s.Token != nil && s.Password != nil:
		return section.Errorf("password", "a token is set too; remove one of them")
	case s.Token == nil && s.Username == "" && s.Password == nil:
		return section.Errorf("", "there are no credentials; set username with password or password_file, or token or token_file")
	case s.Token == nil && s.Username == "":
		return section.Errorf("username", "is required with a password: the name of a floLIVE user of type Public API")
	case s.Token == nil && s.Password == nil:
		return section.Errorf("password", "is required with a username: set password or password_file")
	case !isToken(s.Auth.Header):
		return section.Errorf("auth.header", "must be the name of a request header, such as Authorization")
	case checkHeader(s.Auth.Prefix) != nil:
		return section.Errorf("auth.prefix", "must be one line of ASCII characters")
	case time.Duration(s.Auth.TokenLifetime) < minInterval:
		return section.Errorf("auth.token_lifetime", "must be at least %s", config.Duration(minInterval))
	}
	return nil
}

// isToken reports a name that a header may have, by RFC 9110.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

func (s *settings) checkSubscribers(section *config.Section) error {
	p := &s.Subscribers
	switch {
	case !p.Enabled:
		return section.Errorf("subscribers.enabled", "subscribers are turned off, which leaves nothing to read")
	case len(p.List) == 0 && p.File == "" && p.CustomerID == "":
		return section.Errorf("subscribers", "there are no subscribers; set at least one of list, file and customer_id")
	case p.CustomerID != "" && checkID(p.CustomerID) != "":
		return section.Errorf("subscribers.customer_id", "%s", checkID(p.CustomerID))
	}
	if err := p.Check(section, "subscribers"); err != nil {
		return err
	}
	s.names = make(names, 2*len(p.List))
	for i, l := range p.List {
		path := fmt.Sprintf("subscribers.list[%d]", i)
		id, fault := newIdentity(l.Type, l.Value, l.Name, l.BalanceIDs)
		if fault != nil {
			return section.Errorf(path+"."+fault.field, "%s", fault.text)
		}
		if part, first, held := s.names.holder(id); held {
			return section.Errorf(path, "the %s is that of subscribers.list[%d] already; give each subscriber of an account its own", part, first)
		}
		s.names.add(id, i)
		s.list = append(s.list, id)
	}
	if p.File == "" {
		return nil
	}
	s.csv = &subscriberFile{path: section.Path(p.File)}
	if err := s.csv.load(s.names); err != nil {
		return section.Errorf("subscribers.file", "%s", err)
	}
	for _, warning := range s.csv.warnings {
		section.Warnf("subscribers.file", "%s", warning)
	}
	return nil
}

// Parts implements [providers.Config].
func (s *settings) Parts() []providers.Part {
	return []providers.Part{s.Subscribers.Part(providers.KindSubscribers)}
}

// Secrets implements [providers.Config].
func (s *settings) Secrets() []*secret.Value {
	if s.Token != nil {
		return []*secret.Value{s.Token}
	}
	return []*secret.Value{s.Password}
}

// Identity implements [providers.Config]: it is the user, of whom nothing is known
// with a static token. Kept values of a subscriber are found by the subscriber.
func (s *settings) Identity() string {
	if s.Token != nil {
		return "token"
	}
	return "user " + s.Username
}

// Open implements [providers.Config].
func (s *settings) Open(env providers.Env) (providers.Account, error) {
	a := &account{
		http:     env.HTTP,
		interval: time.Duration(s.Subscribers.RefreshInterval),
		warn:     env.Warn,
		taken:    taken{list: s.names},
	}
	if s.Token != nil {
		a.auth = &staticToken{settings: s.Auth, value: s.Token}
	} else {
		a.auth = &login{settings: s.Auth, username: s.Username, password: s.Password, http: env.HTTP}
	}
	a.sources = a.subscribers(s.list)
	if s.csv != nil {
		a.sources = append(a.sources, newFileLister(a, *s.csv, s.Subscribers.CustomerID != ""))
	}
	if id := s.Subscribers.CustomerID; id != "" {
		a.sources = append(a.sources, newListing(a, id))
	}
	return a, nil
}
