package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	idleConnTimeout = 5 * time.Minute // longer than most refresh intervals, to keep connections
	userAgent       = "balance_exporter"
)

// Slots bounds how many large answers are read at a time in one process. The zero
// value lets none through.
type Slots chan struct{}

// NewSlots returns n slots.
func NewSlots(n int) Slots { return make(Slots, n) }

// Options say how the requests of one account are sent. All fields are required.
type Options struct {
	Provider, Account string
	BaseURL           *url.URL
	// Timeout is the time for one request, not counting the wait at the gate.
	Timeout time.Duration
	// Transport is the bottom of the chain.
	Transport http.RoundTripper
	Gate      *Gate
	Slots     Slots
	Mask      *secret.Mask
	Observer  Observer
	Logger    log.Logger
}

// Client sends the requests of one account. It implements [providers.HTTP].
type Client struct {
	opts Options
	http *http.Client
}

// New returns a client. The order of the chain matters: the gate comes before the
// clock, so that waiting is no timeout; a redirect goes through the gate again; what
// is observed is what is really sent.
func New(opts Options) *Client {
	var chain http.RoundTripper = once{next: opts.Transport}
	chain = observed{provider: opts.Provider, account: opts.Account, observer: opts.Observer, next: chain}
	chain = timed{timeout: opts.Timeout, next: chain}
	chain = gated{gate: opts.Gate, next: chain}
	return &Client{opts: opts, http: &http.Client{Transport: chain, CheckRedirect: checkRedirect}}
}

// Mask hides text from now on; see [providers.HTTP].
func (c *Client) Mask(text string) { c.opts.Mask.Add(text) }

// Do sends call and decodes the answer; see [providers.HTTP].
func (c *Client) Do(ctx context.Context, call providers.Call) error {
	e := c.do(ctx, call)
	if e == nil {
		return nil
	}
	masked := *e
	masked.Message, masked.ID = c.opts.Mask.String(e.Message), c.opts.Mask.String(e.ID)
	// The cause may hold an address or a secret in its text; what callers look for
	// in it is kept.
	masked.Err = nil
	for _, cause := range []error{providers.ErrNotAsked, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(e.Err, cause) {
			masked.Err = cause
			break
		}
	}
	return &masked
}

func (c *Client) do(ctx context.Context, call providers.Call) *providers.Error {
	req, err := c.request(ctx, call)
	if err != nil {
		return providers.Errorf(providers.ReasonInternal, "making the request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return sendFailure(err)
	}
	defer func() { _ = resp.Body.Close() }()
	sentAt := resp.Body.(*timedBody).sentAt
	_ = level.Debug(c.opts.Logger).Log("msg", "answer", "method", req.Method, "status", resp.StatusCode, "took", time.Since(sentAt))

	limited := func(time.Duration) {}
	if resp.StatusCode == http.StatusTooManyRequests {
		limited = c.opts.Gate.Limiting(RetryAfter(resp.Header, nil, time.Now()))
	}
	check := call.Check
	if check == nil {
		check = providers.CheckStatus
	}
	good := resp.StatusCode >= 200 && resp.StatusCode < 300
	if good && call.Large {
		if e := c.readLarge(ctx, resp, call.Decode); e != nil {
			return e
		}
		c.opts.Gate.Answered(sentAt)
		return nil
	}
	body, err := io.ReadAll(limitBody(resp.Body, MaxBody))
	limited(RetryAfter(resp.Header, body, time.Now()))
	if err != nil && good {
		return readFailure(err)
	}
	// An error status says enough by itself, whatever became of its body.
	// Masked before it is looked at: a check cuts what it quotes, and a part of a
	// secret could not be recognised any more.
	answer := providers.Answer{Status: resp.StatusCode, Header: resp.Header, Body: []byte(c.opts.Mask.String(string(body)))}
	if e := check(answer); e != nil {
		return c.refused(e, answer)
	}
	if call.Decode != nil {
		if err := call.Decode(bytes.NewReader(body)); err != nil {
			return readFailure(err)
		}
	}
	if !call.Login {
		c.opts.Gate.Answered(sentAt)
	}
	return nil
}

// refused completes an answer's error by what every provider has in common.
func (c *Client) refused(e *providers.Error, answer providers.Answer) *providers.Error {
	if e.RetryAfter == 0 {
		e.RetryAfter = RetryAfter(answer.Header, answer.Body, time.Now())
	}
	if e.Reason == providers.ReasonRateLimited && answer.Status != http.StatusTooManyRequests {
		// At once, so that no other request of the account that is on its way here
		// is sent after this answer.
		c.opts.Gate.RateLimited(e.RetryAfter)
	}
	return e
}

func (c *Client) readLarge(ctx context.Context, resp *http.Response, decode func(io.Reader) error) *providers.Error {
	clock := resp.Body.(*timedBody).clock
	clock.pause()
	select {
	case c.opts.Slots <- struct{}{}:
	case <-ctx.Done():
		return readFailure(ctx.Err())
	}
	defer func() { <-c.opts.Slots }()
	clock.resume()
	if err := decode(limitBody(resp.Body, MaxLargeBody)); err != nil {
		return readFailure(err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, call providers.Call) (*http.Request, error) {
	method := call.Method
	if method == "" {
		method = http.MethodGet
	}
	target := strings.TrimSuffix(c.opts.BaseURL.String(), "/") + call.Path
	if call.Query != "" {
		target += "?" + call.Query
	}
	var body io.Reader
	if call.Body != nil {
		body = bytes.NewReader(call.Body)
	}
	if call.Authorize != nil {
		ctx = context.WithValue(ctx, authorizeKey{}, call.Authorize)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	for key, values := range call.Header {
		req.Header[key] = values
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", userAgent)
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	return req, nil
}
