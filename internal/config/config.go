// Package config turns the configuration file as written into its checked form.
// It knows the keys that every account has; each provider decodes its own part
// through a [Section].
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	promconfig "github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/providers"
)

// maxSize bounds the file: about 400 000 subscribers.
const maxSize = 64 << 20

// File is a checked configuration file.
type File struct {
	Accounts []*Account // in the order of the file; at least one
	// Providers are all that an account may name, recipes of the file included.
	Providers []providers.Provider
	Warnings  []string // one line each
}

// Account is the part of an account that is common to all providers. URLs are
// absolute, http or https, without user, query, fragment and final slash.
type Account struct {
	Name     string              `yaml:"name"` // unique within its provider; valid UTF-8, not empty
	Provider string              `yaml:"provider"`
	BaseURL  *url.URL            `yaml:"-"`
	Hosts    map[string]*url.URL `yaml:"-"` // all further hosts of the provider by name
	Header   http.Header         `yaml:"-"` // sent with every request; holds no credentials
	// Configure is that of the provider.
	Configure func(providers.Section) (providers.Account, error) `yaml:"-"`
	RateLimit quota.Limit                                        `yaml:"rate_limit"` // valid
	Timeout   time.Duration                                      `yaml:"timeout"`    // of one HTTP request; more than 0, default 30s
	HTTP      HTTP                                               `yaml:"http"`
	Section   *Section                                           `yaml:"-"` // the provider's own part
}

// HTTP is how to reach the provider, by the names of Prometheus. Paths are
// relative to the working directory.
type HTTP struct {
	Proxy promconfig.ProxyConfig `yaml:",inline"`
	TLS   promconfig.TLSConfig   `yaml:"tls_config"`
}

// Load reads and checks the configuration file at path, whose accounts are of the
// providers that known returns. An error has a line for each fault, as [Join] returns
// it; each line says where, what, and what to do, and shows no secret and no text from
// the environment. A file that can be read is returned with its faults: it has every
// account whose provider is known, so that the own parts of these can be checked too.
func Load(path string, known Known) (*File, error) {
	var text []byte
	err := checkFile(path)
	if err == nil {
		text, err = os.ReadFile(path)
	}
	var fault *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("--config.file %s: the file does not exist; create it or correct the path, or try --demo, which needs none", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("--config.file %s: permission denied; let the user that runs the exporter read the file", path)
	case errors.As(err, &fault):
		return nil, fmt.Errorf("--config.file %s: %w; name a YAML file with accounts", path, fault.Err)
	case err != nil:
		return nil, fmt.Errorf("--config.file %s: %w", path, err)
	}
	return Parse(path, filepath.Dir(path), text, os.LookupEnv, known)
}

// Known returns the providers that accounts may name, given the recipes of the file. An
// error is one that a recipe returns.
type Known func(recipes []*Section) ([]providers.Provider, error)

// Only returns a [Known] of these providers and no recipes.
func Only(known ...providers.Provider) Known {
	return func([]*Section) ([]providers.Provider, error) { return known, nil }
}

// ParseRecipe returns a text that is one recipe. name is the name of the file in errors.
func ParseRecipe(name string, text []byte) (*Section, error) {
	return parse(name, "", text, func(string) (string, bool) { return "", false })
}

// parse returns the whole of a text.
func parse(name, dir string, text []byte, env func(string) (string, bool)) (*Section, error) {
	doc := &document{
		file: name, dir: dir, env: env, result: &File{},
		values: make(map[string]string), sizes: make(map[*yaml.Node]int),
	}
	root, err := doc.parse(text)
	return &Section{doc: doc, node: root}, err
}

// checkFile returns an error if path is no regular file, because opening a named
// pipe or reading a device may block for ever, or if it is too large.
func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return &fs.PathError{Op: "read", Path: path, Err: errors.New("is a directory")}
	case !info.Mode().IsRegular():
		return &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	case info.Size() > maxSize:
		return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("larger than %d MiB", maxSize>>20)}
	}
	return nil
}

// Parse is Load for a text in memory. name is the name of the file in errors, dir
// is where relative paths start, env looks up environment variables.
func Parse(name, dir string, text []byte, env func(string) (string, bool), known Known) (*File, error) {
	file, err := parse(name, dir, text, env)
	if err != nil {
		return nil, Join(err)
	}
	doc := file.doc
	var top struct {
		Accounts []*yaml.Node `yaml:"accounts"`
		Recipes  []*yaml.Node `yaml:"recipes"`
	}
	err = file.Decode(&top)
	var recipes []*Section
	for i, n := range top.Recipes {
		if n != nil { // else an empty item, which is a fault
			recipes = append(recipes, &Section{doc: doc, path: "recipes" + indexStep(i), node: n})
		}
	}
	var invalid error
	if doc.result.Providers, invalid = known(recipes); invalid != nil {
		return nil, Join(errors.Join(doc.faults...), err, invalid) // the accounts may be of these recipes
	}
	if err == nil && len(top.Accounts) == 0 {
		err = file.Errorf("accounts", "there is no account; add at least one")
	}
	faults := []error{errors.Join(doc.faults...), err}
	type id struct{ provider, name string }
	seen := make(map[id]*Section)
	for i, n := range top.Accounts {
		if n == nil {
			continue // an empty item, which is a fault
		}
		s := &Section{doc: doc, path: "accounts" + indexStep(i), node: n}
		a, err := newAccount(s, doc.result.Providers)
		faults = append(faults, err)
		if a == nil {
			continue
		}
		if first := seen[id{a.Provider, a.Name}]; first != nil {
			faults = append(faults, s.Errorf("name", "%.60q is already the name of %s; give each account of a provider its own",
				s.written("name"), first.Place()))
			continue
		}
		seen[id{a.Provider, a.Name}] = s
		doc.result.Accounts = append(doc.result.Accounts, a)
	}
	return doc.result, Join(faults...)
}
