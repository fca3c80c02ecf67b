package providers

import (
	"errors"
	"fmt"
	"time"
)

// Reason is why a refresh has failed, from a closed list: the label `reason` of
// balance_exporter_refresh_failures_total.
type Reason string

// The reasons of a failed refresh.
const (
	ReasonAuth        Reason = "auth"         // the credentials are refused
	ReasonForbidden   Reason = "forbidden"    // the credentials do not allow it
	ReasonRateLimited Reason = "rate_limited" // the provider's quota is used up
	ReasonTimeout     Reason = "timeout"      // no answer in time
	ReasonUnavailable Reason = "unavailable"  // the provider cannot be reached or reports an outage
	ReasonBadRequest  Reason = "bad_request"  // the provider refuses the request as invalid: a configuration fault
	ReasonBadResponse Reason = "bad_response" // the answer cannot be understood
	ReasonTLS         Reason = "tls"          // no agreement on a secure connection
	ReasonNotFound    Reason = "not_found"    // the account, subscriber or path does not exist
	ReasonInternal    Reason = "internal"     // a fault of the exporter
)

// Reasons returns every reason.
func Reasons() []Reason {
	return []Reason{
		ReasonAuth, ReasonForbidden, ReasonRateLimited, ReasonTimeout, ReasonUnavailable,
		ReasonBadRequest, ReasonBadResponse, ReasonTLS, ReasonNotFound, ReasonInternal,
	}
}

// Error is a failed refresh. Its text never holds a secret once it has passed
// [HTTP].
type Error struct {
	Reason Reason
	// Message is for a person: what failed and what the provider answered.
	Message string
	// ID is the provider's id of the error or request, for its support; may be
	// empty.
	ID string
	// RetryAfter is how long the provider demands to wait; 0 if it names no time.
	RetryAfter time.Duration
	// AskAfter, if set, replaces the usual back-off of the source. It is for
	// faults that only a person can correct.
	AskAfter time.Duration
	// Gone ends the values of the source at once, because the provider has
	// answered that it does not exist.
	Gone bool
	// Forget says that [Reading.Kept] of the last success may have caused the failure:
	// the next Fetch is without it.
	Forget bool
	// Status is the HTTP status; 0 if there was none.
	Status int
	// Err is the cause; may be nil.
	Err error
}

// Error returns the reason and the message.
func (e *Error) Error() string {
	if e.ID != "" {
		return fmt.Sprintf("%s: %s (id %s)", e.Reason, e.Message, e.ID)
	}
	return fmt.Sprintf("%s: %s", e.Reason, e.Message)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an Error with a formatted message. %w sets the cause.
func Errorf(reason Reason, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Reason: reason, Message: err.Error(), Err: errors.Unwrap(err)}
}

// AsError returns err as an [*Error]; another error becomes ReasonInternal. It
// returns nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Reason: ReasonInternal, Message: err.Error(), Err: err}
}

// ErrNotAsked is the cause of an error if nothing was sent: the account is blocked,
// or the quota did not allow a request in time. The source stays due, and nothing
// has failed.
var ErrNotAsked = errors.New("not sent: the rate limit of the account or a cool-down does not allow it")

// ReasonOfStatus returns the reason for an HTTP status that is no 2xx, whatever
// the body. 3xx, which a client sees only when a redirect was refused, is
// ReasonBadResponse.
func ReasonOfStatus(status int) Reason {
	switch status {
	case 401:
		return ReasonAuth
	case 403:
		return ReasonForbidden
	case 404, 410:
		return ReasonNotFound
	case 408:
		return ReasonTimeout
	case 426:
		return ReasonTLS
	case 429:
		return ReasonRateLimited
	}
	switch {
	case status >= 500:
		return ReasonUnavailable
	case status >= 400:
		return ReasonBadRequest
	}
	return ReasonBadResponse
}

// CheckStatus judges an answer by its HTTP status alone. It returns nil for a
// success, else an [*Error].
func CheckStatus(a Answer) error {
	if a.OK() {
		return nil
	}
	return &Error{
		Reason: ReasonOfStatus(a.Status), Status: a.Status,
		Message: fmt.Sprintf("the provider answered with HTTP status %d", a.Status),
	}
}
