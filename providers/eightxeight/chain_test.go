package eightxeight_test

import (
	"cmp"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
)

// served sends calls to a simulated server.
type served struct{ handler http.Handler }

func (served) Mask(string) {}

func (s served) Do(ctx context.Context, call providers.Call) error {
	header, err := call.Authorize()
	if err != nil {
		return err
	}
	r := httptest.NewRequestWithContext(ctx, cmp.Or(call.Method, http.MethodGet), eightxeight.Provider.BaseURL+call.Path+"?"+call.Query, nil)
	r.Header = header
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return deliver(call, w.Code, w.Body)
}

func simulator(prices eightxeightsim.Prices) *eightxeightsim.Server {
	return eightxeightsim.New(eightxeightsim.Options{Accounts: []eightxeightsim.Account{{
		ID: accountID, APIKey: "the-key", Currency: "USD", Balance: eightxeightsim.NewBalance("149309.7985931"), Prices: prices,
	}}})
}

// demoPrices is a list of some thousand rows that does not change.
func demoPrices() eightxeightsim.Prices {
	return eightxeightsim.FixedPrices(eightxeightsim.DemoPrices(1, "EUR")(time.Unix(0, 0))...)
}

func TestSimulatedBalance(t *testing.T) {
	server := simulator(nil)
	balance := source(t, providers.KindBalance, served{server})
	prepaid := providers.Reading{Billing: providers.BillingPrepaid, Balances: []providers.Balance{{Amount: 149309.7985931, Currency: "USD"}}}
	reading, err := balance.Fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, prepaid, reading)

	server.Faults.Set(eightxeightsim.NotPrepaid())
	reading, err = balance.Fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, providers.Reading{Billing: providers.BillingPostpaid, AskAfter: time.Hour}, reading)

	server.Faults.Clear()
	reading, err = balance.Fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, prepaid, reading, "topped up for the first time")
}

func TestSimulatedFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		fault simulate.Fault
		want  providers.Reason
	}{
		"unauthorized":    {eightxeightsim.Unauthorized(), providers.ReasonAuth},
		"forbidden":       {eightxeightsim.Forbidden(), providers.ReasonForbidden},
		"not found":       {eightxeightsim.NotFound(), providers.ReasonNotFound},
		"TLS version":     {eightxeightsim.TLSRequired(), providers.ReasonTLS},
		"internal error":  {eightxeightsim.InternalError(), providers.ReasonUnavailable},
		"proxy's page":    {eightxeightsim.BadGateway(), providers.ReasonUnavailable},
		"page with 200":   {simulate.HTML(200), providers.ReasonBadResponse},
		"no content":      {simulate.Status(204, "", "", nil), providers.ReasonBadResponse},
		"deeply nested":   {simulate.DeepJSON(100_000), providers.ReasonBadResponse},
		"nothing at all":  {simulate.Body(""), providers.ReasonBadResponse},
		"quota, no time":  {eightxeightsim.TooManyRequests(simulate.HintNone, time.Minute), providers.ReasonRateLimited},
		"quota, in words": {eightxeightsim.TooManyRequests(simulate.HintBody, time.Minute), providers.ReasonRateLimited},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []providers.Kind{providers.KindBalance, providers.KindPrices} {
				server := simulator(demoPrices())
				server.Faults.Set(tt.fault)
				reading, err := source(t, kind, served{server}).Fetch(t.Context())
				require.Equal(t, tt.want, providers.AsError(err).Reason, "%s: %v", kind, err)
				require.Empty(t, reading)
			}
		})
	}
}

func TestSimulatedForms(t *testing.T) {
	server := simulator(demoPrices())
	prices := source(t, providers.KindPrices, served{server})
	want, err := prices.Fetch(t.Context())
	require.NoError(t, err)
	require.Greater(t, len(want.Prices), 3000)
	require.Empty(t, want.Dropped)
	for name, shape := range map[string]eightxeightsim.Shape{
		"schema":   {Form: eightxeightsim.FormSchema},
		"flat":     {Form: eightxeightsim.FormFlat},
		"mixed":    {Form: eightxeightsim.FormMixed},
		"tollfree": {Tollfree: true},
	} {
		server.SetShape(shape)
		reading, err := prices.Fetch(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, reading, name)
	}

	server.SetShape(eightxeightsim.Shape{InboundOnly: true})
	reading, err := prices.Fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, slices.DeleteFunc(slices.Clone(want.Prices), func(p providers.Price) bool { return p.Direction == providers.Outbound }), reading.Prices)

	server.SetShape(eightxeightsim.Shape{Duplicates: true})
	reading, err = prices.Fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, want.Prices, reading.Prices, "the first ones stay")
	require.Greater(t, reading.Dropped[providers.DropDuplicate], 100)

	server.SetShape(eightxeightsim.Shape{MissingPrice: true})
	reading, err = prices.Fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, len(want.Prices), len(reading.Prices)+reading.Dropped[providers.DropIncomplete], "every series that would have been")
	sound := map[providers.Price]bool{}
	for _, p := range want.Prices {
		sound[p] = true
	}
	for _, p := range reading.Prices {
		require.True(t, sound[p], "%v", p)
	}
}

func TestSimulatedFilters(t *testing.T) {
	server := simulator(demoPrices())
	everything, err := source(t, providers.KindPrices, served{server}).Fetch(t.Context())
	require.NoError(t, err)
	us := slices.IndexFunc(everything.Prices, func(p providers.Price) bool { return p.Country == "US" })
	network := everything.Prices[us]

	server.Requests.Reset()
	filtered := source(t, providers.KindPrices, served{server},
		"prices: {direction: outbound, countries: [sg], networks: [{mcc: '"+network.MCC+"', mnc: '"+network.MNC+"'}], sub_accounts: [marketing]}")
	reading, err := filtered.Fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, filtered.Describe().Requests, server.Requests.Len())
	var want []providers.Price
	for _, p := range everything.Prices {
		if p.SubAccount == "marketing" && p.Direction == providers.Outbound &&
			// All networks of an operator come with any of them.
			(p.Country == "SG" || p.Country == "US" && strings.EqualFold(p.Operator, network.Operator)) {
			want = append(want, p)
		}
	}
	require.NotEmpty(t, want)
	require.Equal(t, want, reading.Prices)

	_, err = source(t, providers.KindPrices, served{server}, "prices: {sub_accounts: [unheard-of]}").Fetch(t.Context())
	require.Equal(t, providers.ReasonBadRequest, providers.AsError(err).Reason)
}
