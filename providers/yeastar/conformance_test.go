package yeastar_test

import (
	"net/http"
	"testing"

	"github.com/balance-exporter/balance_exporter/providers/providertest"
	"github.com/balance-exporter/balance_exporter/providers/yeastar"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

func TestConformance(t *testing.T) {
	providertest.Run(t, providertest.Harness{
		Provider: yeastar.Provider,
		Config: `
client_id: partner-7
client_secret: "s3cr3t/that+has=signs&more"
currency: USD`,
		NewServer: func() http.Handler {
			return yeastarsim.New(yeastarsim.Options{
				ClientID: "partner-7", ClientSecret: "s3cr3t/that+has=signs&more", Balance: "675.24",
			})
		},
		Values: 1,
	})
}
