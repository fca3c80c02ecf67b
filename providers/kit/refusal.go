package kit

import (
	"fmt"
	"strings"

	"github.com/balance-exporter/balance_exporter/providers"
)

// Bounds on what an error quotes, in characters.
const (
	maxCode = 64
	maxText = 200
	maxID   = 64
)

// Refusal is an answer that is no success, as far as the provider's documentation
// describes it. Empty fields are left out of the message.
type Refusal struct {
	// Provider is the name that starts the message, such as "8x8".
	Provider string
	Reason   providers.Reason
	// Code, Text and ID are parts of the body: the provider's error code, its
	// message and its id for the error or the request.
	Code, Text, ID string
	// Advice says what an operator can do about it.
	Advice string
}

// Error returns the refusal as an error that quotes the answer a. An ID that does
// not look like one is left out.
func (r Refusal) Error(a providers.Answer) *providers.Error {
	e := &providers.Error{Reason: r.Reason, Status: a.Status}
	e.Message = fmt.Sprintf("%s %s (HTTP status %d", r.Provider, phrase(r.Reason), a.Status)
	if code := a.Quote(r.Code, maxCode); code != "" {
		e.Message += ", code " + code
	}
	e.Message += ")"
	if text := a.Quote(r.Text, maxText); text != "" {
		e.Message += `: "` + text + `"`
	}
	if r.Advice != "" {
		e.Message += "; " + r.Advice
	}
	if id := a.Quote(r.ID, maxID); isID(id) {
		e.ID = id
	}
	return e
}

// phrase returns what a provider does in an answer of a reason.
func phrase(reason providers.Reason) string {
	switch reason {
	case providers.ReasonAuth:
		return "refuses the credentials"
	case providers.ReasonForbidden:
		return "forbids the request"
	case providers.ReasonNotFound:
		return "does not find what the request asks for"
	case providers.ReasonBadRequest:
		return "refuses the request as invalid"
	case providers.ReasonTLS:
		return "refuses the TLS version"
	case providers.ReasonRateLimited:
		return "refuses the request because its quota is used up"
	case providers.ReasonUnavailable:
		return "is unavailable"
	case providers.ReasonTimeout:
		return "has timed out"
	}
	return "gives an unexpected answer"
}

// isID reports letters, digits, dashes and underscores.
func isID(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	})
}

// Whole returns an error for the status of a success that is not the whole answer: accepted but
// unfinished (202), without content (204, 205) or a part of it (206).
func Whole(status int) error {
	switch status {
	case 202, 204, 205, 206:
		return fmt.Errorf("status %d is not a whole answer", status)
	}
	return nil
}
