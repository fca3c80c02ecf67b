package yeastar_test

import (
	"testing"

	"github.com/balance-exporter/balance_exporter/providers/providertest"
	"github.com/balance-exporter/balance_exporter/providers/yeastar"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

func TestConformance(t *testing.T) {
	providertest.Run(t, yeastar.Provider, yeastarsim.Cases()...)
}
