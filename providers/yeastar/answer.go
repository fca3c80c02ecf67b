package yeastar

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// envelope is the body of every answer:
// https://help.yeastar.com/en/pp-ptr/developer-guide/response-results.html
type envelope struct {
	Code      kit.Digits       `json:"code"` // "success", or the error
	Detail    kit.Text         `json:"detailMessage"`
	RequestID kit.Digits       `json:"requestId"`
	Status    kit.QuotedNumber `json:"status"` // the HTTP status
	Result    kit.Raw          `json:"result"` // of an error: its details

	// Error and ErrorDescription are the code and the detail of an error of an
	// OAuth server. The documentation does not mention them.
	Error            kit.Text `json:"error"`
	ErrorDescription kit.Text `json:"error_description"`
}

// parse decodes the result of a success into result, a pointer to a struct.
// Otherwise it returns the error that the answer reports.
func parse(a providers.Answer, result any) error {
	var e envelope
	err := kit.Unmarshal(a.Body, &e)
	unfinished := cmp.Or(kit.Whole(a.Status), kit.Whole(int(e.Status.Value)))
	switch {
	case err != nil && a.OK():
		return fmt.Errorf("the body is not the documented JSON object: %w", err)
	case err != nil || !a.OK() || !e.success():
		return e.refusal(a)
	case unfinished != nil:
		return unfinished
	case e.Result.Null():
		return errors.New(`"result" is missing`)
	}
	if err := kit.Unmarshal(e.Result, result); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	return nil
}

// success reports whether the body says so. A status may be absent, but not say
// something else.
func (e envelope) success() bool {
	return strings.EqualFold(e.Code.Value, "success") &&
		(!e.Status.Present || e.Status.OK && e.Status.Value >= 200 && e.Status.Value < 300)
}

// errorStatus returns the status in the body if it is that of an error; else 0.
func (e envelope) errorStatus() int {
	if status, ok := e.Status.Count(); ok && status >= 400 && status < 600 {
		return status
	}
	return 0
}

// refusal returns the error that the answer reports.
func (e envelope) refusal(a providers.Answer) error {
	r := kit.Refusal{
		Provider: "Yeastar",
		Reason:   e.reason(a),
		Code:     cmp.Or(e.Code.Value, e.Error.Value),
		Text:     cmp.Or(e.Detail.Value, e.ErrorDescription.Value),
		ID:       e.RequestID.Value,
	}
	if status := e.errorStatus(); status != 0 && status != a.Status {
		r.Code = strings.TrimSpace(fmt.Sprint(status, " ", r.Code))
	}
	if r.Reason == providers.ReasonForbidden {
		r.Advice = "check the permission for the API and the list of allowed addresses in the Partner Portal"
	}
	return r.Error(a)
}

// reason returns the reason of an answer that is no success. A refused token and a
// spent quota are recognised anywhere in the answer, because a new token solves
// the one and further requests make the other worse. Otherwise the status in the
// body decides before the HTTP status.
func (e envelope) reason(a providers.Answer) providers.Reason {
	status := e.errorStatus()
	if status == 0 && !a.OK() {
		status = a.Status
	}
	switch {
	case a.Status == http.StatusTooManyRequests || status == http.StatusTooManyRequests,
		status < 500 && e.names("too_many", "rate_limit"):
		return providers.ReasonRateLimited
	case a.Status == http.StatusUnauthorized || status == http.StatusUnauthorized,
		status < 500 && e.names("token", "unauthorized", "invalid_client"):
		return providers.ReasonAuth
	case status != 0:
		return providers.ReasonOfStatus(status)
	case e.names("parameter", "validation"):
		return providers.ReasonBadRequest
	}
	return providers.ReasonBadResponse
}

// names reports whether the code contains one of the words. Codes are documented
// as messages, so their spelling may vary.
func (e envelope) names(words ...string) bool {
	code := strings.NewReplacer(" ", "_", "-", "_").Replace(strings.ToLower(cmp.Or(e.Code.Value, e.Error.Value)))
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(code, word) })
}
