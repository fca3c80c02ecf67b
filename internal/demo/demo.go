// Package demo serves --demo: simulators of the providers in this process, accounts on
// them, and the configuration to read them.
package demo

import (
	_ "embed"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/recipe/recipesim"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

//go:embed demo.yml
var accounts string

// Config returns the configuration of the demo: demo.yml and its subscribers.
func Config() []byte {
	var text strings.Builder
	text.WriteString(accounts)
	fleet := flolivesim.Fleet(fleetSize, fleetSeed)
	now := time.Now()
	for i := range fleetSize {
		writeSubscriber(&text, fleet.At(i, now).ICCID, fmt.Sprintf("truck-%03d", i+1))
	}
	writeSubscriber(&text, "8900000000000000000", "scrapped-truck")
	return []byte(text.String())
}

func writeSubscriber(w io.Writer, iccid, name string) {
	_, _ = fmt.Fprintf(w, "        - {type: iccid, value: %q, name: %s}\n", iccid, name)
}

// The subscribers of the fleet exist, except for the last one of Config.
const (
	fleetSize = 199
	fleetSeed = 1
)

// Network returns the network with the providers that [Config] reads. Balances start to
// fall now. The caller closes it.
func Network() *simulate.Network {
	start := time.Now()
	sms := eightxeightsim.New(eightxeightsim.Options{
		Accounts: []eightxeightsim.Account{{
			ID: "0f0e0d0c-0000-4000-8000-000000000001", APIKey: "demo-key-of-messaging", Currency: "USD",
			// The balance falls below the threshold of 500 after 90 seconds, is topped up
			// 200 seconds later, and is low again ten minutes after that: examples/alerts.yml
			// fires within five minutes, and resolves between two dips.
			Balance: eightxeightsim.Traffic{
				Start: start, Opening: 545, Spend: 0.5, Day: time.Minute,
				Low: 400, TopUp: 400,
			},
			Prices: eightxeightsim.DemoPrices(1, "USD"),
		}, {
			ID: "0f0e0d0c-0000-4000-8000-000000000002", APIKey: "demo-key-of-invoiced", Postpaid: true,
			Prices: eightxeightsim.FixedPrices(),
		}},
		Shape: eightxeightsim.Shape{Form: eightxeightsim.FormExample},
		// The real service allows far more; the demo shows that a low limit is kept.
		Quota: simulate.Quota{Requests: 1, Per: time.Second, Burst: 10},
	})
	partner := yeastarsim.New(yeastarsim.Options{
		ClientID: "demo-partner", ClientSecret: "demo-secret-of-partner",
		AccessLife: 4 * time.Minute,
	})
	fleet := flolivesim.New(flolivesim.Options{
		Subscribers: flolivesim.Fleet(fleetSize, fleetSeed),
		Username:    "demo@example.com", Password: "demo-password-of-fleet",
		TokenLife: 10 * time.Minute,
	})
	voice := recipesim.NewServer("telnyx", map[string]string{"api_key": "demo-key-of-voice"})
	airtime := recipesim.NewServer("reloadly", map[string]string{"client_id": "demo-client", "client_secret": "demo-secret-of-airtime"})
	network := &simulate.Network{}
	network.Handle("sms.8x8.com", sms)
	network.Handle("openapi.partner.yeastar.com", partner)
	network.Handle("api.telnyx.com", voice.Host(""))
	network.Handle("topups.reloadly.com", airtime.Host(""))
	network.Handle("auth.reloadly.com", airtime.Host("auth"))
	network.Handle("floportal.flolive.net", fleet)
	return network
}
