package eightxeight

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	// codeForbidden means two things: access forbidden by the table of codes,
	// not in prepaid mode by the example of the balance.
	codeForbidden = "1201"

	maxErrorID = 64  // a GUID has 36
	maxMessage = 200 // characters
	maxCode    = 6   // digits; the documented ones have four
)

// errorBody is the body of every answer from 400 on:
// https://developer.8x8.com/connect/docs/api-error-codes
type errorBody struct {
	Code    code `json:"code"`
	Message text `json:"message"`
	ErrorID text `json:"errorId"`
}

// readError returns what a body says of an error; nothing if it is no JSON, as
// when a proxy answers.
func readError(body []byte) errorBody {
	var e errorBody
	_ = json.Unmarshal(body, &e)
	return e
}

// isPostpaid reports that an account has no balance because it is not in prepaid
// mode. Code and status alone could also mean that access is forbidden.
func isPostpaid(a providers.Answer) bool {
	if a.Status != http.StatusForbidden {
		return false
	}
	e := readError(a.Body)
	return e.Code.value == codeForbidden && strings.Contains(strings.ToLower(e.Message.value), "prepaid")
}

// check turns an answer into an error, nil for a good one. The status alone
// decides; the body adds to the message.
func check(a providers.Answer) *providers.Error {
	e := providers.CheckStatus(a)
	if e == nil {
		return nil
	}
	body := readError(a.Body)
	fault, advice := explain(e.Reason, a.Status)
	e.Message = fmt.Sprintf("%s (HTTP status %d", fault, a.Status)
	if c := body.Code.value; isDigits(c) && len(c) <= maxCode {
		e.Message += ", code " + c
	}
	e.Message += ")"
	if said := providers.OneLine(body.Message.value, maxMessage); said != "" {
		e.Message += `: "` + said + `"`
	}
	if advice != "" {
		e.Message += "; " + advice
	}
	if isID(body.ErrorID.value) {
		e.ID = body.ErrorID.value
	}
	if e.Reason == providers.ReasonTLS {
		e.AskAfter = time.Hour // nothing that mends itself
	}
	return e
}

// explain says what an error means, and what a person can do about it.
func explain(reason providers.Reason, status int) (fault, advice string) {
	switch reason {
	case providers.ReasonAuth:
		return "8x8 refuses the API key", "check api_key, and that base_url is the account's region"
	case providers.ReasonForbidden:
		return "8x8 forbids this to the API key", "check account_id, and the key's rights in the Connect portal"
	case providers.ReasonNotFound:
		if status == http.StatusGone {
			return "8x8 has withdrawn this version of its API", "look for a newer exporter"
		}
		return "8x8 does not know the account", "check account_id, and that base_url is the account's region"
	case providers.ReasonBadRequest:
		return "8x8 refuses the request as invalid", "check account_id and the filters of prices"
	case providers.ReasonTLS:
		return "8x8 refuses the version of TLS", "let the exporter reach 8x8 with TLS 1.3: it offers that itself, " +
			"so look for a proxy on the way that ends TLS, and for tls_config.max_version"
	case providers.ReasonRateLimited:
		return "8x8's quota is used up", ""
	case providers.ReasonUnavailable:
		return "8x8 is out of order", ""
	}
	return "8x8 gives an unexpected answer", ""
}

// isID reports a text that looks like an id, which is a GUID as documented.
func isID(s string) bool {
	return s != "" && len(s) <= maxErrorID && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	})
}
