package recipesim

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/recipe/recipes"
)

// Cases returns a recipe of each kind that matters to the whole program: wallets, a login
// at another host, and a secret in the query with a price list.
func Cases() []simulate.Case { return slices.Clone(cases()) }

var cases = sync.OnceValue(func() []simulate.Case { return Named("octopush_dm", "reloadly", "vonage") })

// All returns the cases of all recipes.
func All() []simulate.Case {
	files, _ := fs.Glob(recipes.Files, "*.yml") // the pattern is valid
	for i, file := range files {
		files[i] = strings.TrimSuffix(file, ".yml")
	}
	return Named(files...)
}

// Named returns the cases of recipes.
func Named(names ...string) []simulate.Case {
	var all []simulate.Case
	for _, name := range names {
		text, err := recipes.Files.ReadFile(name + ".yml")
		if err != nil {
			panic(err) // the files are part of the program
		}
		c, err := New(text)
		if err != nil {
			panic(fmt.Sprintf("%s: %s", name, err))
		}
		all = append(all, c)
	}
	return all
}

// New returns the case of a recipe. It needs an example that gives something for each
// step of the recipe.
func New(text []byte) (simulate.Case, error) {
	r, err := parse(text)
	if err != nil {
		return simulate.Case{}, err
	}
	c := simulate.Case{
		Provider: r.Name, Name: r.Name, Dir: "recipe",
		Open: func(*rand.Rand) simulate.Account { return r.open() },
	}
	values := r.values()
	for _, name := range r.Secrets {
		c.Secrets = append(c.Secrets, values[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.steps())) {
		if _, ok := r.good(name, ""); !ok {
			return c, fmt.Errorf("recipe %s has no example that gives something for %s", r.Name, name)
		}
		c.Endpoints = append(c.Endpoints, r.endpoint(name))
		for _, e := range r.Examples {
			if e.Of != name {
				continue
			}
			if name != "token" && (name == "balance" || r.countries() == nil || e.Country != "") && r.isGood(e) {
				c.Values += len(e.Gives)
			}
			// Another status decides the reason by itself.
			if e.Fails != "" && (e.Status == 0 || e.Status == http.StatusOK) {
				c.Errors = append(c.Errors, simulate.Error{Endpoint: name, Status: http.StatusOK, Body: e.Body, Reason: e.Fails})
			}
			if e.Gives != nil && len(e.Gives) == 0 {
				c.Empty = append(c.Empty, e.Body)
			}
		}
	}
	c.AnyKey = strings.Contains(string(text), "to_entries") || strings.Contains(string(text), "keys")
	for _, s := range r.steps() {
		c.Divide = max(c.Divide, s.Divide)
		c.AmountInText = c.AmountInText || slices.ContainsFunc([]string{"capture(", "split(", "sub("}, func(f string) bool { return strings.Contains(s.Value, f) })
	}
	c.PlainText = slices.ContainsFunc(slices.Collect(maps.Values(r.steps())), func(s *step) bool { return s.Format == "text" })
	c.Samples = r.samples()
	return c, nil
}

// isGood reports whether e is an answer of the simulator.
func (r *recipe) isGood(e example) bool {
	first, ok := r.good(e.Of, e.Country)
	return ok && first.Body == e.Body
}

// endpoint describes the requests of a step.
func (r *recipe) endpoint(name string) simulate.Endpoint {
	s := r.steps()[name]
	path := ""
	for i, part := range placeholder.Split(s.Request.Path, -1) {
		if i > 0 {
			path += "[^/]+"
		}
		path += regexp.QuoteMeta(part)
	}
	e := simulate.Endpoint{
		Name: name, Host: s.Request.Host, Path: regexp.MustCompile("^" + path + "$"),
		Source: "balance", Metric: "account_balance", Login: name == "token", Several: name != "balance",
		Good: func(status int, body []byte) bool {
			return status == http.StatusOK && slices.ContainsFunc(r.Examples, func(e example) bool {
				return e.Of == name && len(e.Gives) > 0 && (name == "token" || string(body) == e.Body)
			})
		},
	}
	if name == "prices" || r.Balance == nil {
		e.Source, e.Metric = "prices", "sms_price"
	}
	return e
}

// secretForm has characters that encodings change, early and late.
const secretForm = `Rc%d+/="&<canary>%%2F-secret`

// values returns settings and secrets of an account. Examples may need some of them.
func (r *recipe) values() map[string]string {
	values := map[string]string{}
	for i, name := range r.Settings {
		values[name] = fmt.Sprintf("%s-%d", strings.ReplaceAll(name, "_", "-"), i+7)
	}
	for i, name := range r.Secrets {
		values[name] = fmt.Sprintf(secretForm, i)
	}
	for _, e := range r.Examples {
		maps.Copy(values, e.Settings)
	}
	return values
}

// countries returns the countries that prices are asked for; nil for all at once.
func (r *recipe) countries() (countries []string) {
	if r.Prices == nil || !strings.Contains(fmt.Sprint(r.Prices.Request), "{country}") {
		return nil
	}
	for _, e := range r.Examples {
		if e.Of == "prices" && len(e.Gives) > 0 && !slices.Contains(countries, e.Country) {
			countries = append(countries, e.Country)
		}
	}
	return countries
}

// config returns the settings of an account. Those of its parts come from part.
func (r *recipe) config(values map[string]string, part string) string {
	var b strings.Builder
	for _, name := range r.Settings {
		fmt.Fprintf(&b, "%s: %q\n", name, values[name])
	}
	for _, name := range r.Secrets {
		fmt.Fprintf(&b, "%s: '%s'\n", name, values[name])
	}
	if r.Balance != nil && part != "" {
		fmt.Fprintf(&b, "balance: {%s}\n", part)
	}
	countries := r.countries()
	switch {
	case r.Prices != nil && countries != nil:
		fmt.Fprintf(&b, "prices: {%s}\n", strings.TrimPrefix(part+", countries: ["+strings.Join(countries, ", ")+"]", ", "))
	case r.Prices != nil && part != "":
		fmt.Fprintf(&b, "prices: {%s}\n", part)
	}
	return b.String()
}

func (r *recipe) open() simulate.Account {
	s := &Server{recipe: r, values: r.values()}
	a := simulate.Account{
		Config: r.config(s.values, "refresh_interval: $interval, max_age: $max_age"),
		Hosts:  map[string]http.Handler{"": s.Host("")},
	}
	for name := range r.Hosts {
		a.Hosts[name] = s.Host(name)
	}
	if r.Token != nil {
		a.ExpireTokens = s.ExpireTokens
	}
	return a
}

// samples returns the examples of balances and prices, each with the good answers to the
// other requests.
func (r *recipe) samples() []simulate.Sample {
	var all []simulate.Sample
	for i, e := range r.Examples {
		if e.Of == "token" {
			continue
		}
		s := simulate.Sample{
			Name: fmt.Sprintf("%s-%d", r.Name, i), Config: r.config(r.values(), ""),
			Answers: map[string]simulate.Answer{},
		}
		for name, step := range r.steps() {
			answer, _ := r.good(name, "")
			if name == e.Of {
				answer = e
			}
			path := placeholder.Split(step.Request.Path, 2)[0]
			s.Answers[path] = simulate.Answer{Status: answer.Status, ContentType: contentTypes[step.Format], Body: []byte(answer.Body)}
		}
		all = append(all, s)
	}
	return all
}
