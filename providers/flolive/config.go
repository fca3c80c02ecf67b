package flolive

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

const minTokenLifetime = time.Second

// settings is the configuration of an account.
type settings struct {
	Username    string             `yaml:"username"`
	Password    *secret.Value      `yaml:"password"`
	Token       *secret.Value      `yaml:"token"` // instead of a login
	Auth        authSettings       `yaml:"auth"`
	Subscribers subscriberSettings `yaml:"subscribers"`

	list  []identity
	names names           // of list
	file  *subscriberFile // nil for none
}

// authSettings say how a token is sent. Public code sends it as a bearer token; the
// page of the documentation about it is not public.
type authSettings struct {
	kit.Login `yaml:",inline"`

	Header string `yaml:"header"`
	Prefix string `yaml:"prefix"`
	// TokenLifetime is the age at which a token is renewed that does not state its
	// end.
	TokenLifetime model.Duration `yaml:"token_lifetime"`
}

type subscriberSettings struct {
	kit.Part   `yaml:",inline"`
	List       []listed `yaml:"list"`
	File       string   `yaml:"file"`        // "" for none
	CustomerID string   `yaml:"customer_id"` // "" for no listing
}

// listed is a subscriber as it is written.
type listed struct {
	Type       string   `yaml:"type"`
	Value      string   `yaml:"value"`
	Name       string   `yaml:"name"`
	BalanceIDs []string `yaml:"balance_ids"`
}

func configure(section providers.Section) (providers.Account, error) {
	s := &settings{
		Auth: authSettings{
			Header:        "Authorization",
			Prefix:        "Bearer ",
			TokenLifetime: model.Duration(10 * time.Minute),
		},
		Subscribers: subscriberSettings{Part: kit.NewPart(kit.SubscribersInterval, kit.SubscribersMaxAge)},
	}
	for _, step := range []func(providers.Section) error{s.decode, s.checkAuth, s.checkSubscribers, s.readList, s.readFile} {
		if err := step(section); err != nil {
			return providers.Account{}, err
		}
	}
	part := s.Subscribers.Domain(providers.KindSubscribers)
	part.Fleet = true
	a := providers.Account{Parts: []providers.Part{part}, Open: s.open}
	if s.Token != nil {
		// Nothing is known of the user. The key of a subscriber identifies its values.
		a.Identity, a.Secrets = "token", []*secret.Value{s.Token}
	} else {
		a.Identity, a.Secrets = "user "+s.Username, []*secret.Value{s.Password}
		a.OneReader = !s.Auth.ConcurrentLogins
	}
	return a, nil
}

func (s *settings) decode(section providers.Section) error { return section.Decode(s) }

func (s *settings) checkAuth(section providers.Section) error {
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
	case s.Auth.Header == "" || strings.ContainsFunc(s.Auth.Header, notInHeaderName):
		return section.Errorf("auth.header", "must be the name of a request header, such as Authorization")
	case strings.ContainsFunc(s.Auth.Prefix, func(r rune) bool { return r < ' ' || r > '~' }):
		return section.Errorf("auth.prefix", "must be one line of ASCII characters")
	case time.Duration(s.Auth.TokenLifetime) < minTokenLifetime:
		return section.Errorf("auth.token_lifetime", "must be at least %s", model.Duration(minTokenLifetime))
	}
	return nil
}

// notInHeaderName reports a character that no name of a header has:
// https://www.rfc-editor.org/rfc/rfc9110.html#section-5.6.2
func notInHeaderName(r rune) bool {
	return (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func (s *settings) checkSubscribers(section providers.Section) error {
	p := s.Subscribers
	switch {
	case !p.Enabled:
		return section.Errorf("subscribers.enabled", "subscribers are turned off, which leaves nothing to read")
	case len(p.List) == 0 && p.File == "" && p.CustomerID == "":
		return section.Errorf("subscribers", "there are no subscribers; set at least one of list, file and customer_id")
	case p.CustomerID != "" && checkID(p.CustomerID) != "":
		return section.Errorf("subscribers.customer_id", "%s", checkID(p.CustomerID))
	}
	return p.Check(section, "subscribers")
}

func (s *settings) readList(section providers.Section) error {
	s.names = make(names, 2*len(s.Subscribers.List))
	for i, l := range s.Subscribers.List {
		path := fmt.Sprintf("subscribers.list[%d]", i)
		id, fault := newIdentity(l.Type, l.Value, l.Name, l.BalanceIDs)
		if fault != nil {
			return section.Errorf(path+"."+fault.field, "%s", fault.text)
		}
		if part, first, ok := s.names.taken(id); ok {
			return section.Errorf(path, "subscribers.list[%d] has the same %s; give each subscriber of an account its own", first, part)
		}
		s.names.add(id, i)
		s.list = append(s.list, id)
	}
	return nil
}

func (s *settings) readFile(section providers.Section) error {
	if s.Subscribers.File == "" {
		return nil
	}
	s.file = &subscriberFile{path: section.Path(s.Subscribers.File)}
	if err := s.file.load(s.names); err != nil {
		return section.Errorf("subscribers.file", "%s", err)
	}
	for _, warning := range s.file.warnings {
		section.Warnf("subscribers.file", "%s", warning)
	}
	return nil
}

// open implements Open of [providers.Account].
func (s *settings) open(env providers.Env) ([]providers.Source, error) {
	a := &account{interval: s.Subscribers.Interval(), warn: env.Warn, configured: configured{list: s.names}}
	if s.Token != nil {
		a.auth = kit.StaticToken{HTTP: env.HTTP, Secret: s.Token, Header: s.Auth.header}
	} else {
		a.auth = login{http: env.HTTP, username: s.Username, password: s.Password}.tokens(s.Auth)
	}
	sources := a.subscribers(s.list)
	customer := s.Subscribers.CustomerID
	if s.file != nil {
		sources = append(sources, newFileLister(a, *s.file, customer != ""))
	}
	if customer != "" {
		sources = append(sources, &listing{account: a, customer: customer})
	}
	return sources, nil
}
