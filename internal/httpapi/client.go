// Package httpapi sends the HTTP requests of one account: gate → authorize → send
// → bound → classify, as [Client.Do] reads from top to bottom. Everything that an
// account sends passes its gate: logins, pages, redirects, repeats.
package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	maxRedirects = 3
	// maxMessage is the length in characters at which a message is cut.
	maxMessage = 2000
)

// Slots bounds how many large answers are read at a time in one process. The zero
// value lets none through.
type Slots chan struct{}

// NewSlots returns n slots.
func NewSlots(n int) Slots { return make(Slots, n) }

// Observer counts the HTTP requests that are sent: a consumer contract for the
// exporter's own metrics.
type Observer interface {
	// Request gets the status of the answer, or "error" if there was none, and
	// the time to the first byte of the answer.
	Request(provider, account, code string, took time.Duration)
}

// Options say how the requests of one account are sent. All fields but Header are
// required.
type Options struct {
	Provider, Account string
	// Hosts are the addresses of the account's hosts by the name that a call
	// uses; "" is the base URL.
	Hosts map[string]*url.URL
	// Header is sent with every request.
	Header http.Header
	// Timeout is the time for one request, from being sent to the last byte of
	// the answer. The wait at the gate does not count.
	Timeout   time.Duration
	Transport http.RoundTripper // as from [NewTransport]
	Gate      *gate.Gate
	Slots     Slots
	Mask      *secret.Mask
	Observer  Observer
	Logger    log.Logger
}

// Client sends the requests of one account. It implements [providers.HTTP].
type Client struct{ opts Options }

// New returns a client.
func New(opts Options) *Client { return &Client{opts} }

// Mask hides text from now on; see [providers.HTTP].
func (c *Client) Mask(text string) { c.opts.Mask.Add(text) }

// Do sends call and passes the answer to it; see [providers.HTTP].
func (c *Client) Do(ctx context.Context, call providers.Call) error {
	e := c.do(ctx, call)
	if e == nil {
		return nil
	}
	masked := *e
	masked.Message, masked.ID = c.quote(e.Message, maxMessage), c.quote(e.ID, maxMessage)
	// Another cause may hold an address or a secret in its text.
	masked.Err = nil
	for _, cause := range []error{providers.ErrNotAsked, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(e.Err, cause) {
			masked.Err = cause
			break
		}
	}
	return &masked
}

// do sends call, its redirects, and a repeat if a reused connection breaks.
func (c *Client) do(ctx context.Context, call providers.Call) *providers.Error {
	req, err := c.newRequest(call)
	if err != nil {
		return providers.Errorf(providers.ReasonInternal, "making the request: %w", err)
	}
	var (
		credentials http.Header
		authorized  bool             // credentials are those of the next request
		broken      *providers.Error // why the request is repeated; nil if it is not
	)
	for redirects := 0; ; {
		// The gate opens when the quota allows one request.
		grant, err := c.opts.Gate.Wait(ctx)
		if err != nil && broken != nil {
			return broken
		} else if err != nil {
			return failure(err, false)
		}

		// The credentials come last, because a token may expire during the wait.
		// Getting them may take a login: then the request waits again with them.
		if call.Authorize != nil && !authorized {
			opened := time.Now()
			if credentials, err = call.Authorize(); err != nil {
				grant.GiveBack()
				e := failure(err, false)
				c.block(e, call, opened)
				return e
			}
			authorized = true
		}

		// A repeat needs a fresh connection: other idle ones may be broken too.
		if broken != nil {
			(&http.Client{Transport: c.opts.Transport}).CloseIdleConnections()
		}
		if !grant.Fresh() {
			grant.GiveBack()
			continue
		}
		x := c.send(ctx, req, credentials)
		authorized = false
		if x.err != nil {
			e := failure(x.err, x.answered.Load())
			if broken == nil && x.brokeReused() && (req.method == http.MethodGet || call.Login) {
				broken = e
				continue
			}
			return e
		}
		_ = level.Debug(c.opts.Logger).Log("msg", "answer", "method", req.method, "status", x.resp.StatusCode, "took", time.Since(x.sentAt))

		// A redirect is a request of its own.
		next, e := req.redirect(x.resp)
		if e == nil && next == nil {
			return c.read(ctx, call, x)
		}
		x.close()
		if redirects++; e == nil && redirects > maxRedirects {
			e = redirectRefused("more than %d in a row", maxRedirects)
		}
		if e != nil {
			return e
		}
		req, broken = next, nil
	}
}

// read reads the answer, passes it to call and applies it to the gate.
func (c *Client) read(ctx context.Context, call providers.Call, x *exchange) *providers.Error {
	defer x.close()
	wait := retryAfter(x.resp.Header, time.Now())
	limited := x.resp.StatusCode == http.StatusTooManyRequests
	if limited {
		end := c.opts.Gate.BeginRateLimit(wait)
		defer func() { end(wait) }()
	}
	text, err := c.parse(ctx, call, x)
	if err == nil {
		if !call.Login && !limited {
			c.opts.Gate.Answer(x.sentAt)
		}
		return nil
	}
	e := *answerFailure(err, x.resp.StatusCode) // a copy: the error may be a variable of the provider
	if e.Status == 0 {
		e.Status = x.resp.StatusCode
	}
	if e.RetryAfter > 0 {
		wait = min(e.RetryAfter, quota.MaxBlock)
	} else if wait == 0 {
		wait = retryAfterText(text[:min(len(text), maxBody)])
	}
	e.RetryAfter = wait
	e.Message += c.htmlPage(x.resp.Header, text)
	if !limited {
		c.block(&e, call, x.sentAt)
	}
	return &e
}

// parse reads the body within its bound and passes it to call. It returns the body
// and the error of reading or of the call.
func (c *Client) parse(ctx context.Context, call providers.Call, x *exchange) ([]byte, error) {
	status := x.resp.StatusCode
	ok := status/100 == 2
	bound := int64(maxBody)
	if ok && call.Large {
		bound = maxLargeBody
		x.clock.pause() // the wait for a slot is ours
		select {
		case c.opts.Slots <- struct{}{}:
			defer func() { <-c.opts.Slots }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		x.clock.resume()
	}
	body := x.body(bound)
	text, _ := io.ReadAll(body)
	// A status that is no success counts, whatever became of its body.
	if body.err != nil && ok {
		return text, body.err
	}
	if status == http.StatusProxyAuthRequired {
		return text, proxyRefused(status)
	}
	answer := providers.Answer{Status: status, Header: x.resp.Header, Body: text, Quote: c.quote}
	if call.Parse != nil {
		return text, call.Parse(answer)
	}
	return text, providers.CheckStatus(answer)
}

// block blocks the account after e if the provider limits requests or refuses the
// credentials. An answer with status 429 has blocked it already.
func (c *Client) block(e *providers.Error, call providers.Call, sentAt time.Time) {
	switch {
	case errors.Is(e, providers.ErrNotAsked):
	case e.Reason == providers.ReasonRateLimited:
		c.opts.Gate.BeginRateLimit(e.RetryAfter)(e.RetryAfter)
	case e.Reason == providers.ReasonAuth && (call.Renewable == nil || !call.Renewable()):
		c.opts.Gate.Refuse(sentAt)
	}
}

// quote is [providers.Answer.Quote]. It masks first, because a part of a secret
// cannot be recognised.
func (c *Client) quote(text string, limit int) string {
	return providers.OneLine(c.opts.Mask.String(text), limit)
}
