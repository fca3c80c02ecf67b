package yeastar_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/yeastar"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

const (
	clientID     = "partner-7"
	clientSecret = "the-client-secret"
)

// sound are the keys of a configuration without fault, each on a line.
var sound = []string{"client_id: " + clientID, "client_secret: " + clientSecret, "currency: usd"}

// configure returns the account of a configuration file that has only the given
// keys of the provider, with the warnings about it.
func configure(t testing.TB, keys ...string) (providers.Account, []string, error) {
	t.Helper()
	text := "accounts:\n  - name: a\n    provider: yeastar\n    " + strings.Join(keys, "\n    ") + "\n"
	empty := func(string) (string, bool) { return "", false }
	file, err := config.Parse("balance_exporter.yml", ".", []byte(text), empty, config.Only(yeastar.Provider))
	require.NoError(t, err)
	account, err := yeastar.Provider.Configure(file.Accounts[0].Section)
	return account, file.Warnings, err
}

// chain is a request chain without a network. Like the real one it blocks the
// account when credentials are refused for good.
type chain struct {
	server http.Handler
	mask   *secret.Mask

	mu      sync.Mutex
	wrap    func(http.Handler) http.Handler // nil: none
	delay   time.Duration
	blocked bool
}

func (c *chain) Mask(text string) { c.mask.Add(text) }

func (c *chain) Do(ctx context.Context, call providers.Call) error {
	c.mu.Lock()
	server, blocked := c.server, c.blocked
	if c.wrap != nil {
		server = c.wrap(server)
	}
	c.mu.Unlock()
	if blocked {
		return providers.Errorf(providers.ReasonAuth, "%w", providers.ErrNotAsked)
	}
	method := call.Method
	if method == "" {
		method = http.MethodGet
	}
	r := httptest.NewRequestWithContext(ctx, method, "https://openapi.test"+call.Path, bytes.NewReader(call.Body))
	for key, values := range call.Header {
		r.Header[key] = values
	}
	if call.Authorize != nil {
		header, err := call.Authorize()
		if err != nil {
			return err
		}
		for key, values := range header {
			r.Header[key] = values
		}
	}
	if simulate.Sleep(ctx, c.delay) != nil {
		return providers.Errorf(providers.ReasonTimeout, "no answer: %w", context.Cause(ctx))
	}
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	err := call.Parse(answer(w.Code, w.Body.Bytes(), c.mask))
	if err == nil {
		return nil
	}
	var e *providers.Error
	if !errors.As(err, &e) {
		e = providers.Errorf(providers.ReasonBadResponse, "%w", err)
	}
	if e.Reason == providers.ReasonAuth && (call.Renewable == nil || !call.Renewable()) {
		c.block(true)
	}
	return e
}

func (c *chain) block(blocked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked = blocked
}

// answer returns an answer that quotes as the real chain does.
func answer(status int, body []byte, mask *secret.Mask) providers.Answer {
	return providers.Answer{Status: status, Body: body, Quote: func(text string, limit int) string {
		text = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return ' '
			}
			return r
		}, mask.String(text))
		runes := []rune(strings.Join(strings.Fields(text), " "))
		if len(runes) > limit {
			return string(runes[:limit-1]) + "…"
		}
		return string(runes)
	}}
}

// partner is an opened account of a simulated API.
type partner struct {
	*chain
	sim    *yeastarsim.Server
	source providers.Source
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
	account, _, err := configure(t, keys...)
	require.NoError(t, err)
	sim := yeastarsim.New(options)
	p := &partner{sim: sim, chain: &chain{server: sim, mask: secret.NewMask(account.Secrets...)}}
	sources, err := account.Open(providers.Env{Account: "a", HTTP: p.chain})
	require.NoError(t, err)
	require.Len(t, sources, 1)
	p.source = sources[0]
	return p
}

// reads checks that the balance can be read.
func (p *partner) reads(t *testing.T, want float64) {
	t.Helper()
	reading, err := p.source.Fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, providers.Reading{Balances: []providers.Balance{{Amount: want, Currency: "USD"}}}, reading)
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
	reading, err := json.Marshal(providers.Reading{Balances: []providers.Balance{{Amount: 675.24, Currency: "USD"}}})
	require.NoError(t, err)
	for name, want := range map[string]outcome{
		"balance":           {Reading: string(reading)},
		"token":             {Error: `bad_response: "accountBalance" is missing or not a number`},
		"orders":            {Error: `bad_response: "accountBalance" is missing or not a number`},
		"error-parameter":   {Error: `bad_request: Yeastar refuses the request as invalid (HTTP status 200, code 400 parameter_validation_failed): "grant_type must not be blank" (id 7a11)`},
		"error-token":       {Error: `auth: Yeastar refuses the credentials (HTTP status 200, code 401 invalid_token): "Access token expired" (id 7a12)`},
		"error-token-oauth": {Error: `auth: Yeastar refuses the credentials (HTTP status 200, code invalid_token): "Access token expired"`},
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
		var sent []http.Header
		p.wrap = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sent = append(sent, r.Header)
				require.NotContains(t, r.RequestURI, "secret")
				next.ServeHTTP(w, r)
			})
		}
		p.sim.Fail(yeastarsim.BalancePath, yeastarsim.Fault{Body: sample(t, "balance")})
		p.reads(t, 675.24)
		require.Equal(t, []http.Header{
			{"User-Agent": {"OpenAPI"}, "Content-Type": {"application/x-www-form-urlencoded"}},
			{"User-Agent": {"OpenAPI"}, "Authorization": {"Bearer eyJ.a.x"}},
		}, sent)
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
		"keys in another case":     {200, `{"code":"success","CODE":"no","status":200,"Status":500,"result":{"accountBalance":1,"accountbalance":0},"RESULT":{}}`, ""},
		"keys in another case 2":   {200, `{"RESULT":{},"Status":500,"status":200,"result":{"AccountBalance":0,"accountBalance":1},"CODE":"no","code":"success"}`, ""},
		"HTTP status 202":          {202, `{"code":"success","result":{"accountBalance":1}}`, providers.ReasonBadResponse},
		"status 202":               {200, `{"code":"success","status":202,"result":{"accountBalance":1}}`, providers.ReasonBadResponse},
		"no body":                  {200, ` `, providers.ReasonBadResponse},
		"an empty object":          {200, `{}`, providers.ReasonBadResponse},
		"a list":                   {200, `[]`, providers.ReasonBadResponse},
		"a cut body":               {200, `{"code":"success","result":{"accountBalance":1}`, providers.ReasonBadResponse},
		"OAuth error with 200":     {200, `{"error":"rate_limit_exceeded"}`, providers.ReasonRateLimited},
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
		require.Empty(t, e.ID, "it does not look like an id")
		require.Regexp(t, `^Yeastar refuses the request as invalid \(HTTP status 400, code x y\): "line one line two <secret> (and so on )+.*…"$`, e.Message)
		require.Less(t, len(e.Message), 300)
	})
	for name, tt := range map[string]struct {
		status     int
		body, want string
	}{
		"forbidden":     {403, `{"code":"no_permission","status":403}`, "forbidden: Yeastar forbids the request (HTTP status 403, code no_permission); check the permission for the API and the list of allowed addresses in the Partner Portal"},
		"status alone":  {200, `{"code":"","status":500}`, "unavailable: Yeastar is unavailable (HTTP status 200, code 500)"},
		"no JSON":       {200, `<html>`, "bad_response: the body is not the documented JSON object: invalid character '<' looking for beginning of value"},
		"no result":     {200, `{"code":"success"}`, `bad_response: "result" is missing`},
		"wrong result":  {200, `{"code":"success","result":[]}`, `bad_response: result: a list instead of an object`},
		"unfinished":    {202, `{"code":"success","result":{"accountBalance":1}}`, "bad_response: status 202 is not a whole answer"},
		"unknown":       {200, `{"code":7,"detailMessage":"what"}`, `bad_response: Yeastar gives an unexpected answer (HTTP status 200, code 7): "what"`},
		"HTML with 502": {502, `<html>`, "unavailable: Yeastar is unavailable (HTTP status 502)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := open(t, yeastarsim.Options{})
				p.sim.Fail(yeastarsim.BalancePath, yeastarsim.Fault{Status: tt.status, Body: tt.body})
				require.EqualError(t, p.fails(t), tt.want)
			})
		})
	}
}
