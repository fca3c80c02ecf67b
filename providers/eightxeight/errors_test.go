package eightxeight_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	html      = "<html><body>502 Bad Gateway</body></html>"
	tlsAdvice = "; let the exporter reach 8x8 with TLS 1.3, which it offers: look for a proxy that ends TLS, and for tls_config.max_version"
)

func TestErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
		want   providers.Error
	}{
		"documented 401": {401, sample(t, "error-401-unauthorized"), providers.Error{
			Reason: providers.ReasonAuth, ID: "db9dced4-3534-4d86-9d18-6b448af0d621",
			Message: `8x8 refuses the credentials (HTTP status 401, code 1200): "Request was not authenticated properly"; check api_key, and that base_url is the account's region`,
		}},
		"documented 426": {426, sample(t, "error-426-tls-version"), providers.Error{
			Reason: providers.ReasonTLS, ID: "b4478860-b76c-e811-814e-022a35cc1c71", AskAfter: time.Hour,
			Message: `8x8 refuses the TLS version (HTTP status 426, code 1014): "TLS 1.3+ is required for Singapore-bound messages. Detected: TLSv1.2"` + tlsAdvice,
		}},
		"documented 429": {429, sample(t, "error-429-quota"), providers.Error{
			Reason: providers.ReasonRateLimited, ID: "c8a41b47-57bf-ea11-8273-00155d466a31",
			Message: `8x8 refuses the request because its quota is used up (HTTP status 429, code 429): "Quota exceeded. Please try again in 1 second(s)."`,
		}},
		"documented 500": {500, sample(t, "error-500-internal"), providers.Error{
			Reason: providers.ReasonUnavailable, ID: "db9dced4-3534-4d86-9d18-6b448af0d621",
			Message: `8x8 is unavailable (HTTP status 500, code 2000): "Internal server error"`,
		}},
		"403, forbidden": {403, `{"code":1201,"message":"Access forbidden"}`, providers.Error{
			Reason:  providers.ReasonForbidden,
			Message: `8x8 forbids the request (HTTP status 403, code 1201): "Access forbidden"; check account_id, and the key's rights in the Connect portal`,
		}},
		"403, another code": {403, `{"code":1202,"message":"not in prepaid mode"}`, providers.Error{
			Reason:  providers.ReasonForbidden,
			Message: `8x8 forbids the request (HTTP status 403, code 1202): "not in prepaid mode"; check account_id, and the key's rights in the Connect portal`,
		}},
		"400": {400, `{"code":1009,"message":"Invalid country code"}`, providers.Error{
			Reason:  providers.ReasonBadRequest,
			Message: `8x8 refuses the request as invalid (HTTP status 400, code 1009): "Invalid country code"; check account_id and the filters of prices`,
		}},
		"404": {404, `{"code":1300}`, providers.Error{
			Reason:  providers.ReasonNotFound,
			Message: "8x8 does not find what the request asks for (HTTP status 404, code 1300); check account_id, and that base_url is the account's region",
		}},
		"410": {410, `{"code":2002}`, providers.Error{
			Reason:  providers.ReasonNotFound,
			Message: "8x8 does not find what the request asks for (HTTP status 410, code 2002); this version of the API is withdrawn: look for a newer exporter",
		}},
		"422": {422, ``, providers.Error{
			Reason:  providers.ReasonBadRequest,
			Message: "8x8 refuses the request as invalid (HTTP status 422); check account_id and the filters of prices",
		}},
		"426 by a proxy": {426, html, providers.Error{
			Reason: providers.ReasonTLS, AskAfter: time.Hour,
			Message: "8x8 refuses the TLS version (HTTP status 426)" + tlsAdvice,
		}},
		"500, not implemented": {500, `{"code":2001}`, providers.Error{
			Reason: providers.ReasonUnavailable, Message: "8x8 is unavailable (HTTP status 500, code 2001)",
		}},
		"502 by a proxy": {502, html, providers.Error{
			Reason: providers.ReasonUnavailable, Message: "8x8 is unavailable (HTTP status 502)",
		}},
		"503": {503, "", providers.Error{
			Reason: providers.ReasonUnavailable, Message: "8x8 is unavailable (HTTP status 503)",
		}},
		"504, truncated": {504, `{"code":1200,"mess`, providers.Error{
			Reason: providers.ReasonUnavailable, Message: "8x8 is unavailable (HTTP status 504)",
		}},
		"408": {408, "", providers.Error{
			Reason: providers.ReasonTimeout, Message: "8x8 has timed out (HTTP status 408)",
		}},
		"304": {304, "", providers.Error{
			Reason: providers.ReasonBadResponse, Message: "8x8 gives an unexpected answer (HTTP status 304)",
		}},
		"status and code disagree": {500, sample(t, "error-401-unauthorized"), providers.Error{
			Reason: providers.ReasonUnavailable, ID: "db9dced4-3534-4d86-9d18-6b448af0d621",
			Message: `8x8 is unavailable (HTTP status 500, code 1200): "Request was not authenticated properly"`,
		}},
		"long message": {500, `{"message":"` + strings.Repeat("ü ", 101) + `"}`, providers.Error{
			Reason: providers.ReasonUnavailable, Message: `8x8 is unavailable (HTTP status 500): "` + strings.TrimSpace(strings.Repeat("ü ", 100)) + `…"`,
		}},
		"message with control characters": {500, `{"message":" a\r\n\u001b[31mb\u202e\u0000  c "}`, providers.Error{
			Reason: providers.ReasonUnavailable, Message: `8x8 is unavailable (HTTP status 500): "a [31mb c"`,
		}},
		"code in quotes": {500, `{"code":"2000"}`, providers.Error{
			Reason: providers.ReasonUnavailable, Message: "8x8 is unavailable (HTTP status 500, code 2000)",
		}},
		"parts of wrong types": {500, `{"code":[],"message":5,"errorId":{}}`, providers.Error{
			Reason: providers.ReasonUnavailable, Message: "8x8 is unavailable (HTTP status 500)",
		}},
		"code and id that are none": {500, `{"code":"E7","errorId":"look at http://example.com"}`, providers.Error{
			Reason: providers.ReasonUnavailable, Message: "8x8 is unavailable (HTTP status 500)",
		}},
		"long id": {500, `{"errorId":"` + strings.Repeat("0", 65) + `"}`, providers.Error{
			Reason: providers.ReasonUnavailable, Message: "8x8 is unavailable (HTTP status 500)",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tt.want.Status = tt.status
			for _, kind := range []providers.Kind{providers.KindBalance, providers.KindPrices} {
				reading, err := fetch(t, kind, tt.status, tt.body)
				require.Equal(t, &tt.want, err, kind)
				require.Empty(t, reading, kind)
			}
		})
	}
}

func TestPostpaid(t *testing.T) {
	want := providers.Reading{Billing: providers.BillingPostpaid, AskAfter: time.Hour}
	for name, body := range map[string]string{
		"documented":     sample(t, "error-403-not-prepaid"),
		"another case":   `{"code":1201,"message":"NOT PREPAID"}`,
		"code in quotes": `{"code":"1201","message":"not a Prepaid account"}`,
	} {
		for _, status := range []int{403, 200, 202} {
			reading, err := fetch(t, providers.KindBalance, status, body)
			require.NoError(t, err, name)
			require.Equal(t, want, reading, name)

			_, err = fetch(t, providers.KindPrices, status, body)
			require.Equal(t, providers.ReasonForbidden, providers.AsError(err).Reason, "prices do not depend on it")
		}
	}
	for _, status := range []int{401, 404, 500} {
		_, err := fetch(t, providers.KindBalance, status, sample(t, "error-403-not-prepaid"))
		require.Equal(t, providers.ReasonOfStatus(status), providers.AsError(err).Reason)
	}
}

// TestErrorBodiesWithASuccess holds that a documented error body is that error,
// whatever the status says.
func TestErrorBodiesWithASuccess(t *testing.T) {
	for name, tt := range map[string]struct {
		body string
		want providers.Error
	}{
		"documented 401": {sample(t, "error-401-unauthorized"), providers.Error{
			Reason: providers.ReasonAuth, ID: "db9dced4-3534-4d86-9d18-6b448af0d621",
			Message: `8x8 refuses the credentials (HTTP status 200, code 1200): "Request was not authenticated properly"; check api_key, and that base_url is the account's region`,
		}},
		"documented 426": {sample(t, "error-426-tls-version"), providers.Error{
			Reason: providers.ReasonTLS, ID: "b4478860-b76c-e811-814e-022a35cc1c71", AskAfter: time.Hour,
			Message: `8x8 refuses the TLS version (HTTP status 200, code 1014): "TLS 1.3+ is required for Singapore-bound messages. Detected: TLSv1.2"` + tlsAdvice,
		}},
		"documented 429": {sample(t, "error-429-quota"), providers.Error{
			Reason: providers.ReasonRateLimited, ID: "c8a41b47-57bf-ea11-8273-00155d466a31",
			Message: `8x8 refuses the request because its quota is used up (HTTP status 200, code 429): "Quota exceeded. Please try again in 1 second(s)."`,
		}},
		"documented 500": {sample(t, "error-500-internal"), providers.Error{
			Reason: providers.ReasonUnavailable, ID: "db9dced4-3534-4d86-9d18-6b448af0d621",
			Message: `8x8 is unavailable (HTTP status 200, code 2000): "Internal server error"`,
		}},
		"forbidden": {`{"code":1201,"message":"Access forbidden"}`, providers.Error{
			Reason:  providers.ReasonForbidden,
			Message: `8x8 forbids the request (HTTP status 200, code 1201): "Access forbidden"; check account_id, and the key's rights in the Connect portal`,
		}},
		"an invalid parameter": {`{"code":1009}`, providers.Error{
			Reason:  providers.ReasonBadRequest,
			Message: `8x8 refuses the request as invalid (HTTP status 200, code 1009); check account_id and the filters of prices`,
		}},
		"not found": {`{"code":1300}`, providers.Error{
			Reason:  providers.ReasonNotFound,
			Message: "8x8 does not find what the request asks for (HTTP status 200, code 1300); check account_id, and that base_url is the account's region",
		}},
		"a withdrawn version": {`{"code":2002}`, providers.Error{
			Reason:  providers.ReasonNotFound,
			Message: "8x8 does not find what the request asks for (HTTP status 200, code 2002); this version of the API is withdrawn: look for a newer exporter",
		}},
		"an unknown code": {`{"code":77,"message":"who knows"}`, providers.Error{
			Reason:  providers.ReasonBadResponse,
			Message: `8x8 gives an unexpected answer (HTTP status 200, code 77): "who knows"`,
		}},
		"a secret in the message": {`{"timestamp":{},"message":"no the-key","code":"2000"}`, providers.Error{
			Reason: providers.ReasonUnavailable, Message: `8x8 is unavailable (HTTP status 200, code 2000): "no <secret>"`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tt.want.Status = 200
			for _, kind := range []providers.Kind{providers.KindBalance, providers.KindPrices} {
				reading, err := fetch(t, kind, 200, tt.body)
				require.Equal(t, &tt.want, err, kind)
				require.Empty(t, reading, kind)
			}
		})
	}

	// A value beside a code is a success.
	reading, err := fetch(t, providers.KindBalance, 200, `{"code":0,"message":"OK","balance":1,"currency":"USD"}`)
	require.NoError(t, err)
	require.Equal(t, []providers.Balance{{Amount: 1, Currency: "USD"}}, reading.Balances)
	reading, err = fetch(t, providers.KindPrices, 200, `{"code":0,"subAccounts":[]}`)
	require.NoError(t, err)
	require.Empty(t, reading)
}

func FuzzError(f *testing.F) {
	f.Add(403, `{"code":1201,"message":"Account not in prepaid mode","errorId":"c388daa9-980e-eb11-81f8-0433c2195dfb"}`)
	f.Add(500, `{"code":1e3,"message":"\ud800\n","errorId":" "}`)
	f.Add(502, html)
	id := regexp.MustCompile(`^[0-9A-Za-z_-]{0,64}$`)
	var status int
	var body string
	balance := source(f, providers.KindBalance, server(func(providers.Call) (int, string) { return status, body }))
	f.Fuzz(func(t *testing.T, s int, b string) {
		if s < 300 || s > 599 {
			t.Skip()
		}
		status, body = s, b
		reading, err := balance.Fetch(t.Context())
		if err == nil {
			require.Equal(t, providers.Reading{Billing: providers.BillingPostpaid, AskAfter: time.Hour}, reading)
			require.Equal(t, 403, s)
			return
		}
		e := providers.AsError(err)
		require.Equal(t, providers.ReasonOfStatus(s), e.Reason)
		require.True(t, utf8.ValidString(e.Message))
		require.Less(t, utf8.RuneCountInString(e.Message), 500)
		require.False(t, strings.ContainsFunc(e.Message, unicode.IsControl), fmt.Sprintf("%q", e.Message))
		require.Regexp(t, id, e.ID)
	})
}
