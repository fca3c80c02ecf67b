// Package alltest lists the simulated accounts of all providers, for the tests of
// the whole program. A new provider is one more line here and in providers/all.
package alltest

import (
	"slices"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

// Cases returns the cases of every provider, in the order of all.Providers.
func Cases() []simulate.Case {
	return slices.Concat(
		eightxeightsim.Cases(),
		yeastarsim.Cases(),
		flolivesim.Cases(),
	)
}
