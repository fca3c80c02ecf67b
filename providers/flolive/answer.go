package flolive

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
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
	// askAfterGone is when to ask again for what does not exist.
	askAfterGone = 24 * time.Hour
	// askAfterFault is when to ask again after a fault of the configuration.
	askAfterFault = time.Hour
)

// unmapped is part of the answer to a path that the server does not know, which
// has HTTP status 500 and not 404. It is a message of the Java framework Spring.
const unmapped = "No static resource"

// aboutToken finds an error that is about the token. The provider's codes for that
// are not public, and whether they come with HTTP 401 is not documented.
var aboutToken = regexp.MustCompile(`(?i)token|unauthori[sz]ed|authenticat|session.*expired|log ?in\b|credential`)

// unfinished finds the status of work that the provider has only accepted.
var unfinished = regexp.MustCompile(`(?i)progress|pending|accepted|process|queued|running|started|wait`)

// errFailed is the cause of an error if the provider failed to retrieve details of
// what was asked for. It may also mean that an offer or a cursor no longer exists.
var errFailed = errors.New("the provider failed to retrieve details")

// ask sends call with the token of the account and returns the envelope of a
// success with content.
func (a *account) ask(ctx context.Context, call providers.Call) (envelope, error) {
	var e envelope
	call.Parse = func(answer providers.Answer) (err error) {
		e, err = parse(answer)
		return err
	}
	err := a.auth.Do(ctx, call)
	if err == nil {
		return e, nil
	}
	failure := *providers.AsError(err)
	if code := e.code(); failure.Err == nil && (code == codeSubscriberFailed || code == codeCustomerFailed) {
		failure.Err = errFailed
	}
	return envelope{}, &failure
}

// parse returns the envelope of an answer, and an error unless the answer is a
// success with content. The envelope of an error has its code.
func parse(a providers.Answer) (envelope, error) {
	e, err := decodeEnvelope(a.Body)
	if failure := check(a, e); failure != nil {
		return e, failure
	}
	switch {
	case err != nil:
		return e, err
	case kit.Whole(a.Status) != nil:
		return e, kit.Whole(a.Status)
	case unfinished.MatchString(e.Status.Value):
		return e, errors.New("the provider has accepted the request and not finished it")
	}
	e.records, err = e.contentRecords()
	return e, err
}

// check returns the error that an answer is; nil for a success. The code in the
// body decides where it is known, whatever the status, then the status, and then
// the text of an unknown code. Only HTTP 401 and 429 go before the body, because
// they are about the account and not about what was asked for. An unknown code
// with a good status is ReasonBadResponse: the answer is not what was asked for.
func check(a providers.Answer, e envelope) *providers.Error {
	code, text := e.code(), e.ErrorMessage.Value
	if a.OK() && code == "" {
		return nil
	}
	refusal := kit.Refusal{Provider: "floLIVE", Reason: providers.ReasonBadResponse, Code: code, Text: text}
	if !a.OK() {
		refusal.Reason = providers.ReasonOfStatus(a.Status)
	}
	askAfter := time.Duration(0)
	switch {
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusTooManyRequests:
	case code == codeNoSubscriber, code == codeNoCustomer:
		refusal.Reason, askAfter = providers.ReasonNotFound, askAfterGone
	case code == codeUnavailable, code == codeSubscriberFailed, code == codeCustomerFailed:
		refusal.Reason = providers.ReasonUnavailable
	case a.Status == http.StatusInternalServerError && strings.Contains(string(a.Body), unmapped):
		refusal.Reason, askAfter = providers.ReasonBadRequest, askAfterFault
		refusal.Text, refusal.Advice = unmapped, "check base_url and the balance ids"
	case refusal.Reason == providers.ReasonBadResponse && aboutToken.MatchString(code+" "+text):
		refusal.Reason = providers.ReasonAuth
	}
	failure := refusal.Error(a)
	failure.AskAfter = askAfter
	failure.Gone = refusal.Reason == providers.ReasonNotFound && code == codeNoSubscriber
	return failure
}

// parseLogin returns the token in the answer to a login. An unknown code with a good
// status can only be about the credentials there.
func parseLogin(a providers.Answer) (token string, err error) {
	e, err := parse(a)
	var failure *providers.Error
	if errors.As(err, &failure) && failure.Reason == providers.ReasonBadResponse && e.code() != "" {
		failure.Reason = providers.ReasonAuth
	}
	if err != nil {
		return "", err
	}
	return decodeToken(e.records)
}

// longNumber finds what may identify a person or a card, also where a text is cut.
var longNumber = regexp.MustCompile(`\d{8,}|\d+…`)

// withoutNumbers hides identifiers in a text of the provider, which may echo any
// of those that a subscriber has.
func withoutNumbers(s string) string { return longNumber.ReplaceAllString(s, "…") }
