package flolivesim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
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

// Hint is how an answer says when to try again. No limit of this API is
// documented, so all ways are offered.
type Hint int

const (
	// HintSeconds is a Retry-After header with a number of seconds.
	HintSeconds Hint = iota
	// HintDate is a Retry-After header with an HTTP date.
	HintDate
	// HintBody is a sentence in the body, without a header.
	HintBody
	// HintNone is no hint at all.
	HintNone
)

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
	Hint Hint
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

func (s *Server) faulty(f Fault, now time.Time) answer {
	var a answer
	switch {
	case f.Code != "":
		a = s.failed(f.Code)
	case f.Body != "":
		a = answer{status: f.Status, contentType: f.ContentType, body: []byte(f.Body)}
	case f.Status == http.StatusTooManyRequests:
		return throttled(f.RetryAfter, f.Hint, now)
	default:
		a = text(f.Status, http.StatusText(f.Status))
	}
	if f.RetryAfter > 0 || f.Status == http.StatusTooManyRequests {
		a.retryAfter = retryAfter(f.RetryAfter, f.Hint, now)
	}
	return a
}

func throttled(wait time.Duration, hint Hint, now time.Time) answer {
	message := errorTexts[CodeThrottled].message
	if hint == HintBody {
		message += fmt.Sprintf(" Please try again in %d second(s).", wholeSeconds(wait))
	}
	return answer{
		status:     http.StatusTooManyRequests,
		retryAfter: retryAfter(wait, hint, now),
		body:       failure(CodeThrottled, message),
	}
}

// retryAfter returns a Retry-After header, empty for none.
func retryAfter(wait time.Duration, hint Hint, now time.Time) string {
	switch hint {
	case HintSeconds:
		return strconv.FormatInt(wholeSeconds(wait), 10)
	case HintDate:
		// Rounded up, because a date drops the fraction of its second.
		at := now.Add(time.Duration(wholeSeconds(wait))*time.Second + time.Second - 1)
		return at.UTC().Format(http.TimeFormat)
	default:
		return ""
	}
}

func wholeSeconds(d time.Duration) int64 {
	return max(1, int64((d+time.Second-1)/time.Second))
}

// answer is a response that is ready to be written.
type answer struct {
	status      int    // zero is 200
	contentType string // empty is JSON
	retryAfter  string // empty is no header
	body        []byte
}

func (a answer) write(w http.ResponseWriter) {
	contentType := a.contentType
	if contentType == "" {
		contentType = "application/json"
	}
	w.Header().Set("Content-Type", contentType)
	if a.retryAfter != "" {
		w.Header().Set("Retry-After", a.retryAfter)
	}
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	_, _ = w.Write(a.body) // An error is the client's going away.
}

func text(status int, message string) answer {
	return answer{status: status, contentType: "text/plain; charset=utf-8", body: []byte(message)}
}

// success is the envelope around entries, each of which is JSON, as is
// pageable.
func (s *Server) success(entries []string, pageable string) answer {
	return answer{body: fmt.Appendf(nil, `{"errorCode":"","errorMessage":"","content":%s,"pageable":%s}`,
		s.content(entries), pageable)}
}

func (s *Server) content(entries []string) string {
	if s.options.ContentObject && len(entries) == 1 {
		return entries[0]
	}
	return "[" + strings.Join(entries, ",") + "]"
}

func (s *Server) failed(code string) answer {
	what, ok := errorTexts[code]
	if !ok { // a code of a test's own
		what.message, what.status = "Error", http.StatusInternalServerError
	}
	a := answer{status: what.status, body: failure(code, what.message)}
	if s.options.ErrorsWithOK {
		a.status = http.StatusOK
	}
	return a
}

// failure is the documented envelope of an error, whose content and pageable
// are empty strings.
func failure(code, message string) []byte {
	return fmt.Appendf(nil, `{"errorCode":%s,"errorMessage":%s,"content":"","pageable":""}`, quote(code), quote(message))
}

// unmapped is the observed answer to a route that does not exist: status 500
// and the words "No static resource". Its form was not observed.
func (s *Server) unmapped(path string) answer {
	message := "No static resource " + strings.TrimPrefix(path, "/") + "."
	if !s.options.UnmappedJSON {
		return text(http.StatusInternalServerError, message)
	}
	return answer{
		status: http.StatusInternalServerError,
		body: fmt.Appendf(nil, `{"status":500,"error":"Internal Server Error","message":%s,"path":%s}`,
			quote(message), quote(path)),
	}
}

// quote returns a string as JSON.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // Marshal does not fail for a string.
	}
	return string(b)
}
