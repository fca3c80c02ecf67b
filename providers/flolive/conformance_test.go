package flolive_test

import (
	"net/http"
	"testing"

	"github.com/balance-exporter/balance_exporter/providers/flolive"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/providertest"
)

// TestConformance reads a subscriber with two balances, and a listing that finds
// nobody else.
func TestConformance(t *testing.T) {
	providertest.Run(t, providertest.Harness{
		Provider: flolive.Provider,
		Config: `
username: api@example.com
password: "s3cr3t/that+has=signs&more"
subscribers: {list: [{type: iccid, value: "8944501234567890123", name: truck-12, balance_ids: [mixed]}], customer_id: ` + flolivesim.DefaultCustomerID + `}`,
		NewServer: func() http.Handler {
			return flolivesim.New(flolivesim.Options{
				Username: "api@example.com", Password: "s3cr3t/that+has=signs&more",
				Subscribers: flolivesim.Listed{truck},
			})
		},
		Values: 2,
	})
}

// truck has the balances of the documentation's samples.
var truck = flolivesim.Subscriber{
	ID:    "0f0e0d0c-0000-4000-8000-00000000000a",
	ICCID: "8944501234567890123",
	IMEI:  "350000000000006",
	Pairs: []flolivesim.Pair{
		{IMSI: "234500000000001", MSISDN: "447000000001"},
		{IMSI: "234500000000002", MSISDN: "447000000002"},
	},
	Offers: []flolivesim.Offer{
		{ID: "data", Name: "Data", Type: "USAGE", Balances: []flolivesim.Balance{
			{ID: "e7fcef24-5c03-41dd-9e33-995b7d6f32b1", Unit: "KB", Value: "50.3"},
		}},
		{ID: "mixed", Name: "Mixed", Type: "MONEY", Balances: []flolivesim.Balance{
			{ID: "0f0e0d0c-0000-4000-8000-000000000001", Unit: "USD", Value: "12.75"},
			{ID: "0f0e0d0c-0000-4000-8000-000000000002", Unit: "SMS", Value: `"40"`},
		}},
		{ID: "rate", Name: "Rate", Type: "RATE"},
	},
}
