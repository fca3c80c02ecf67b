package flolivesim

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// Codes of errors. Their meaning and text are documented at
// https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm and
// https://kb.flolive.net/Content/API/Customer/Get%20Customer%20Children.htm,
// their HTTP statuses are not.
const (
	CodeUnavailable      = "GLOBAL_1001"
	CodeNoSubscriber     = "SUBSCRIBER_1002"
	CodeSubscriberFailed = "SUBSCRIBER_1006"
	CodeNoCustomer       = "CUSTOMER_1002"
	CodeCustomerFailed   = "CUSTOMER_1006"
)

// Codes that stand for the provider's general list, which is not public. They
// are made up: a client can know them no better than the real ones.
const (
	CodeInvalid      = "GLOBAL_1400"
	CodeUnauthorized = "GLOBAL_1401"
	CodeThrottled    = "GLOBAL_1429"
)

// errorTexts has the text of each code and the status it comes with.
var errorTexts = map[string]struct {
	message string
	status  int
}{
	CodeUnavailable:      {"Service unavailable. Please try again", http.StatusServiceUnavailable},
	CodeNoSubscriber:     {"Subscriber does not exist", http.StatusNotFound},
	CodeSubscriberFailed: {"Failed to retrieve subscriber details", http.StatusInternalServerError},
	CodeNoCustomer:       {"Customer does not exist", http.StatusNotFound},
	CodeCustomerFailed:   {"Failed to retrieve customer details", http.StatusInternalServerError},
	CodeInvalid:          {"Invalid request", http.StatusBadRequest},
	CodeUnauthorized:     {"Token is missing or expired", http.StatusUnauthorized},
	CodeThrottled:        {"Too many requests.", http.StatusTooManyRequests},
}

// Fault replaces the answers to some requests.
type Fault struct {
	// Code is an errorCode; the text and the status belong to it, and
	// [Options.ErrorsWithOK] applies. Status and Body are then not used.
	Code string
	// Status is the HTTP status; zero is 200 where there is a Body. Without a
	// Body the answer is a line of text, as from a gateway, but a 429 has an
	// envelope. A fault without Code, Status and Body is none.
	Status int
	// RetryAfter is the time told by a 429, or by another status if it is not
	// zero. It is rounded up to whole seconds, to one at least.
	RetryAfter time.Duration
	// Hint is how RetryAfter is told.
	Hint simulate.Hint
	// Body, if not empty, is sent as it stands.
	Body string
	// ContentType belongs to Body; empty is application/json.
	ContentType string
	// Times is how many requests the fault meets before it goes; zero is
	// all, until it is replaced.
	Times int
}

// Fail puts a fault in place of the answers to the requests for a path, or of
// a [Kind], or to all of them if where is empty. The narrowest fault applies.
// The zero Fault takes it away.
func (s *Server) Fail(where string, fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fault.Code == "" && fault.Status == 0 && fault.Body == "" {
		delete(s.faults, where)
		return
	}
	s.faults[where] = fault
}

// fault returns the fault that this request meets.
func (s *Server) fault(path string, kind Kind) (Fault, bool) {
	for _, where := range []string{path, string(kind), ""} {
		fault, ok := s.faults[where]
		if !ok {
			continue
		}
		switch {
		case fault.Times == 1:
			delete(s.faults, where)
		case fault.Times > 1:
			left := fault
			left.Times--
			s.faults[where] = left
		}
		return fault, true
	}
	return Fault{}, false
}

func (s *Server) faulty(f Fault, now time.Time) simulate.Answer {
	var a simulate.Answer
	switch {
	case f.Code != "":
		a = s.failed(f.Code)
	case f.Body != "":
		a = simulate.Answer{Status: f.Status, ContentType: f.ContentType, Body: []byte(f.Body)}
	case f.Status == http.StatusTooManyRequests:
		return throttled(f.RetryAfter, f.Hint, now)
	default:
		a = text(f.Status, http.StatusText(f.Status))
	}
	if f.RetryAfter > 0 || f.Status == http.StatusTooManyRequests {
		a.RetryAfter = f.Hint.Header(f.RetryAfter, now)
	}
	return a
}

func throttled(wait time.Duration, hint simulate.Hint, now time.Time) simulate.Answer {
	message := errorTexts[CodeThrottled].message
	if hint == simulate.HintBody {
		message += " " + simulate.Sentence(wait)
	}
	return simulate.Answer{
		Status:     http.StatusTooManyRequests,
		RetryAfter: hint.Header(wait, now),
		Body:       failure(CodeThrottled, message),
	}
}

func text(status int, message string) simulate.Answer {
	return simulate.Answer{Status: status, ContentType: "text/plain; charset=utf-8", Body: []byte(message)}
}

// success is the envelope around entries, each of which is JSON, as is
// pageable.
func (s *Server) success(entries []string, pageable string) simulate.Answer {
	return simulate.Answer{Body: fmt.Appendf(nil, `{"errorCode":"","errorMessage":"","content":%s,"pageable":%s}`,
		s.content(entries), pageable)}
}

func (s *Server) content(entries []string) string {
	if s.options.ContentObject && len(entries) == 1 {
		return entries[0]
	}
	return "[" + strings.Join(entries, ",") + "]"
}

func (s *Server) failed(code string) simulate.Answer {
	what, ok := errorTexts[code]
	if !ok { // a code of a test's own
		what.message, what.status = "Error", http.StatusInternalServerError
	}
	a := simulate.Answer{Status: what.status, Body: failure(code, what.message)}
	if s.options.ErrorsWithOK {
		a.Status = http.StatusOK
	}
	return a
}

// failure is the documented envelope of an error, whose content and pageable
// are empty strings.
func failure(code, message string) []byte {
	return fmt.Appendf(nil, `{"errorCode":%s,"errorMessage":%s,"content":"","pageable":""}`, simulate.Quote(code), simulate.Quote(message))
}

// unmapped is the observed answer to a route that does not exist: status 500
// and the words "No static resource". Its form was not observed.
func (s *Server) unmapped(path string) simulate.Answer {
	message := "No static resource " + strings.TrimPrefix(path, "/") + "."
	if !s.options.UnmappedJSON {
		return text(http.StatusInternalServerError, message)
	}
	return simulate.Answer{
		Status: http.StatusInternalServerError,
		Body: fmt.Appendf(nil, `{"status":500,"error":"Internal Server Error","message":%s,"path":%s}`,
			simulate.Quote(message), simulate.Quote(path)),
	}
}
