// Package recipesim simulates the API that a recipe describes: its requests, and the
// answers of its examples. It reads recipes by itself and shares nothing with the
// package that runs them, except the files.
package recipesim

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/balance-exporter/balance_exporter/providers/recipe/recipes"
)

// recipe is what the simulator needs of a recipe.
type recipe struct {
	Name     string
	Settings []string
	Secrets  []string
	Token    *step
	Balance  *step
	Prices   *step
	Examples []example

	MinInterval string `yaml:"min_interval"`
	BaseURL     string `yaml:"base_url"`
	Hosts       map[string]string
}

type step struct {
	Request struct {
		Method, Host, Path   string
		Query, Headers, Form map[string]string
		JSON                 any
		BasicAuth            *struct{ Username, Password string } `yaml:"basic_auth"`
	}
	Format string
	Value  string
	Divide int64
}

type example struct {
	Of       string
	Status   int
	Headers  map[string]string
	Body     string
	Settings map[string]string
	Country  string
	Gives    []map[string]string
	Fails    string
}

func parse(text []byte) (*recipe, error) {
	r := &recipe{}
	if err := yaml.Unmarshal(text, r); err != nil {
		return nil, err
	}
	for i := range r.Examples {
		if e := &r.Examples[i]; e.Of == "" {
			e.Of = "prices"
			if r.Balance != nil {
				e.Of = "balance"
			}
		}
	}
	return r, nil
}

// steps returns the steps of the recipe by name.
func (r *recipe) steps() map[string]*step {
	all := map[string]*step{}
	for name, s := range map[string]*step{"token": r.Token, "balance": r.Balance, "prices": r.Prices} {
		if s != nil {
			all[name] = s
		}
	}
	return all
}

// good returns the first example of a step that gives something, for a country if it is
// not empty.
func (r *recipe) good(of, country string) (example, bool) {
	i := slices.IndexFunc(r.Examples, func(e example) bool {
		return e.Of == of && len(e.Gives) > 0 && (country == "" || e.Country == country)
	})
	if i < 0 {
		return example{}, false
	}
	return r.Examples[i], true
}

// Server is a simulated API. It is safe for concurrent use.
type Server struct {
	recipe *recipe
	values map[string]string // of the placeholders

	mu     sync.Mutex
	issued int // tokens
}

// NewServer returns the API of a recipe that comes with the exporter, for an account with
// these settings and secrets.
func NewServer(name string, values map[string]string) *Server {
	text, err := recipes.Files.ReadFile(name + ".yml")
	if err != nil {
		panic(err) // the files are part of the program
	}
	r, err := parse(text)
	if err != nil {
		panic(name + ": " + err.Error())
	}
	return &Server{recipe: r, values: values}
}

// token returns the current token.
func (s *Server) token() string { return fmt.Sprintf("Tk%d+/=canary-token", s.issued) }

// ExpireTokens makes every token invalid.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued++
}

// Host returns the handler for one of the recipe's hosts; "" is the base URL.
func (s *Server) Host(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		status, header, text := s.answer(name, r, body)
		for key, value := range header {
			w.Header().Set(key, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text) // after the lock: a write may take long
	})
}

// answer returns the answer to a request.
func (s *Server) answer(host string, r *http.Request, sent []byte) (status int, header map[string]string, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for of, step := range s.recipe.steps() {
		country, ok := s.path(step, r)
		if step.Request.Host != host || !ok || r.Method != method(step) {
			continue
		}
		if problem := s.credentials(step, country, r, sent); problem != "" {
			return http.StatusUnauthorized, nil, problem
		}
		e, ok := s.recipe.good(of, country)
		if !ok {
			break
		}
		body := e.Body
		if of == "token" {
			s.issued++
			body = strings.ReplaceAll(body, e.Gives[0]["token"], s.token())
		}
		header := map[string]string{"Content-Type": contentTypes[step.Format]}
		maps.Copy(header, e.Headers)
		return http.StatusOK, header, body
	}
	return http.StatusNotFound, nil, "there is nothing here"
}

var contentTypes = map[string]string{"": "application/json", "json": "application/json", "text": "text/plain", "xml": "application/xml"}

func method(s *step) string {
	if s.Request.Method == "" {
		return http.MethodGet
	}
	return s.Request.Method
}

// path reports whether a request has the path of a step, and returns its country.
func (s *Server) path(step *step, r *http.Request) (country string, ok bool) {
	want, got := strings.Split(step.Request.Path, "/"), strings.Split(r.URL.EscapedPath(), "/")
	if len(want) != len(got) {
		return "", false
	}
	for key, text := range step.Request.Query {
		if text == "{country}" {
			country = r.URL.Query().Get(key)
		}
	}
	for i, segment := range got {
		text, err := url.PathUnescape(segment)
		if err != nil {
			return "", false
		}
		if before, after, has := strings.Cut(want[i], "{country}"); has {
			country = strings.TrimSuffix(strings.TrimPrefix(text, before), after)
		}
		if text != s.fill(want[i], country) {
			return "", false
		}
	}
	return country, true
}

// credentials returns what differs between a request and a step; empty if nothing does.
func (s *Server) credentials(step *step, country string, r *http.Request, body []byte) string {
	query, q := r.URL.Query(), step.Request
	for key, text := range q.Query {
		if query.Get(key) != s.fill(text, country) {
			return "the query " + key + " is wrong"
		}
	}
	if len(query) != len(q.Query) {
		return "the query has other parts"
	}
	for name, text := range q.Headers {
		if r.Header.Get(name) != s.fill(text, country) {
			return "the header " + name + " is wrong"
		}
	}
	if q.BasicAuth != nil {
		user, password, _ := r.BasicAuth()
		if user != s.fill(q.BasicAuth.Username, country) || password != s.fill(q.BasicAuth.Password, country) {
			return "user or password are wrong"
		}
	}
	switch {
	case q.Form != nil:
		form, err := url.ParseQuery(string(body))
		if err != nil || len(form) != len(q.Form) {
			return "the form has other parts"
		}
		for key, text := range q.Form {
			if form.Get(key) != s.fill(text, country) {
				return "the form's " + key + " is wrong"
			}
		}
	case q.JSON != nil:
		if want, err := json.Marshal(s.fillAll(q.JSON, country)); err != nil || !sameJSON(want, body) {
			return "the JSON body is wrong"
		}
	case len(body) > 0:
		return "there is a body"
	}
	return ""
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

var placeholder = regexp.MustCompile(`\{[a-z0-9_]+\}`)

// fill replaces placeholders.
func (s *Server) fill(text, country string) string {
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		switch found {
		case "{token}":
			return s.token()
		case "{country}":
			return country
		}
		return s.values[found[1:len(found)-1]]
	})
}

func (s *Server) fillAll(v any, country string) any {
	switch v := v.(type) {
	case string:
		return s.fill(v, country)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = s.fillAll(v[i], country)
		}
		return list
	case map[string]any:
		object := map[string]any{}
		for key := range v {
			object[key] = s.fillAll(v[key], country)
		}
		return object
	}
	return v
}
