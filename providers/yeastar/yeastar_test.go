package yeastar_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/providertest"
	"github.com/balance-exporter/balance_exporter/providers/yeastar"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

const (
	clientID     = "partner-7"
	clientSecret = "the-client-secret"
)

// parse returns the account of a configuration that has only the provider's keys,
// each on a line.
func parse(t testing.TB, keys ...string) (*config.Account, *config.File) {
	t.Helper()
	return providertest.Parse(t, yeastar.Provider, "a", ".", keys...)
}

// sound are the keys of a configuration without fault.
var sound = []string{"client_id: " + clientID, "client_secret: " + clientSecret, "currency: usd"}

// partner is an opened account of a simulated API.
type partner struct {
	sim    *yeastarsim.Server
	faults *simulate.Switch
	source providers.Source
	gate   *httpapi.Gate
}

func open(t *testing.T, options yeastarsim.Options, keys ...string) *partner {
	t.Helper()
	if len(keys) == 0 {
		keys = sound
	}
	options.ClientID = clientID
	if options.Balance == "" {
		options.Balance = "675.24"
	}
	p := &partner{sim: yeastarsim.New(options)}
	p.faults = simulate.NewSwitch(p.sim)

	account, _ := parse(t, keys...)
	cfg, err := yeastar.Provider.Configure(account.Section)
	require.NoError(t, err)
	p.gate = httpapi.NewGate(quota.Limit{Requests: 1000, Per: time.Second, Burst: 1000}, cfg.Secrets()...)
	opened, err := cfg.Open(providers.Env{Account: "a", HTTP: httpapi.New(httpapi.Options{
		Provider:  "yeastar",
		Account:   "a",
		BaseURL:   &url.URL{Scheme: "https", Host: "openapi.test"},
		Timeout:   30 * time.Second,
		Transport: simulate.Transport(p.faults),
		Gate:      p.gate,
		Slots:     httpapi.NewSlots(1),
		Mask:      secret.NewMask(cfg.Secrets()...),
		Observer:  ignoring{},
		Logger:    log.NewNopLogger(),
	})})
	require.NoError(t, err)
	require.Len(t, opened.Sources(), 1)
	p.source = opened.Sources()[0]
	return p
}

type ignoring struct{}

func (ignoring) Request(string, string, string, time.Duration) {}

// reads checks that the balance can be had.
func (p *partner) reads(t *testing.T, want float64) {
	t.Helper()
	reading, err := p.source.Fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, providers.Reading{Balance: &providers.Balance{Amount: want, Currency: "USD"}}, reading)
}

// fails returns the error of a fetch.
func (p *partner) fails(t *testing.T) *providers.Error {
	t.Helper()
	reading, err := p.source.Fetch(t.Context())
	require.Equal(t, providers.Reading{}, reading)
	var e *providers.Error
	require.ErrorAs(t, err, &e)
	return e
}

// sent checks the requests since the last check: logins, refreshes and reads.
func (p *partner) sent(t *testing.T, since *yeastarsim.Counters, logins, refreshes, reads int) {
	t.Helper()
	now := p.sim.Counters()
	require.Equal(t, yeastarsim.Counters{
		Logins:       since.Logins + logins,
		Refreshes:    since.Refreshes + refreshes,
		BalanceReads: since.BalanceReads + reads,
		Requests:     since.Requests + logins + refreshes + reads,
	}, now)
	*since = now
}

func sample(t testing.TB, name string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	require.NoError(t, err)
	return string(body)
}

// TestDocumentedBodies compares what becomes of the bodies of the documentation,
// whatever the request that they are the answer to.
func TestDocumentedBodies(t *testing.T) {
	type outcome struct {
		Reading string
		Error   string
	}
	reading, err := json.Marshal(providers.Reading{Balance: &providers.Balance{Amount: 675.24, Currency: "USD"}})
	require.NoError(t, err)
	const http200 = "reading the balance: the provider answered with HTTP status 200"
	for name, want := range map[string]outcome{
		"balance":           {Reading: string(reading)},
		"token":             {Error: `bad_response: reading the balance: reading the answer: balance: "accountBalance" is missing or is no number`},
		"orders":            {Error: `bad_response: reading the balance: reading the answer: balance: "accountBalance" is missing or is no number`},
		"error-parameter":   {Error: "bad_request: " + http200 + `, status 400, code "parameter_validation_failed": grant_type must not be blank (id 7a11)`},
		"error-token":       {Error: "auth: " + http200 + `, status 401, code "invalid_token": Access token expired (id 7a12)`},
		"error-token-oauth": {Error: "auth: " + http200 + `, code "invalid_token": Access token expired`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := open(t, yeastarsim.Options{})
				p.sim.Fail(yeastarsim.BalancePath, yeastarsim.Fault{Body: sample(t, name)})
				var got outcome
				reading, err := p.source.Fetch(t.Context())
				if err != nil {
					got.Error = err.Error()
				} else {
					text, err := json.Marshal(reading)
					require.NoError(t, err)
					got.Reading = string(text)
				}
				require.Equal(t, want, got)
			})
		})
	}
}

func TestDocumentedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yeastarsim.Options{})
		p.sim.Fail(yeastarsim.TokenPath, yeastarsim.Fault{Body: sample(t, "token")})
		var authorization, agent, accept string
		p.faults.Set(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				authorization, agent, accept = r.Header.Get("Authorization"), r.Header.Get("User-Agent"), r.Header.Get("Accept")
				require.NotContains(t, r.RequestURI, "secret")
				next.ServeHTTP(w, r)
			})
		})
		p.sim.Fail(yeastarsim.BalancePath, yeastarsim.Fault{Body: sample(t, "balance")})
		p.reads(t, 675.24)
		require.Equal(t, "Bearer eyJ.a.x", authorization)
		require.Equal(t, "OpenAPI", agent)
		require.Equal(t, "application/json", accept)
	})
}

func TestBalances(t *testing.T) {
	for text, want := range map[string]float64{
		`675.24`: 675.24, `-3`: -3, `0`: 0, `"675.24"`: 675.24, `" -0.5 "`: -0.5, `1e3`: 1000, `149309.7985931`: 149309.7985931,
	} {
		synctest.Test(t, func(t *testing.T) {
			open(t, yeastarsim.Options{Balance: text}).reads(t, want)
		})
	}
	for _, text := range []string{
		`null`, `""`, `"NaN"`, `"Infinity"`, `"-inf"`, `"0x10"`, `"1,5"`, `"1_000"`, `"+1"`, `"€ 5"`, `true`, `[]`, `[5]`, `{}`, `1e999`, `"1e999"`,
	} {
		synctest.Test(t, func(t *testing.T) {
			p := open(t, yeastarsim.Options{Balance: text})
			require.Equal(t, providers.ReasonBadResponse, p.fails(t).Reason, text)
		})
	}
}

// TestSuccessIsAgreed is about all that has to say that an answer is a success.
func TestSuccessIsAgreed(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
		want   providers.Reason // "" for a success
	}{
		"no status":                {200, `{"code":"success","result":{"accountBalance":1}}`, ""},
		"null status":              {200, `{"code":"success","status":null,"result":{"accountBalance":1}}`, ""},
		"status as text":           {200, `{"code":"SUCCESS","status":"200","result":{"accountBalance":1}}`, ""},
		"status 201":               {201, `{"code":"Success","status":201,"result":{"accountBalance":1}}`, ""},
		"status of another type":   {200, `{"code":"success","status":{},"result":{"accountBalance":1}}`, providers.ReasonBadResponse},
		"status 0":                 {200, `{"code":"success","status":0,"result":{"accountBalance":1}}`, providers.ReasonBadResponse},
		"status 500":               {200, `{"code":"success","status":500,"result":{"accountBalance":1}}`, providers.ReasonUnavailable},
		"HTTP status 500":          {500, `{"code":"success","status":200,"result":{"accountBalance":1}}`, providers.ReasonUnavailable},
		"another code":             {200, `{"code":"ok","status":200,"result":{"accountBalance":1}}`, providers.ReasonBadResponse},
		"a number for code":        {200, `{"code":0,"status":200,"result":{"accountBalance":1}}`, providers.ReasonBadResponse},
		"no code":                  {200, `{"status":200,"result":{"accountBalance":1}}`, providers.ReasonBadResponse},
		"no result":                {200, `{"code":"success","status":200}`, providers.ReasonBadResponse},
		"null result":              {200, `{"code":"success","status":200,"result":null}`, providers.ReasonBadResponse},
		"result of another type":   {200, `{"code":"success","status":200,"result":[{"accountBalance":1}]}`, providers.ReasonBadResponse},
		"status 403":               {200, `{"code":"forbidden","status":403}`, providers.ReasonForbidden},
		"status 404":               {200, `{"code":"not_found","status":"404"}`, providers.ReasonNotFound},
		"status 422":               {200, `{"code":"x","status":422}`, providers.ReasonBadRequest},
		"status 429":               {200, `{"code":"x","status":429}`, providers.ReasonRateLimited},
		"validation by code alone": {200, `{"code":"parameter_validation_failed","status":200}`, providers.ReasonBadRequest},
		"token by code alone":      {200, `{"code":"Invalid Access-Token","status":200}`, providers.ReasonAuth},
		"limit by code alone":      {200, `{"code":"Too many requests","status":200}`, providers.ReasonRateLimited},
		"token with 403":           {403, `{"code":"TOKEN_EXPIRED","status":403}`, providers.ReasonAuth},
		"token with 503":           {503, `{"code":"token server is down","status":503}`, providers.ReasonUnavailable},
		"body before HTTP":         {400, `{"code":"x","status":404}`, providers.ReasonNotFound},
		"429 in HTTP alone":        {429, `{"code":"x","status":500}`, providers.ReasonRateLimited},
		"401 in HTTP alone":        {401, `{"code":"x","status":400}`, providers.ReasonAuth},
		"HTML":                     {200, `<html>`, providers.ReasonBadResponse},
		"HTML with 503":            {503, `<html>`, providers.ReasonUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := open(t, yeastarsim.Options{})
				p.sim.Fail(yeastarsim.BalancePath, yeastarsim.Fault{Status: tt.status, Body: tt.body})
				if tt.want == "" {
					p.reads(t, 1)
					return
				}
				e := p.fails(t)
				require.Equal(t, tt.want, e.Reason, e)
				until, _ := p.gate.Hold()
				require.Equal(t, tt.want == providers.ReasonRateLimited, !until.IsZero())
			})
		})
	}
}

func TestErrorText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yeastarsim.Options{})
		detail := `line one\nline\u0000 two\u202e ` + clientSecret + ` ` + strings.Repeat("and so on ", 100)
		p.sim.Fail(yeastarsim.BalancePath, yeastarsim.Fault{Status: 400, Body: `{"code":"x\ty","detailMessage":"` + detail + `","requestId":"id\r\n1","status":400}`})
		e := p.fails(t)
		require.Equal(t, "id 1", e.ID)
		require.Regexp(t, `^reading the balance: the provider answered with HTTP status 400, code "x y": line one line two <secret> (and so on )+.*…$`, e.Message)
		require.Less(t, len(e.Message), 300)
	})
}

// TestRateLimited tells the time in each way that the simulator knows, then in
// none, which doubles the wait each time.
func TestRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yeastarsim.Options{})
		p.reads(t, 675.24)
		seen := p.sim.Counters()
		limited := func(hint simulate.Hint, told, least, most time.Duration) {
			p.sim.Fail("", yeastarsim.Fault{Status: 429, RetryAfter: 7 * time.Second, Hint: hint, Times: 1})
			require.Equal(t, told, p.fails(t).RetryAfter)
			p.sent(t, &seen, 0, 0, 1)
			until, _ := p.gate.Hold()
			require.GreaterOrEqual(t, time.Until(until), least)
			require.LessOrEqual(t, time.Until(until), most)
			time.Sleep(time.Until(until) - 1)
			require.ErrorIs(t, p.fails(t), providers.ErrNotAsked)
			p.sent(t, &seen, 0, 0, 0)
			time.Sleep(time.Nanosecond)
		}
		for _, hint := range []simulate.Hint{simulate.HintSeconds, simulate.HintDate, simulate.HintBody} {
			limited(hint, 7*time.Second, 7*time.Second, 7*time.Second)
			p.reads(t, 675.24)
			p.sent(t, &seen, 0, 0, 1)
		}
		for wait := time.Second; wait < 20*time.Second; wait *= 2 {
			limited(simulate.HintNone, 0, wait, wait+wait/5)
		}
	})
}
