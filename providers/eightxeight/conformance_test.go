package eightxeight_test

import (
	"net/http"
	"testing"

	"github.com/balance-exporter/balance_exporter/providers/eightxeight"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/providertest"
)

func TestConformance(t *testing.T) {
	const key = "q7/Vh+2xMz=90&kLp"
	providertest.Run(t, providertest.Harness{
		Provider: eightxeight.Provider,
		Config: `
account_id: ` + accountID + `
api_key: ` + key + `
prices: {countries: [SG, US]}`,
		NewServer: func() http.Handler {
			return eightxeightsim.New(eightxeightsim.Options{Accounts: []eightxeightsim.Account{{
				ID:       accountID,
				APIKey:   key,
				Currency: "USD",
				Balance:  eightxeightsim.NewBalance("149309.7985931"),
				Prices: eightxeightsim.FixedPrices(eightxeightsim.SubAccount{
					ID: "marketing",
					Outbound: []eightxeightsim.Country{
						{
							Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65",
							Operators: []eightxeightsim.Operator{{
								Name: "SingTel", ID: 525001,
								HNI:   []eightxeightsim.HNI{{MCC: "525", MNC: "01"}, {MCC: "525", MNC: "02"}},
								Price: &eightxeightsim.Price{Amount: "0.0520648", Currency: "SGD"},
							}},
						},
						{
							Alpha2Code: "US", Name: "United States", DialingPrefix: "+1",
							Operators: []eightxeightsim.Operator{{
								Name: "Western Wireless", ID: 310012,
								HNI:   []eightxeightsim.HNI{{MCC: "310", MNC: "03"}},
								Price: &eightxeightsim.Price{Amount: "0.0161153", Currency: "SGD"},
							}},
						},
					},
					Inbound: []eightxeightsim.Country{{
						Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65",
						NumberTypes: []eightxeightsim.NumberType{{
							Type: "tollFree", DefaultPrice: &eightxeightsim.Price{Amount: "0.0100000", Currency: "SGD"},
						}},
					}},
				}),
			}}})
		},
		Values: 5,
	})
}
