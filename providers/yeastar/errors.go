package yeastar

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	maxCode      = 64 // characters
	maxDetail    = 200
	maxRequestID = 64
)

// check turns an answer into an error, nil for a good one: HTTP status and body
// have to agree on the success.
func check(a providers.Answer) *providers.Error {
	var body envelope
	isJSON := json.Unmarshal(a.Body, &body) == nil
	good := a.Status >= 200 && a.Status < 300
	if isJSON && good && body.isSuccess() {
		return nil
	}
	if !isJSON {
		body = envelope{} // what was decoded up to the fault
	}
	if body.Code == "" && body.Error != "" {
		body.Code, body.Detail = body.Error, body.ErrorDescription
	}
	e := &providers.Error{
		Reason:  body.reason(a.Status),
		Status:  a.Status,
		ID:      providers.OneLine(string(body.RequestID), maxRequestID),
		Message: fmt.Sprintf("the provider answered with HTTP status %d", a.Status),
	}
	if status, ok := body.errorStatus(); ok && status != a.Status {
		e.Message += fmt.Sprintf(", status %d", status)
	}
	if code := providers.OneLine(string(body.Code), maxCode); code != "" {
		e.Message += fmt.Sprintf(", code %q", code)
	}
	if detail := providers.OneLine(string(body.Detail), maxDetail); detail != "" {
		e.Message += ": " + detail
	}
	switch {
	case !isJSON && good:
		e.Message += " and a body that is no JSON object as documented"
	case e.Reason == providers.ReasonForbidden:
		e.Message += "; check the permission for the API and the list of allowed addresses in the Partner Portal"
	}
	return e
}

// reason returns what kind of error an answer is that is no success. Refused tokens
// and used-up quotas are looked for everywhere, because the one is mended by a new
// token and the other made worse by it. Otherwise the status of the body counts
// before that of HTTP.
func (e envelope) reason(httpStatus int) providers.Reason {
	status, told := e.errorStatus()
	if !told && (httpStatus < 200 || httpStatus >= 300) {
		status = httpStatus
	}
	switch {
	case httpStatus == http.StatusTooManyRequests || status == http.StatusTooManyRequests,
		status < 500 && e.names("too_many", "rate_limit"):
		return providers.ReasonRateLimited
	case httpStatus == http.StatusUnauthorized || status == http.StatusUnauthorized,
		status < 500 && e.names("token", "unauthorized", "invalid_client"):
		return providers.ReasonAuth
	case status != 0:
		return providers.ReasonOfStatus(status)
	case e.names("parameter", "validation"):
		return providers.ReasonBadRequest
	}
	return providers.ReasonBadResponse
}

// names reports whether the code has one of the words in it. Codes are documented
// to be messages, so that their spelling may vary.
func (e envelope) names(words ...string) bool {
	code := strings.NewReplacer(" ", "_", "-", "_").Replace(strings.ToLower(string(e.Code)))
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(code, word) })
}
