package eightxeightsim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

const (
	accountID = "0f0e0d0c-0000-4000-8000-00000000000A"
	otherID   = "0f0e0d0c-0000-4000-8000-00000000000b"
	path      = "/api/v1/accounts/" + accountID
)

// documented is the list behind the documentation's example bodies.
var documented = []SubAccount{{
	ID: "example",
	Outbound: []Country{
		{Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65", Operators: []Operator{{
			Name: "SingTel", ID: 525001,
			HNI:   []HNI{{MCC: "525", MNC: "01"}, {MCC: "525", MNC: "02"}, {MCC: "525", MNC: "07"}},
			Price: &Price{"0.0520648", "SGD"},
		}}},
		{Alpha2Code: "US", Name: "United States", DialingPrefix: "+1", Operators: []Operator{{
			Name: "Western Wireless", ID: 310012,
			HNI:   []HNI{{MCC: "310", MNC: "03"}, {MCC: "310", MNC: "12"}},
			Price: &Price{"0.0161153", "SGD"},
		}}},
	},
}}

var documentedInbound = []SubAccount{{
	ID: "example",
	Inbound: []Country{{Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65", NumberTypes: []NumberType{
		{"tollFree", &Price{"0.0100000", "SGD"}},
		{"shortCodeP2P", &Price{"0.1230000", "SGD"}},
	}}},
}}

func newServer(prices ...SubAccount) *Server {
	return New(Options{Accounts: []Account{
		{ID: accountID, APIKey: "key", Currency: "USD", Balance: NewBalance("149309.7985931"), Prices: FixedPrices(prices...)},
		{ID: otherID, APIKey: "other", Postpaid: true},
	}})
}

// get asks s with the given key; none if it is empty.
func get(s http.Handler, key, target string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, target, nil)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func requireError(t *testing.T, w *httptest.ResponseRecorder, status, code int, message string) {
	t.Helper()
	require.Equal(t, status, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var body apiError
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
	assert.Equal(t, code, body.Code)
	assert.Equal(t, message, body.Message)
	assert.Regexp(t, `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, body.ErrorID)
	_, err := time.Parse(time.RFC3339Nano, body.Timestamp)
	assert.NoError(t, err)
}

func TestBodiesAreThoseOfTheDocumentation(t *testing.T) {
	s := newServer(documented...)
	assert.Equal(t, SampleBalance, get(s, "key", path+"/balance").Body.String())
	assert.Equal(t, SamplePricesExample, get(s, "key", path+"/prices").Body.String())
	assert.Equal(t, SamplePricesInbound, get(newServer(documentedInbound...), "key", path+"/prices").Body.String())

	s = newServer(SubAccount{
		ID: "example",
		Outbound: []Country{{Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65", Operators: []Operator{
			{Name: "MobileOne", ID: 525003, HNI: []HNI{{MCC: "525", MNC: "03"}}, Price: &Price{"0.0421477", "SGD"}},
		}}},
		Inbound: []Country{{Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65", NumberTypes: []NumberType{
			{"tollFree", &Price{"0.01", "SGD"}},
		}}},
	})
	s.SetShape(Shape{Form: FormSchema, Tollfree: true})
	assert.Equal(t, SamplePricesSchema, get(s, "key", path+"/prices").Body.String())
}

func TestAuthorization(t *testing.T) {
	s := newServer()
	const unauthenticated = "Request was not authenticated properly"
	requireError(t, get(s, "", path+"/balance"), 401, 1200, unauthenticated)
	requireError(t, get(s, "wrong", path+"/prices"), 401, 1200, unauthenticated)
	requireError(t, get(s, "other", path+"/balance"), 403, 1201, "Access forbidden")
	requireError(t, get(s, "key", "/api/v1/accounts/unknown/balance"), 404, 1300, "Not found")
	requireError(t, get(s, "key", "/elsewhere"), 404, 1300, "Not found")
	requireError(t, get(s, "other", "/api/v1/accounts/"+otherID+"/balance"), 403, 1201, "Account not in prepaid mode")

	undashed := strings.ToLower(strings.ReplaceAll(accountID, "-", ""))
	assert.Equal(t, 200, get(s, "key", "/api/v1/accounts/"+undashed+"/balance").Code)

	s.SetAccount(Account{ID: accountID, APIKey: "rotated", Balance: NewBalance("")})
	assert.Equal(t, 401, get(s, "key", path+"/balance").Code)
	assert.Equal(t, `{}`, get(s, "rotated", path+"/balance").Body.String())
	assert.Equal(t, `{"subAccounts":[]}`, get(s, "rotated", path+"/prices").Body.String())
}

func TestPriceQuery(t *testing.T) {
	second := SubAccount{ID: "second", Inbound: documentedInbound[0].Inbound}
	s := newServer(documented[0], second)
	for query, rows := range map[string][]string{
		"":                         {"example SingTel", "example Western Wireless", "second tollFree", "second shortCodeP2P"},
		"country=SG":               {"example SingTel", "second tollFree", "second shortCodeP2P"},
		"country=DE":               nil,
		"direction=outbound":       {"example SingTel", "example Western Wireless"},
		"direction=inbound":        {"second tollFree", "second shortCodeP2P"},
		"mcc=525&mnc=1":            {"example SingTel"},
		"mcc=310&mnc=12":           {"example Western Wireless"},
		"mcc=525&mnc=03":           nil,
		"subAccountId=second":      {"second tollFree", "second shortCodeP2P"},
		"country=US&mcc=525&mnc=1": nil,
	} {
		t.Run(query, func(t *testing.T) {
			w := get(s, "key", path+"/prices?"+query)
			require.Equal(t, 200, w.Code)
			assert.Equal(t, rows, exampleRows(t, w.Body.Bytes()))
		})
	}
	for query, code := range map[string]int{
		"country=SGP":           1009,
		"country=":              1009,
		"direction=up":          1000,
		"subAccountId=third":    1001,
		"mcc=525":               1000,
		"mnc=1":                 1000,
		"mcc=525&mnc=one":       1000,
		"mcc=1525&mnc=1":        1010,
		"mcc=525&mnc=1&mcc=526": 0, // the first of two counts
	} {
		t.Run(query, func(t *testing.T) {
			w := get(s, "key", path+"/prices?"+query)
			var body apiError
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
			assert.Equal(t, code, body.Code)
			assert.Equal(t, code != 0, w.Code == 400)
		})
	}
}

// exampleRows reads a body in the form of the examples.
func exampleRows(t *testing.T, body []byte) (rows []string) {
	t.Helper()
	type direction struct {
		Countries []struct {
			Operators []struct {
				OperatorName string
				HNI          []struct{ MCC, MNC string }
			}
			NumberTypes []struct{ Type string }
		}
	}
	var list struct {
		SubAccounts []struct {
			SubAccountID      string
			Outbound, Inbound direction
		}
	}
	require.NoError(t, json.Unmarshal(body, &list))
	for _, s := range list.SubAccounts {
		for _, c := range append(s.Outbound.Countries, s.Inbound.Countries...) {
			for _, o := range c.Operators {
				rows = append(rows, s.SubAccountID+" "+o.OperatorName)
			}
			for _, n := range c.NumberTypes {
				rows = append(rows, s.SubAccountID+" "+n.Type)
			}
		}
	}
	return rows
}

func TestShapes(t *testing.T) {
	operator := func(name string) Operator {
		return Operator{Name: name, ID: 1, HNI: []HNI{{MCC: "001", MNC: "07"}}, Price: &Price{"0.10", "USD"}}
	}
	sub := func(id string) SubAccount {
		return SubAccount{
			ID:       id,
			Outbound: []Country{{Alpha2Code: "XX", Operators: []Operator{operator("a"), operator("b"), operator("c"), operator("d")}}},
			Inbound:  []Country{{Alpha2Code: "XX", NumberTypes: []NumberType{{"tollFree", &Price{"0.20", "USD"}}}}},
		}
	}
	s := newServer(sub("1"), sub("2"), sub("3"))
	body := func(shape Shape, query string) string {
		s.SetShape(shape)
		return get(s, "key", path+"/prices?"+query).Body.String()
	}
	const country = `{"alpha2Code":"XX","countryName":"","dialingPrefix":"",`
	const inbound = country + `"numberTypes":[{"type":"tollFree","defaultPrice":{"amount":0.20,"currency":"USD"}}]}`

	assert.Equal(t, `{"subAccounts":[{"subAccountId":"1","inbound":{"countries":[`+inbound+`]}}]}`,
		body(Shape{InboundOnly: true}, "subAccountId=1"))
	assert.Equal(t, `{"subAccounts":[{"subAccountId":"1","inbound":[`+inbound+`]}]}`,
		body(Shape{Form: FormFlat, InboundOnly: true}, "subAccountId=1"))

	mixed := body(Shape{Form: FormMixed}, "direction=outbound")
	assert.Contains(t, mixed, `{"subAccountId":"1","outbound":{"countries":[`+country)
	assert.Contains(t, mixed, `{"subAccountId":"2","outbound":[{"countries":[`+country)
	assert.Contains(t, mixed, `{"subAccountId":"3","outbound":[`+country)

	odd := body(Shape{NumericHNI: true, MissingPrice: true, Duplicates: true}, "subAccountId=1&direction=outbound")
	const hni = `"operatorId":1,"hni":[{"mcc":1,"mnc":7}]`
	assert.Contains(t, odd, `"operators":[`+
		`{"operatorName":"a",`+hni+`},`+
		`{"operatorName":"b",`+hni+`,"price":{"currency":"USD"}},`+
		`{"operatorName":"c",`+hni+`,"price":{"amount":0.10}},`+
		`{"operatorName":"d",`+hni+`,"price":{"amount":0.10,"currency":"USD"}},`+
		`{"operatorName":"a",`+hni+`}]`)
	assert.Contains(t, body(Shape{Duplicates: true, Tollfree: true}, ""),
		`[{"type":"tollfree","defaultPrice":{"amount":0.20,"currency":"USD"}},`+
			`{"type":"tollfree","defaultPrice":{"amount":9.9999999,"currency":"USD"}}]`)

	// None of it has changed the list.
	assert.Equal(t, get(newServer(sub("1"), sub("2"), sub("3")), "key", path+"/prices").Body.String(), body(Shape{}, ""))
}

func TestFaults(t *testing.T) {
	s := newServer(documented...)
	serve := func(f simulate.Fault) *httptest.ResponseRecorder {
		s.Faults.Set(f)
		return get(s, "key", path+"/balance")
	}
	requireError(t, serve(Unauthorized()), 401, 1200, "Request was not authenticated properly")
	requireError(t, serve(Forbidden()), 403, 1201, "Access forbidden")
	requireError(t, serve(NotPrepaid()), 403, 1201, "Account not in prepaid mode")
	requireError(t, serve(NotFound()), 404, 1300, "Not found")
	requireError(t, serve(InternalError()), 500, 2000, "Internal server error")
	upgrade := serve(TLSRequired())
	requireError(t, upgrade, 426, 1014, "TLS 1.3+ is required for Singapore-bound messages. Detected: TLSv1.2")
	assert.Equal(t, "TLS/1.3", upgrade.Header().Get("Upgrade"))
	page := serve(BadGateway())
	assert.Equal(t, 502, page.Code)
	assert.Contains(t, page.Body.String(), "<html>")
	assert.Len(t, exampleRows(t, serve(LargePrices(2500)).Body.Bytes()), 2500)
	assert.Equal(t, SampleBalance, serve(nil).Body.String())
	assert.Equal(t, 9, s.Requests.Len())
}

func TestDialectsOfTooManyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(300 * time.Millisecond) // off the whole second
		s := newServer()
		for dialect, want := range map[simulate.Hint][2]string{
			simulate.HintSeconds: {"3", "Quota exceeded. Please try again in 3 second(s)."},
			simulate.HintDate:    {"Sat, 01 Jan 2000 00:00:03 GMT", "Quota exceeded."},
			simulate.HintBody:    {"", "Quota exceeded. Please try again in 3 second(s)."},
			simulate.HintNone:    {"", "Quota exceeded."},
		} {
			s.Faults.Set(TooManyRequests(dialect, 2100*time.Millisecond))
			w := get(s, "key", path+"/balance")
			requireError(t, w, 429, 429, want[1])
			assert.Equal(t, want[0], w.Header().Get("Retry-After"))
		}
	})
}

func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.quota = simulate.Quota{Requests: 1, Per: 2 * time.Second, Burst: 2}
		ask := func() *httptest.ResponseRecorder { return get(s, "key", path+"/balance") }

		assert.Equal(t, 200, ask().Code)
		assert.Equal(t, 200, ask().Code)
		refused := ask()
		assert.Equal(t, 429, refused.Code)
		assert.Equal(t, 1, s.Violations())
		assert.Equal(t, 403, get(s, "other", "/api/v1/accounts/"+otherID+"/balance").Code, "a quota of its own")

		wait, err := strconv.Atoi(refused.Header().Get("Retry-After"))
		require.NoError(t, err)
		time.Sleep(time.Duration(wait)*time.Second - 1)
		assert.Equal(t, 429, ask().Code)
		time.Sleep(time.Nanosecond)
		assert.Equal(t, 200, ask().Code)
		assert.Equal(t, 2, s.Violations())
	})
}

func TestTraffic(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := Traffic{Start: start, Opening: 100, Spend: 0.1, Day: 10 * time.Minute, Low: 40, TopUp: 80}
	at := func(d time.Duration) float64 {
		v, err := strconv.ParseFloat(string(b.At(start.Add(d))), 64)
		require.NoError(t, err)
		return v
	}
	assert.InDelta(t, 100, at(0), 0)
	assert.InDelta(t, 40, at(10*time.Minute), 0.05, "the average over a day")
	night, day := at(0)-at(time.Minute), at(5*time.Minute)-at(6*time.Minute)
	assert.Greater(t, day, 3*night)

	topUps := 0
	for minute := time.Minute; minute <= 5*time.Hour; minute += time.Minute {
		before, now := at(minute-time.Minute), at(minute)
		if now > before {
			topUps++
		}
		assert.GreaterOrEqual(t, now, b.Low)
	}
	assert.Equal(t, 22, topUps)
}

func TestDemoPrices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prices := DemoPrices(1, "EUR")
		now := time.Now()
		list := prices(now)
		assert.Equal(t, list, prices(now.Add(10*time.Minute-1)), "the same within a step")
		assert.NotEqual(t, list, DemoPrices(2, "EUR")(now))

		outbound, inbound := map[string]float64{}, 0
		for _, sub := range list {
			for _, c := range sub.Outbound {
				for _, o := range c.Operators {
					amount, err := o.Price.Amount.Float64()
					require.NoError(t, err)
					assert.True(t, amount >= 0.005 && amount <= 0.25, amount)
					assert.Equal(t, "EUR", o.Price.Currency)
					for _, h := range o.HNI {
						key := fmt.Sprint(sub.ID, c.Alpha2Code, o.Name, h)
						assert.Zero(t, outbound[key], key)
						outbound[key] = amount
					}
				}
			}
			for _, c := range sub.Inbound {
				inbound += len(c.NumberTypes)
			}
		}
		assert.GreaterOrEqual(t, len(list[0].Outbound), 150)
		series := len(outbound) + inbound
		assert.True(t, series >= 3000 && series <= 6000, series)

		moved := 0
		for _, sub := range prices(now.Add(6 * time.Hour)) {
			for _, c := range sub.Outbound {
				for _, o := range c.Operators {
					amount, _ := o.Price.Amount.Float64()
					before := outbound[fmt.Sprint(sub.ID, c.Alpha2Code, o.Name, o.HNI[0])]
					assert.InEpsilon(t, before, amount, 0.07)
					if amount != before {
						moved++
					}
				}
			}
		}
		assert.Greater(t, moved, 1000)
	})
}

func TestPlaces(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range places() {
		assert.Regexp(t, `^[A-Z]{2}$`, p.alpha2)
		assert.Regexp(t, `^\+[1-9][0-9]{0,3}$`, p.prefix)
		assert.Regexp(t, `^[2-7][0-9]{2}$`, p.mcc)
		assert.NotEmpty(t, p.name)
		assert.False(t, seen[p.alpha2], p.alpha2)
		seen[p.alpha2] = true
	}
}

func TestWriteSynthetic(t *testing.T) {
	for _, rows := range []int{0, 1, 1000, 1001, 100_001} {
		t.Run(strconv.Itoa(rows), func(t *testing.T) {
			var body strings.Builder
			require.NoError(t, WriteSynthetic(&body, rows))
			assert.True(t, json.Valid([]byte(body.String())))
			assert.Equal(t, rows, strings.Count(body.String(), `"operatorId"`))
		})
	}
	assert.ErrorIs(t, WriteSynthetic(failing{}, 1<<40), io.ErrClosedPipe)
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestSettableBalance(t *testing.T) {
	b := NewBalance("1.50")
	b.Set("-2")
	assert.Equal(t, json.Number("-2"), b.At(time.Now()))
}
