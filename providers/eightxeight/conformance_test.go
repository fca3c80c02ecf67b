package eightxeight_test

import (
	"testing"

	"github.com/balance-exporter/balance_exporter/providers/eightxeight"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/providertest"
)

func TestConformance(t *testing.T) {
	providertest.Run(t, eightxeight.Provider, eightxeightsim.Cases()...)
}
