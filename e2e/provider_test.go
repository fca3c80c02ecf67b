package e2e

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
)

// simulated is the 8x8 of a test, on a loopback port, with one account.
type simulated struct {
	*eightxeightsim.Server
	balance *eightxeightsim.SettableBalance
	url     string
}

const (
	simAccount = "0f0e0d0c-0000-4000-8000-00000000000a"
	simKey     = "a-key-of-the-tests"
)

func startSimulator(t *testing.T, balance string) *simulated {
	t.Helper()
	s := &simulated{balance: eightxeightsim.NewBalance("")}
	s.set(balance)
	s.Server = eightxeightsim.New(eightxeightsim.Options{Accounts: []eightxeightsim.Account{{
		ID: simAccount, APIKey: simKey, Currency: "USD", Balance: s.balance,
		Prices: eightxeightsim.FixedPrices(eightxeightsim.SubAccount{ID: "marketing", Outbound: []eightxeightsim.Country{
			country("SG", "525", "01", "SingTel", "0.0520648"),
			country("DE", "262", "02", `Vodafone "D2" \ Süd`, "0.09"),
		}}),
	}}})
	server := httptest.NewServer(s.Server)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func country(alpha2, mcc, mnc, operator, price string) eightxeightsim.Country {
	return eightxeightsim.Country{
		Alpha2Code: alpha2, Name: alpha2, DialingPrefix: "+1",
		Operators: []eightxeightsim.Operator{{
			Name: operator, HNI: []eightxeightsim.HNI{{MCC: mcc, MNC: mnc}},
			Price: &eightxeightsim.Price{Amount: json.Number(price), Currency: "USD"},
		}},
	}
}

func (s *simulated) set(balance string) { s.balance.Set(json.Number(balance)) }

// account returns the configuration of the account under a name, with more lines of
// YAML.
func (s *simulated) account(name string, lines ...string) string {
	return fmt.Sprintf("  - name: %s\n    provider: 8x8\n    account_id: %s\n    api_key: %s\n    base_url: %s\n", name, simAccount, simKey, s.url) +
		indented(lines)
}

func indented(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString("    " + line + "\n")
	}
	return b.String()
}
