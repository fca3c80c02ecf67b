package yeastarsim

import (
	"fmt"
	"html"
	"net/http"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// ErrorForm is the body of an answer that is no success. None of the forms
// but the envelope is documented.
type ErrorForm int

const (
	// ErrorEnvelope is the envelope of every answer, see
	// https://help.yeastar.com/en/pp-ptr/developer-guide/response-results.html.
	ErrorEnvelope ErrorForm = iota
	// ErrorOAuth is {"error","error_description"}, as token servers have it.
	ErrorOAuth
	// ErrorHTML is a page as a gateway writes it.
	ErrorHTML
)

// ErrorStatus is the place where an answer says that it is no success.
type ErrorStatus int

const (
	// StatusHTTP uses the HTTP status, and the same number in the envelope.
	StatusHTTP ErrorStatus = iota
	// StatusField answers HTTP 200; the envelope's status has the number.
	StatusField
	// StatusCode answers HTTP 200 and status 200; only code names the error.
	StatusCode
)

// Fault replaces the answers of a path.
type Fault struct {
	// Status is the HTTP status; zero is 200 where there is a Body. A fault
	// with neither Status nor Body is none.
	Status int
	// RetryAfter is the time told by a 429, or by another status if it is not
	// zero. It is rounded up to whole seconds, to one at least.
	RetryAfter time.Duration
	// Hint is how RetryAfter is told.
	Hint simulate.Hint
	// Body, if not empty, is sent as it stands, with the HTTP status as it
	// stands. Otherwise [Options] shape the answer.
	Body string
	// ContentType belongs to Body; empty is application/json.
	ContentType string
	// Times is how many requests the fault meets before it goes; zero is
	// all, until it is replaced.
	Times int
}

// Fail puts a fault in place of the answers of a path, or of every path that
// has none of its own if the path is empty. The zero Fault takes it away.
func (s *Server) Fail(path string, fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fault.Status == 0 && fault.Body == "" {
		delete(s.faults, path)
		return
	}
	s.faults[path] = fault
}

// fault returns the fault that this request to a path meets.
func (s *Server) fault(path string) (Fault, bool) {
	fault, ok := s.faults[path]
	if !ok {
		path = ""
		fault, ok = s.faults[path]
	}
	switch {
	case !ok:
		return Fault{}, false
	case fault.Times == 1:
		delete(s.faults, path)
	case fault.Times > 1:
		left := fault
		left.Times--
		s.faults[path] = left
	}
	return fault, true
}

func (s *Server) faulty(f Fault, now time.Time) simulate.Answer {
	if f.Body != "" {
		a := simulate.Answer{Status: f.Status, ContentType: f.ContentType, Body: []byte(f.Body)}
		if f.hinted() {
			a.RetryAfter = f.Hint.Header(f.RetryAfter, now)
		}
		return a
	}
	if f.Status == http.StatusTooManyRequests {
		return s.throttled(f.RetryAfter, f.Hint, now)
	}
	code := strings.ReplaceAll(strings.ToLower(http.StatusText(f.Status)), " ", "_")
	a := s.failed(f.Status, code, http.StatusText(f.Status))
	if f.hinted() {
		a.RetryAfter = f.Hint.Header(f.RetryAfter, now)
	}
	return a
}

func (f Fault) hinted() bool {
	return f.RetryAfter > 0 || f.Status == http.StatusTooManyRequests
}

// throttled is a 429. No limit of this API is documented; the code is made up.
func (s *Server) throttled(wait time.Duration, hint simulate.Hint, now time.Time) simulate.Answer {
	detail := "Too many requests."
	if hint == simulate.HintBody {
		detail += " " + simulate.Sentence(wait)
	}
	a := s.failed(http.StatusTooManyRequests, "too_many_requests", detail)
	a.RetryAfter = hint.Header(wait, now)
	return a
}

func (s *Server) success(result string) simulate.Answer {
	return simulate.Answer{Body: s.envelope("success", "", result, http.StatusOK)}
}

// missing is the documented parameter_validation error, whose result names the
// field and the rule that it breaks.
func (s *Server) missing(field string) simulate.Answer {
	return s.refused(http.StatusBadRequest, "parameter_validation_failed", field+" must not be blank",
		`{"field":`+simulate.Quote(field)+`,"tag":"required"}`)
}

func (s *Server) failed(status int, code, detail string) simulate.Answer {
	return s.refused(status, code, detail, "null")
}

func (s *Server) refused(status int, code, detail, result string) simulate.Answer {
	var a simulate.Answer
	if s.options.ErrorStatus == StatusHTTP {
		a.Status = status
	}
	switch s.options.ErrorForm {
	case ErrorOAuth:
		a.Body = []byte(`{"error":` + simulate.Quote(code) + `,"error_description":` + simulate.Quote(detail) + `}`)
	case ErrorHTML:
		a.ContentType = "text/html"
		a.Body = fmt.Appendf(nil, "<html>\n<head><title>%d %s</title></head>\n<body>%s</body>\n</html>\n",
			status, http.StatusText(status), html.EscapeString(detail))
	default:
		if s.options.ErrorStatus == StatusCode {
			status = http.StatusOK
		}
		a.Body = s.envelope(code, detail, result, status)
	}
	return a
}

func (s *Server) envelope(code, detail, result string, status int) []byte {
	return fmt.Appendf(nil, `{"code":%s,"detailMessage":%s,"requestId":"%032x","result":%s,"status":%d}`,
		simulate.Quote(code), simulate.Quote(detail), s.counters.Requests, result, status)
}
