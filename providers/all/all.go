// Package all lists the providers of the exporter.
package all

import (
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight"
	"github.com/balance-exporter/balance_exporter/providers/flolive"
	"github.com/balance-exporter/balance_exporter/providers/yeastar"
)

// Providers returns every provider, in the order in which they are shown. A new
// one is one more line.
func Providers() []providers.Provider {
	return []providers.Provider{
		eightxeight.Provider,
		yeastar.Provider,
		flolive.Provider,
	}
}

// Lookup returns the provider of that name, and whether there is one.
func Lookup(name string) (providers.Provider, bool) {
	for _, p := range Providers() {
		if p.Name == name {
			return p, true
		}
	}
	return providers.Provider{}, false
}

// Names returns the name of every provider, in the order of [Providers].
func Names() []string {
	var names []string
	for _, p := range Providers() {
		names = append(names, p.Name)
	}
	return names
}
