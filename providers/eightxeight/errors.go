package eightxeight

import (
	"net/http"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// errorBody is the body of every answer with a status from 400:
// https://developer.8x8.com/connect/docs/api-error-codes
type errorBody struct {
	Code    kit.Digits `json:"code"`
	Message kit.Text   `json:"message"`
	ErrorID kit.Text   `json:"errorId"`
}

// readError returns the parts of an error body; none of another body.
func readError(a providers.Answer) (e errorBody) {
	_ = kit.Unmarshal(a.Body, &e) // a proxy's page is no JSON
	return e
}

// documented reports the only part that every error body has.
func (e errorBody) documented() bool { return kit.IsDigits(e.Code.Value) }

// isPostpaid reports an account without a balance because it is not in prepaid
// mode. The code alone could also mean that access is forbidden: the table of
// codes says so, and the example of the balance has the other meaning.
func (e errorBody) isPostpaid(a providers.Answer) bool {
	return (a.OK() || a.Status == http.StatusForbidden) &&
		e.Code.Value == "1201" && strings.Contains(strings.ToLower(e.Message.Value), "prepaid")
}

// refusal returns the error for an answer that is no success. The HTTP status
// decides the reason if it is an error, else the code does.
func (e errorBody) refusal(a providers.Answer) *providers.Error {
	status := a.Status
	if a.OK() {
		status = statuses[e.Code.Value]
	}
	r := kit.Refusal{Provider: "8x8", Reason: providers.ReasonOfStatus(status), Text: e.Message.Value, ID: e.ErrorID.Value}
	if e.documented() {
		r.Code = e.Code.Value
	}
	r.Advice = advice(r.Reason, status)
	failure := r.Error(a)
	if r.Reason == providers.ReasonTLS {
		failure.AskAfter = time.Hour // only a person can change it
	}
	return failure
}

// statuses are the HTTP statuses that belong to the documented codes.
var statuses = map[string]int{
	"429": 429, "1000": 400, "1001": 400, "1002": 400, "1009": 400, "1010": 400, "1014": 426,
	"1200": 401, "1201": 403, "1300": 404, "2000": 500, "2001": 500, "2002": 410, "2003": 500,
}

// advice returns what an operator can do about an error; may be empty.
func advice(reason providers.Reason, status int) string {
	switch reason {
	case providers.ReasonAuth:
		return "check api_key, and that base_url is the account's region"
	case providers.ReasonForbidden:
		return "check account_id, and the key's rights in the Connect portal"
	case providers.ReasonNotFound:
		if status == http.StatusGone {
			return "this version of the API is withdrawn: look for a newer exporter"
		}
		return "check account_id, and that base_url is the account's region"
	case providers.ReasonBadRequest:
		return "check account_id and the filters of prices"
	case providers.ReasonTLS:
		return "let the exporter reach 8x8 with TLS 1.3, which it offers: look for a proxy that ends TLS, and for tls_config.max_version"
	}
	return ""
}
