// Package alltest lists the simulated accounts of all providers, for the tests of
// the whole program. A new provider is one more line here and in providers/all.
package alltest

import (
	"slices"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/all"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/recipe/recipesim"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

// Provider returns the provider of that name; ok is false if there is none.
func Provider(name string) (p providers.Provider, ok bool) {
	for _, p := range all.Providers() {
		if p.Name != name {
			continue
		}
		if p.Load != nil {
			var err error
			if p, err = p.Load(); err != nil {
				panic(err) // a recipe that comes with the exporter
			}
		}
		return p, true
	}
	return p, false
}

// Cases returns the cases of every provider, in the order of all.Providers.
func Cases() []simulate.Case {
	return slices.Concat(
		eightxeightsim.Cases(),
		yeastarsim.Cases(),
		flolivesim.Cases(),
		recipesim.Cases(),
	)
}
