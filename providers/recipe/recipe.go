// Package recipe runs recipes: providers described in YAML instead of Go. A recipe says
// which request to send and which expression reads the answer; everything else is that
// of a provider in Go. docs/recipes.md describes the form.
//
//	recipe as written → checked, expressions compiled → account → sources → answers
package recipe

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/providers"
)

// recipe is a recipe as written, and what is made from it.
type recipe struct {
	Name        string            `yaml:"name"`
	Docs        []string          `yaml:"docs"`
	Verified    bool              `yaml:"verified"`
	BaseURL     string            `yaml:"base_url"` // empty: each account has its own
	Hosts       map[string]string `yaml:"hosts"`
	RateLimit   quota.Limit       `yaml:"rate_limit"`
	MinInterval model.Duration    `yaml:"min_interval"`
	RetryAfter  *hint             `yaml:"retry_after"`
	Settings    []string          `yaml:"settings"`
	Secrets     []string          `yaml:"secrets"`
	Token       *tokenStep        `yaml:"token"`
	Balance     *balanceStep      `yaml:"balance"`
	Prices      *pricesStep       `yaml:"prices"`
	Examples    []example         `yaml:"examples"`

	section providers.Section
}

// hint is a header that says when to ask again.
type hint struct {
	Header string `yaml:"header"`
	As     string `yaml:"as"` // asEpoch or asSeconds
}

const (
	asEpoch   = "epoch"   // Unix seconds
	asSeconds = "seconds" // seconds left
)

// step is a request, and how its answer is read before its values.
type step struct {
	Request     request `yaml:"request"`
	Format      string  `yaml:"format"` // one of formats; json if empty
	Error       string  `yaml:"error"`
	RateLimited string  `yaml:"rate_limited"`

	errors, rateLimited *program // nil if not given
}

type tokenStep struct {
	Step      step   `yaml:",inline"`
	Token     string `yaml:"token"`
	ExpiresIn string `yaml:"expires_in"`

	token, expiresIn *program
}

// amounts are the values of a step.
type amounts struct {
	Value    string `yaml:"value"`
	Currency string `yaml:"currency"`
	Divide   *int64 `yaml:"divide"`
}

type balanceStep struct {
	Step          step    `yaml:",inline"`
	Amounts       amounts `yaml:",inline"`
	Expires       string  `yaml:"expires"`
	ExpiresLayout string  `yaml:"expires_layout"`

	value, expires *program
}

type pricesStep struct {
	Step    step    `yaml:",inline"`
	Amounts amounts `yaml:",inline"`

	value *listProgram
}

// New returns the provider that a recipe describes. An error is one line with file,
// line and path. It sends nothing, and does not run the recipe's examples.
func New(section providers.Section) (providers.Provider, error) {
	r, err := parse(section)
	if err != nil {
		return providers.Provider{}, err
	}
	return providers.Provider{
		Name: r.Name, BaseURL: r.BaseURL, Hosts: r.Hosts, RateLimit: r.RateLimit,
		Configure: r.configure, Check: r.runExamples,
	}, nil
}

func parse(section providers.Section) (*recipe, error) {
	r := &recipe{section: section, RateLimit: quota.Limit{Requests: 1, Per: time.Second, Burst: 2}}
	if err := section.Decode(r); err != nil {
		return nil, err
	}
	return r, r.check()
}

const (
	tokenName   = "token"
	countryName = "country"
)

var (
	recipeName  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	settingName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	// reserved are names that an account or a request uses for something else.
	reserved = []string{
		"name", "provider", "base_url", "hosts", "headers", "http", "rate_limit", "timeout", "auth",
		"balance", "prices", "subscribers", tokenName, countryName,
	}
)

func (r *recipe) check() error {
	s := r.section
	switch {
	case r.Name == "":
		return s.Errorf("name", "the recipe has no name; give it one, it becomes the label provider")
	case !recipeName.MatchString(r.Name):
		return s.Errorf("name", "%.60q must be lower-case letters, digits, - and _", r.Name)
	case r.Balance == nil && r.Prices == nil:
		return s.Errorf("", "the recipe has neither balance nor prices; add one of them")
	case r.RateLimit.Requests < 1 || r.RateLimit.Per <= 0 || r.RateLimit.Burst < 1:
		return s.Errorf("rate_limit", "must allow at least 1 request with a burst of at least 1; write one such as {requests: 1, per: 1s, burst: 2}")
	}
	for i, link := range r.Docs {
		if u, err := url.Parse(link); err != nil || u.Host == "" {
			return s.Errorf(fmt.Sprintf("docs[%d]", i), "not a link; write one such as https://docs.acme.example/balance")
		}
	}
	if r.BaseURL != "" && !isAddress(r.BaseURL) {
		return s.Errorf("base_url", "not the address of a host; write one such as https://api.acme.example")
	}
	for name, address := range r.Hosts {
		if name == "" || !isAddress(address) {
			return s.Errorf("hosts."+name, "not the address of a host; write one such as https://auth.acme.example")
		}
	}
	if err := cmp.Or(r.checkHint(), r.checkNames(), r.checkSteps()); err != nil {
		return err
	}
	return r.checkUnused()
}

// isAddress reports an address without placeholders, query, fragment and user. Whether
// it is right in detail is checked with those of an account.
func isAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil && !strings.ContainsAny(text, "?#{}")
}

func (r *recipe) checkHint() error {
	h := r.RetryAfter
	switch {
	case h == nil:
	case !headerName.MatchString(h.Header):
		return r.section.Errorf("retry_after.header", "must be the name of a header; write one such as X-RateLimit-Reset")
	case h.As != asEpoch && h.As != asSeconds:
		return r.section.Errorf("retry_after.as", "%q must be %s (a Unix time) or %s (seconds left)", h.As, asEpoch, asSeconds)
	}
	return nil
}

// nameLists are the keys of the names that an account gives.
var nameLists = []string{"settings", "secrets"}

func (r *recipe) checkNames() error {
	seen := map[string]string{}
	for n, names := range [][]string{r.Settings, r.Secrets} {
		for i, name := range names {
			path := fmt.Sprintf("%s[%d]", nameLists[n], i)
			switch first := seen[name]; {
			case !settingName.MatchString(name) || strings.HasSuffix(name, "_file"):
				return r.section.Errorf(path, "%.60q must be lower-case letters, digits and _, and not end in _file", name)
			case slices.Contains(reserved, name):
				return r.section.Errorf(path, "%s has another meaning in an account; choose another name", name)
			case first != "":
				return r.section.Errorf(path, "%s is already in %s; remove one of them", name, first)
			}
			seen[name] = path
		}
	}
	return nil
}

// names returns the placeholders that are known everywhere.
func (r *recipe) names() []string { return slices.Concat(r.Settings, r.Secrets) }

func (r *recipe) checkSteps() error {
	known := r.names()
	if t := r.Token; t != nil {
		if err := cmp.Or(
			t.Step.check(r, tokenName, known),
			compile(r, "token.token", t.Token, &t.token, newProgram),
			r.compileIfSet("token.expires_in", t.ExpiresIn, &t.expiresIn),
		); err != nil {
			return err
		}
		known = append(known, tokenName)
	}
	if b := r.Balance; b != nil {
		if err := cmp.Or(
			b.Step.check(r, "balance", known),
			compile(r, "balance.value", b.Amounts.Value, &b.value, newProgram),
			r.compileIfSet("balance.expires", b.Expires, &b.expires),
			b.Amounts.check(r, "balance"),
		); err != nil {
			return err
		}
		if b.ExpiresLayout != "" && time.Unix(0, 0).UTC().Format(b.ExpiresLayout) == b.ExpiresLayout {
			return r.section.Errorf("balance.expires_layout", "%q is not a layout of Go; write one such as 2006-01-02 15:04:05", b.ExpiresLayout)
		}
	}
	if p := r.Prices; p != nil {
		return cmp.Or(
			p.Step.check(r, "prices", append(known, countryName)),
			compile(r, "prices.value", p.Amounts.Value, &p.value, newListProgram),
			p.Amounts.check(r, "prices"),
		)
	}
	return nil
}

// check checks what the steps have in common.
func (a *step) check(r *recipe, path string, known []string) error {
	a.Format = cmp.Or(a.Format, "json")
	if formats[a.Format] == nil {
		return r.section.Errorf(path+".format", "%q must be one of %s", a.Format, strings.Join(slices.Sorted(maps.Keys(formats)), ", "))
	}
	return cmp.Or(
		a.Request.check(r.section, path+".request", r.Hosts, known),
		r.compileIfSet(path+".error", a.Error, &a.errors),
		r.compileIfSet(path+".rate_limited", a.RateLimited, &a.rateLimited),
	)
}

// compile compiles the expression at path into dst.
func compile[P any](r *recipe, path, source string, dst **P, newProgram func(string) (*P, error)) (err error) {
	if source == "" {
		return r.section.Errorf(path, "is required: the expression that reads it, such as .%s", path[strings.LastIndex(path, ".")+1:])
	}
	if *dst, err = newProgram(source); err != nil {
		return r.section.Errorf(path, "%s", err)
	}
	return nil
}

func (r *recipe) compileIfSet(path, source string, dst **program) error {
	if source == "" {
		return nil
	}
	return compile(r, path, source, dst, newProgram)
}

func (a *amounts) check(r *recipe, path string) error {
	for _, name := range placeholders(a.Currency) {
		if !slices.Contains(r.Settings, name) {
			return r.section.Errorf(path+".currency", "unknown placeholder {%s}; name it under settings", name)
		}
	}
	if a.Divide != nil && *a.Divide < 1 {
		return r.section.Errorf(path+".divide", "must be a whole number from 1, such as 100 for an amount in cents")
	}
	return nil
}

// divisor returns what amounts are divided by.
func (a *amounts) divisor() int64 {
	if a.Divide == nil {
		return 1
	}
	return *a.Divide
}

// checkUnused returns an error for a setting, a secret or a token that no request uses,
// because most likely its placeholder is missing.
func (r *recipe) checkUnused() error {
	used := map[string]bool{}
	if r.Balance != nil {
		note(used, r.Balance.Amounts.Currency)
	}
	if r.Prices != nil {
		note(used, r.Prices.Amounts.Currency)
	}
	for _, step := range r.steps() {
		for _, p := range step.Request.places() {
			note(used, p.text)
		}
	}
	for n, names := range [][]string{r.Settings, r.Secrets} {
		for i, name := range names {
			if !used[name] {
				return r.section.Errorf(fmt.Sprintf("%s[%d]", nameLists[n], i), "no request uses {%s}; write it where it belongs, or remove it", name)
			}
		}
	}
	if r.Token != nil && !used[tokenName] {
		return r.section.Errorf("token", "no request uses {token}; write it where it belongs, such as headers: {Authorization: \"Bearer {token}\"}")
	}
	return nil
}

func note(used map[string]bool, text string) {
	for _, name := range placeholders(text) {
		used[name] = true
	}
}
