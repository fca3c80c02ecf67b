package httpapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/balance-exporter/balance_exporter/providers"
)

// sendFailure classifies an error that came instead of an answer.
func sendFailure(err error) *providers.Error {
	var known *providers.Error
	if errors.As(err, &known) {
		return known
	}
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err // the address would repeat identifiers of persons
	}
	e := &providers.Error{Reason: providers.ReasonUnavailable, Message: "sending the request: " + err.Error(), Err: err}
	switch {
	case errors.Is(err, providers.ErrNotAsked):
		e.Message = err.Error()
	case errors.Is(err, errTimeout), errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		e.Reason, e.Message = providers.ReasonTimeout, errTimeout.Error()
	case errors.Is(err, errRedirect):
		e.Reason = providers.ReasonBadResponse
	case isUnreadableRedirect(err):
		// Quoted in the error, where a secret may be escaped more than once.
		e.Reason, e.Message = providers.ReasonBadResponse, errRedirect.Error()+": its address cannot be read"
	case isUnsolicited(err):
		e.Reason, e.Message = providers.ReasonBadResponse, "the server spoke before it was asked, so it is none of HTTP"
	case isTLS(err):
		e.Reason = providers.ReasonTLS
	case isMalformed(err):
		e.Reason = providers.ReasonBadResponse
	}
	return e
}

// readFailure classifies an error in the middle of an answer.
func readFailure(err error) *providers.Error {
	var known *providers.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, errTimeout), errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return &providers.Error{Reason: providers.ReasonTimeout, Message: errTimeout.Error(), Err: err}
	}
	return &providers.Error{Reason: providers.ReasonBadResponse, Message: "reading the answer: " + err.Error(), Err: err}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

func isTLS(err error) bool {
	var (
		record    tls.RecordHeaderError
		alert     tls.AlertError
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	return errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &verify) ||
		errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) ||
		strings.Contains(err.Error(), "tls: ") || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// isUnreadableRedirect reports a Location that is no URL. The client has no type for
// it.
func isUnreadableRedirect(err error) bool {
	return strings.Contains(err.Error(), "failed to parse Location header")
}

// isUnsolicited reports bytes that came before the request was sent, as from a server
// of mail. The transport has neither a type nor a text of its own for it: it wraps an
// error that is nil.
func isUnsolicited(err error) bool { return err.Error() == "readLoopPeekFailLocked: %!w(<nil>)" }

// isMalformed reports an answer that is no HTTP. The transport has no type for it.
func isMalformed(err error) bool {
	return strings.Contains(err.Error(), "malformed HTTP") || strings.Contains(err.Error(), "malformed MIME header") ||
		strings.Contains(err.Error(), "bad Content-Length") || strings.Contains(err.Error(), "server response headers exceeded")
}
