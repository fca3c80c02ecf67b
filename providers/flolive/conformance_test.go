package flolive_test

import (
	"testing"

	"github.com/balance-exporter/balance_exporter/providers/flolive"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/providertest"
)

func TestConformance(t *testing.T) {
	providertest.Run(t, flolive.Provider, flolivesim.Cases()...)
}
