package recipe

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/balance-exporter/balance_exporter/providers"
)

// request is an HTTP request as a recipe writes it. Every text but Method and Host may
// have placeholders.
type request struct {
	Method    string            `yaml:"method"` // GET or POST; GET if empty
	Host      string            `yaml:"host"`   // one of the recipe's hosts; the base URL if empty
	Path      string            `yaml:"path"`
	Query     map[string]string `yaml:"query"`
	Headers   map[string]string `yaml:"headers"`
	Form      map[string]string `yaml:"form"`
	JSON      *yaml.Node        `yaml:"json"`
	BasicAuth *basicAuth        `yaml:"basic_auth"`

	json any // decoded from JSON
}

type basicAuth struct {
	Username string `yaml:"username"`
	Password string `yaml:"password"`
}

// place is where a text with placeholders stands.
type place struct {
	path, text string
	header     bool // so that it may have the token
}

// places returns all texts with placeholders, in a fixed order.
func (r *request) places() []place {
	all := []place{{path: "path", text: r.Path}}
	add := func(name string, texts map[string]string, header bool) {
		for _, key := range slices.Sorted(maps.Keys(texts)) {
			all = append(all, place{name + "." + key, texts[key], header})
		}
	}
	add("query", r.Query, false)
	add("headers", r.Headers, true)
	add("form", r.Form, false)
	if r.BasicAuth != nil {
		all = append(all, place{"basic_auth.username", r.BasicAuth.Username, true}, place{"basic_auth.password", r.BasicAuth.Password, true})
	}
	eachText(r.json, func(text string) string {
		all = append(all, place{path: "json", text: text})
		return text
	})
	return all
}

// eachText returns a copy of a JSON value with every text replaced; keys stay.
func eachText(v any, replace func(string) string) any {
	switch v := v.(type) {
	case string:
		return replace(v)
	case []any:
		list := make([]any, len(v))
		for i, element := range v {
			list[i] = eachText(element, replace)
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			object[key] = eachText(v[key], replace)
		}
		return object
	}
	return v
}

// call returns the request without its header lines.
func (r *request) call(v values) (c providers.Call, err error) {
	c = providers.Call{Method: r.Method, Host: r.Host}
	if c.Path, err = v.fill(r.Path, inPath); err != nil {
		return c, err
	}
	encode := func(texts map[string]string) string {
		encoded := url.Values{}
		for key, text := range texts {
			filled, _ := v.fill(text, plain)
			encoded.Set(key, filled)
		}
		return encoded.Encode()
	}
	c.Query = encode(r.Query)
	switch {
	case r.Form != nil:
		c.Body = []byte(encode(r.Form))
	case r.JSON != nil:
		var body bytes.Buffer
		encoder := json.NewEncoder(&body)
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(eachText(r.json, func(text string) string {
			filled, _ := v.fill(text, plain)
			return filled
		}))
		c.Body = bytes.TrimSpace(body.Bytes())
	}
	return c, err
}

// header returns the header lines of the request.
func (r *request) header(v values) (http.Header, error) {
	header := http.Header{}
	switch {
	case r.Form != nil:
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	case r.JSON != nil:
		header.Set("Content-Type", "application/json")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		line, err := v.fill(r.Headers[name], inHeader)
		if err != nil {
			return nil, err
		}
		header.Set(name, line)
	}
	if r.BasicAuth != nil {
		user, err := v.fill(r.BasicAuth.Username, userName)
		if err != nil {
			return nil, err
		}
		password, _ := v.fill(r.BasicAuth.Password, plain)
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	}
	return header, nil
}

var (
	headerName = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+.^_|~-]+$`)
	// unsafeHeader matches what belongs to one connection, what the exporter sets
	// itself, and what makes an answer other than whole.
	unsafeHeader = regexp.MustCompile(`(?i)^(connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|accept-encoding|` +
		`content-encoding|content-length|host|expect|if-.*|range)$`)
)

// check checks the request at path. known are the placeholders that it may have.
func (r *request) check(section providers.Section, path string, hosts map[string]string, known []string) error {
	at := func(key string) string { return path + "." + key }
	if _, ok := hosts[r.Host]; r.Host != "" && !ok {
		return section.Errorf(at("host"), "the recipe has no host %q; name one of its hosts, or leave host out for base_url", r.Host)
	}
	switch r.Method {
	case "", http.MethodGet, http.MethodPost:
	default:
		return section.Errorf(at("method"), "%q must be GET or POST", r.Method)
	}
	if problem := pathProblem(r.Path); problem != "" {
		return section.Errorf(at("path"), "%s; write one such as /v1/balance, and the host in base_url or hosts", problem)
	}
	hasBody := r.Form != nil || r.JSON != nil
	switch {
	case r.Form != nil && r.JSON != nil:
		return section.Errorf(at("form"), "form and json are both set; remove one of them")
	case hasBody && r.Method != http.MethodPost:
		return section.Errorf(path, "form and json need method: POST; set it")
	case r.BasicAuth != nil && r.BasicAuth.Username == "":
		return section.Errorf(at("basic_auth"), "has no username; write one such as \"{api_key}\"")
	}
	for name := range r.Headers {
		key := at("headers." + name)
		switch {
		case !headerName.MatchString(name):
			return section.Errorf(key, "not the name of a header; write one such as X-Api-Key, without spaces and colons")
		case unsafeHeader.MatchString(name):
			return section.Errorf(key, "this header would break requests or answers; remove it")
		case r.BasicAuth != nil && http.CanonicalHeaderKey(name) == "Authorization":
			return section.Errorf(key, "basic_auth sets this header; remove one of them")
		}
	}
	if r.JSON != nil {
		if err := r.JSON.Decode(&r.json); err != nil {
			return section.Errorf(at("json"), "cannot be JSON: %s; correct it", err)
		}
		if _, err := json.Marshal(r.json); err != nil {
			return section.Errorf(at("json"), "cannot be JSON: %s; correct it", err)
		}
	}
	for _, p := range r.places() {
		for _, name := range placeholders(p.text) {
			switch {
			case name == tokenName && slices.Contains(known, name) && !p.header:
				return section.Errorf(at(p.path), "{token} may stand in headers and basic_auth only, because it is filled in when the request is sent; move it there")
			case !slices.Contains(known, name):
				return section.Errorf(at(p.path), "unknown placeholder {%s}; %s", name, placeholderAdvice(known))
			}
		}
	}
	return nil
}

func placeholderAdvice(known []string) string {
	if len(known) == 0 {
		return "name it under settings or secrets"
	}
	return fmt.Sprintf("name it under settings or secrets, or write one of {%s}", strings.Join(known, "}, {"))
}

// pathProblem says what is wrong with a path; empty if nothing is.
func pathProblem(path string) string {
	u, err := url.Parse(path)
	switch {
	case path == "":
		return "is missing"
	case err != nil:
		return "is not a valid path"
	case u.Scheme != "" || u.Host != "" || strings.HasPrefix(path, "//"):
		return "must not name a host"
	case !strings.HasPrefix(path, "/"):
		return "must start with /"
	case strings.ContainsAny(path, "?#\\"):
		return "must not hold a query or fragment, which stands under query"
	case slices.ContainsFunc(strings.Split(u.Path, "/"), func(s string) bool { return s == "." || s == ".." }):
		return "must not have the segments . and .."
	}
	return ""
}
