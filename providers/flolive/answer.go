package flolive

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
)

// Codes of errors, from
// https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm and
// https://kb.flolive.net/Content/API/Customer/Get%20Customer%20Children.htm. There
// is a general list, which is not public.
const (
	codeUnavailable      = "GLOBAL_1001"
	codeNoSubscriber     = "SUBSCRIBER_1002"
	codeSubscriberFailed = "SUBSCRIBER_1006"
	codeNoCustomer       = "CUSTOMER_1002"
	codeCustomerFailed   = "CUSTOMER_1006"
)

const (
	// rarely is when to ask again for what does not exist.
	rarely = 24 * time.Hour
	// mendTime is when to ask again after a fault that a person has to mend.
	mendTime = time.Hour

	maxMessage = 300 // characters
)

// unmapped is in the answer to a path that the server does not know, which has
// HTTP status 500 and not 404. That is how Spring, a Java framework, says it.
const unmapped = "No static resource"

// aboutToken finds an error that is about the token. The provider's codes for that
// are not public, and whether they come with HTTP 401 is not documented.
var aboutToken = regexp.MustCompile(`(?i)token|unauthori[sz]ed|authenticat|session.*expired|log ?in\b|credential`)

// longNumber finds what may identify a person or a card.
var longNumber = regexp.MustCompile(`\d{8,}`)

// check turns an answer into an error, nil for a good one. The code in the body
// decides where it is known, whatever the status, then the status, and then the
// text of an unknown code: HTTP 401 and 429 alone go before the body, for they are
// about the account and not about what was asked for. An unknown code with a good
// status is ReasonBadResponse: something else than was asked for has come.
func check(a providers.Answer, e envelope) *providers.Error {
	code := e.code()
	failure := providers.CheckStatus(a)
	if failure == nil && code == "" {
		return nil
	}
	if failure == nil {
		failure = &providers.Error{Reason: providers.ReasonBadResponse, Status: a.Status}
	}
	switch {
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusTooManyRequests:
	case code == codeNoSubscriber:
		failure.Reason, failure.AskAfter, failure.Gone = providers.ReasonNotFound, rarely, true
	case code == codeNoCustomer:
		failure.Reason, failure.AskAfter = providers.ReasonNotFound, rarely
	case code == codeUnavailable, code == codeSubscriberFailed, code == codeCustomerFailed:
		failure.Reason = providers.ReasonUnavailable
	case a.Status == http.StatusInternalServerError && strings.Contains(string(a.Body), unmapped):
		failure.Reason, failure.AskAfter = providers.ReasonBadRequest, mendTime
		failure.Message = fmt.Sprintf("floLIVE does not know the path (HTTP status 500, %q): base_url or a balance id is wrong", unmapped)
		return failure
	case failure.Reason == providers.ReasonBadResponse && aboutToken.MatchString(code+" "+e.ErrorMessage.value):
		failure.Reason = providers.ReasonAuth
	}
	failure.Message = describe(failure.Reason, a.Status)
	if code != "" {
		failure.Message += fmt.Sprintf(": %s: %s", code, e.ErrorMessage.value)
	}
	return failure
}

func describe(reason providers.Reason, status int) string {
	fault := "floLIVE gives an unexpected answer"
	switch reason {
	case providers.ReasonAuth:
		fault = "floLIVE refuses the credentials or the token"
	case providers.ReasonForbidden:
		fault = "floLIVE forbids this to the user"
	case providers.ReasonNotFound:
		fault = "floLIVE does not know what was asked for"
	case providers.ReasonBadRequest:
		fault = "floLIVE refuses the request as invalid"
	case providers.ReasonRateLimited:
		fault = "floLIVE's quota is used up"
	case providers.ReasonUnavailable:
		fault = "floLIVE is out of order"
	}
	return fmt.Sprintf("%s (HTTP status %d)", fault, status)
}

// send sends a call, and makes the message of its error fit to be shown. That comes
// after the request chain has masked secrets: in a text that is shortened, or has
// other white space, it would not find them.
func send(ctx context.Context, http providers.HTTP, call providers.Call) error {
	err := http.Do(ctx, call)
	if err == nil {
		return nil
	}
	failure := *providers.AsError(err)
	failure.Message = providers.OneLine(failure.Message, maxMessage)
	return &failure
}

// withoutNumbers hides what may be an identifier in a text of the provider's,
// which may echo any of those that a subscriber has.
func withoutNumbers(s string) string { return longNumber.ReplaceAllString(s, "…") }
