package httpapi

import (
	"context"
	"errors"
	"html"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"

	"github.com/balance-exporter/balance_exporter/providers"
)

// failure classifies an error that came instead of an answer. answered is set if
// the provider had begun to answer.
func failure(err error, answered bool) *providers.Error {
	var known *providers.Error
	if errors.As(err, &known) {
		return known
	}
	e := &providers.Error{Reason: providers.ReasonUnavailable, Message: "sending the request: " + err.Error(), Err: err}
	switch {
	case errors.Is(err, providers.ErrNotAsked):
		e.Message = err.Error()
	case isTimeout(err):
		e.Reason, e.Message = providers.ReasonTimeout, errTimeout.Error()
	case errors.Is(err, context.Canceled):
	case isOutOfFiles(err):
		e.Reason = providers.ReasonInternal
		e.Message += "; raise the limit of open files of the exporter (ulimit -n, LimitNOFILE)"
	case isUnsolicited(err):
		e.Reason, e.Message = providers.ReasonBadResponse, "the server sent data before it was asked, so it does not speak HTTP"
	case answered:
		e.Reason, e.Message = providers.ReasonBadResponse, "the answer is not valid HTTP: "+err.Error()
	case isTLS(err):
		e.Reason = providers.ReasonTLS
	}
	return e
}

// answerFailure classifies an error of reading or understanding an answer.
func answerFailure(err error, status int) *providers.Error {
	var known *providers.Error
	switch {
	case errors.As(err, &known):
		return known
	case isTimeout(err):
		return &providers.Error{Reason: providers.ReasonTimeout, Message: errTimeout.Error(), Err: err}
	}
	e := &providers.Error{Reason: providers.ReasonBadResponse, Message: "reading the answer: " + err.Error(), Err: err}
	if status/100 != 2 {
		e.Reason = providers.ReasonOfStatus(status)
	}
	return e
}

// proxyRefused returns the error for a status with which a proxy refused to pass
// on a request.
func proxyRefused(status int) *providers.Error {
	e := providers.Errorf(providers.ReasonUnavailable, "the proxy, not the provider, answered with HTTP status %d (%s)", status, http.StatusText(status))
	e.Status = status
	if status == http.StatusProxyAuthRequired {
		e.Reason = providers.ReasonBadRequest
		e.Message += "; correct the credentials in http.proxy_url or http.proxy_connect_header"
	}
	return e
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.Is(err, errTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout()
}

// isOutOfFiles reports that the process or the system has no file descriptor left.
// The resolver returns only the text of the error.
func isOutOfFiles(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, errno) || strings.Contains(err.Error(), errno.Error()) {
			return true
		}
	}
	return false
}

// isTLS reports a failed handshake or certificate. Every such error of crypto/tls
// has its prefix; their types are many.
func isTLS(err error) bool {
	return strings.Contains(err.Error(), "tls: ") || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// isUnsolicited reports bytes that arrived before the request was sent, as from a
// mail server. The transport wraps an error that is nil.
func isUnsolicited(err error) bool { return err.Error() == "readLoopPeekFailLocked: %!w(<nil>)" }

// servers are marks by which the sender of an HTML page is recognised, in the
// header Server or in the page.
var servers = []struct{ mark, name string }{
	{"cloudflare", "Cloudflare"}, {"incapsula", "Imperva"}, {"imperva", "Imperva"}, {"akamaighost", "Akamai"},
	{"edgesuite.net", "Akamai"}, {"cloudfront", "Amazon CloudFront"}, {"awselb", "an AWS load balancer"},
	{"sucuri", "Sucuri"}, {"fortiguard", "a Fortinet firewall"}, {"fortiweb", "a Fortinet firewall"},
	{"mod_security", "ModSecurity"}, {"the requested url was rejected", "a web application firewall"},
}

var title = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

// htmlPage returns an addition to the message about an answer that is an HTML page,
// as from a firewall or a proxy; empty if it is none.
func (c *Client) htmlPage(header http.Header, body []byte) string {
	text := strings.TrimSpace(string(body[:min(len(body), 64<<10)]))
	lower := strings.ToLower(text)
	if !strings.HasPrefix(text, "<") || !strings.Contains(strings.ToLower(header.Get("Content-Type")), "html") &&
		!strings.HasPrefix(lower, "<!doctype html") && !strings.HasPrefix(lower, "<html") {
		return ""
	}
	page := "; the answer is an HTML page"
	marks := strings.ToLower(header.Get("Server")) + " " + lower
	for _, s := range servers {
		if strings.Contains(marks, s.mark) {
			page += ", served by " + s.name
			break
		}
	}
	if m := title.FindStringSubmatch(text); m != nil {
		page += `, titled "` + c.quote(html.UnescapeString(m[1]), 100) + `"`
	}
	return page
}
