// Package all lists the providers of the exporter.
package all

import (
	"io/fs"
	"strings"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight"
	"github.com/balance-exporter/balance_exporter/providers/flolive"
	"github.com/balance-exporter/balance_exporter/providers/recipe"
	"github.com/balance-exporter/balance_exporter/providers/recipe/recipes"
	"github.com/balance-exporter/balance_exporter/providers/yeastar"
)

// Providers returns every provider that comes with the exporter, in the order in which
// they are shown: those in Go, of which a new one is one more line, and then the recipes.
func Providers() []providers.Provider {
	all := []providers.Provider{
		eightxeight.Provider,
		yeastar.Provider,
		flolive.Provider,
	}
	files, _ := fs.Glob(recipes.Files, "*.yml") // the pattern is valid
	for _, file := range files {
		all = append(all, providers.Provider{
			Name: strings.TrimSuffix(file, ".yml"),
			Load: func() (providers.Provider, error) { return load(file) },
		})
	}
	return all
}

// load returns the provider of a recipe that comes with the exporter.
func load(file string) (providers.Provider, error) {
	text, err := recipes.Files.ReadFile(file)
	if err != nil {
		return providers.Provider{}, err
	}
	section, err := config.ParseRecipe("recipes/"+file, text)
	if err != nil {
		return providers.Provider{}, err
	}
	return recipe.New(section)
}

// Known implements [config.Known]: it returns the providers that come with the exporter
// and those that the recipes of a configuration describe.
func Known(sections []*config.Section) ([]providers.Provider, error) {
	all := Providers()
	first := map[string]string{}
	for _, p := range all {
		first[p.Name] = ""
	}
	var faults []error
	for _, s := range sections {
		p, err := recipe.New(s)
		where, taken := first[p.Name]
		switch {
		case err != nil:
			faults = append(faults, err)
		case taken && where == "":
			faults = append(faults, s.Errorf("name", "%q is the name of a provider that comes with the exporter; choose another one", p.Name))
		case taken:
			faults = append(faults, s.Errorf("name", "%q is already the name of %s; give each recipe its own", p.Name, where))
		default:
			first[p.Name] = s.Place()
			all = append(all, p)
		}
	}
	return all, config.Join(faults...)
}

// Names returns the name of every provider, in the order of [Providers].
func Names() []string {
	var names []string
	for _, p := range Providers() {
		names = append(names, p.Name)
	}
	return names
}
