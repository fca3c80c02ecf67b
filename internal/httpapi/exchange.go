package httpapi

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
)

// Bounds of an answer's body in bytes, after decompression.
const (
	maxBody      = 1 << 20
	maxLargeBody = 64 << 20
)

// errTimeout is the cause of a context that ended with the time for one request.
var errTimeout = errors.New("no whole answer within the time for one request")

// exchange is one request and its answer.
type exchange struct {
	sentAt time.Time
	resp   *http.Response // nil if err is set
	err    error

	ctx    context.Context
	cancel context.CancelCauseFunc
	clock  *clock

	reused   atomic.Bool // the connection had been used before
	answered atomic.Bool // the first byte of an answer arrived
}

// send sends req and returns when the header of the answer has arrived. The caller
// closes the exchange unless it has an error.
func (c *Client) send(ctx context.Context, req *request, credentials http.Header) *exchange {
	x := &exchange{sentAt: time.Now()}
	x.ctx, x.cancel = context.WithCancelCause(ctx)
	x.clock = newClock(c.opts.Timeout, func() { x.cancel(errTimeout) })
	trace := httptrace.WithClientTrace(x.ctx, &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { x.reused.Store(i.Reused) },
		GotFirstResponseByte: func() { x.answered.Store(true) },
	})
	x.resp, x.err = c.opts.Transport.RoundTrip(req.http(trace, credentials)) //nolint:bodyclose // exchange.close does
	code := "error"
	if x.err == nil {
		code = strconv.Itoa(x.resp.StatusCode)
	}
	c.opts.Observer.Request(c.opts.Provider, c.opts.Account, code, time.Since(x.sentAt))
	switch {
	case x.err != nil:
		x.err = causeOf(x.ctx, x.err)
		x.close()
	case x.resp.StatusCode == http.StatusSwitchingProtocols:
		// The transport hands over the connection, and no context ends a read.
		x.close()
		x.err = providers.Errorf(providers.ReasonBadResponse, "the provider switched to another protocol, which was not asked for (HTTP status 101)")
	}
	return x
}

// close ends the exchange.
func (x *exchange) close() {
	x.clock.pause()
	if x.err == nil {
		_ = x.resp.Body.Close()
	}
	x.cancel(nil)
}

// brokeReused reports whether a connection that had been used before broke before
// the answer, most likely because the server had closed it.
func (x *exchange) brokeReused() bool {
	return x.reused.Load() && !x.answered.Load() && !isTimeout(x.err) && !errors.Is(x.err, context.Canceled)
}

// causeOf returns why ctx ended if it has, because transports do not say; else err.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// body is the decoded body of an answer. It fails where [io.LimitReader] would
// pretend that the body ended.
type body struct {
	ctx         context.Context
	r           io.Reader
	left, bound int64
	err         error // of reading; nil at the end of the body
}

func (x *exchange) body(bound int64) *body {
	b := &body{ctx: x.ctx, r: x.resp.Body, left: bound, bound: bound}
	switch coding := contentCoding(x.resp.Header); coding {
	case "":
	case "gzip":
		plain, err := gzip.NewReader(x.resp.Body)
		if err == nil {
			b.r = plain
		} else if !errors.Is(err, io.EOF) { // an empty body needs no decoding
			b.err = causeOf(x.ctx, err)
		}
	default:
		// In its own spelling: in lower case, a secret in it would not be masked.
		coding = strings.Join(x.resp.Header.Values("Content-Encoding"), ", ")
		b.err = providers.Errorf(providers.ReasonBadResponse, "the answer has the content coding %q, which was not asked for", coding)
	}
	return b
}

// contentCoding returns the codings of an answer in lower case, separated by
// commas; empty for none.
func contentCoding(header http.Header) string {
	codings := strings.FieldsFunc(strings.ToLower(strings.Join(header.Values("Content-Encoding"), ",")), func(r rune) bool {
		return r == ',' || r == ' ' || r == '\t'
	})
	codings = slices.DeleteFunc(codings, func(coding string) bool { return coding == "identity" })
	return strings.TrimPrefix(strings.Join(codings, ", "), "x-") // x-gzip is gzip
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		n, b.err = n-1, providers.Errorf(providers.ReasonBadResponse, "the answer is too large: more than %d bytes", b.bound)
		return n, b.err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = causeOf(b.ctx, err)
		return n, b.err
	}
	return n, err
}

// clock is a timer that can be paused.
type clock struct {
	timer  *time.Timer
	endsAt time.Time
	left   time.Duration // while it is paused
}

func newClock(d time.Duration, end func()) *clock {
	return &clock{timer: time.AfterFunc(d, end), endsAt: time.Now().Add(d)}
}

func (c *clock) pause() {
	c.timer.Stop()
	c.left = time.Until(c.endsAt)
}

func (c *clock) resume() {
	c.endsAt = time.Now().Add(c.left)
	c.timer.Reset(c.left)
}
