package flolive

import (
	"context"
	"fmt"
	"slices"
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

	list *names
	file *subscriberFile // nil for none
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
	kit.Subscribers `yaml:",inline"`
	List            []listed `yaml:"list"`
	File            string   `yaml:"file"`        // "" for none
	CustomerID      string   `yaml:"customer_id"` // "" for no listing
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
		Subscribers: subscriberSettings{Subscribers: kit.NewSubscribers()},
	}
	faults := &kit.Faults{Section: section}
	faults.Add(section.Decode(s))
	s.checkAuth(faults)
	s.checkSubscribers(faults)
	s.readList(faults)
	s.readFile(faults)
	if err := faults.Err(); err != nil {
		return providers.Account{}, err
	}
	a := providers.Account{Parts: []providers.Part{s.Subscribers.Domain()}, Open: s.open}
	if s.Token != nil {
		// Nothing is known of the user. The key of a subscriber identifies its values.
		a.Identity, a.Secrets = "token", []*secret.Value{s.Token}
	} else {
		a.Identity, a.Secrets = "user "+s.Username, []*secret.Value{s.Password}
		a.OneReader = !s.Auth.ConcurrentLogins
	}
	return a, nil
}

func (s *settings) checkAuth(f *kit.Faults) {
	token, password, user := s.Token != nil, s.Password != nil, s.Username != ""
	f.If(token && user, "username", "a token is set too; remove one of them")
	f.If(token && password, "password", "a token is set too; remove one of them")
	f.If(!token && !user && !password, "", "there are no credentials; set username with password or password_file, or token or token_file")
	f.If(!token && !user && password, "username", "is required with a password: the name of a floLIVE user of type Public API")
	f.If(!token && user && !password, "password", "is required with a username: set password or password_file")
	f.If(s.Auth.Header == "" || strings.ContainsFunc(s.Auth.Header, notInHeaderName), "auth.header",
		"must be the name of a request header, such as Authorization")
	f.If(strings.ContainsFunc(s.Auth.Prefix, func(r rune) bool { return r < ' ' || r > '~' }), "auth.prefix",
		"must be one line of ASCII characters")
	f.If(time.Duration(s.Auth.TokenLifetime) < minTokenLifetime, "auth.token_lifetime", "must be at least %s", model.Duration(minTokenLifetime))
}

// notInHeaderName reports a character that no name of a header has:
// https://www.rfc-editor.org/rfc/rfc9110.html#section-5.6.2
func notInHeaderName(r rune) bool {
	return (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func (s *settings) checkSubscribers(f *kit.Faults) {
	p := s.Subscribers
	f.If(!p.Enabled, "subscribers.enabled", "subscribers are turned off, which leaves nothing to read")
	f.If(p.Enabled && len(p.List) == 0 && p.File == "" && p.CustomerID == "", "subscribers",
		"there are no subscribers; set at least one of list, file and customer_id")
	f.If(p.CustomerID != "" && checkID(p.CustomerID) != "", "subscribers.customer_id", "%s", checkID(p.CustomerID))
	p.Check(f, "subscribers")
}

func (s *settings) readList(f *kit.Faults) {
	s.list = newNames()
	for i, l := range s.Subscribers.List {
		path := fmt.Sprintf("subscribers.list[%d]", i)
		id, fault := newIdentity(l.Type, l.Value, l.Name, l.BalanceIDs)
		if fault != nil {
			f.If(true, path+"."+fault.field, "%s", fault.text)
			continue
		}
		record := id.record(nil)
		if part, first, ok := s.list.taken(record); ok {
			f.If(true, path, "subscribers.list[%d] has the same %s; give each subscriber of an account its own", first, part)
			continue
		}
		s.list.add(record, i)
	}
}

func (s *settings) readFile(f *kit.Faults) {
	if s.Subscribers.File == "" {
		return
	}
	s.file = &subscriberFile{path: f.Section.Path(s.Subscribers.File), keepNames: s.Subscribers.CustomerID != ""}
	if err := s.file.load(context.Background(), s.list); err != nil {
		f.If(true, "subscribers.file", "%s", err)
	}
	for _, warning := range s.file.warnings {
		f.Section.Warnf("subscribers.file", "%s", warning)
	}
}

// open implements Open of [providers.Account].
func (s *settings) open(env providers.Env) ([]providers.Source, error) {
	a := &account{interval: s.Subscribers.Interval(), warn: env.Warn, configured: configured{list: s.list}}
	if s.Token != nil {
		a.auth = kit.StaticToken{HTTP: env.HTTP, Secret: s.Token, Header: s.Auth.header}
	} else {
		a.auth = login{http: env.HTTP, username: s.Username, password: s.Password}.tokens(s.Auth)
	}
	sources := slices.Collect(providers.Sources(roster{a, s.list.subscribers}))
	if s.file != nil {
		file := *s.file
		// The lister has the subscribers from now on. Here, a large file would stay in
		// memory after it has changed.
		s.file.names, s.file.warnings = nil, nil
		if file.names == nil { // opened before
			if err := file.load(context.Background(), s.list); err != nil {
				return nil, err
			}
		}
		sources = append(sources, newFileLister(a, file))
	}
	if customer := s.Subscribers.CustomerID; customer != "" {
		sources = append(sources, &listing{account: a, customer: customer})
	}
	return sources, nil
}
