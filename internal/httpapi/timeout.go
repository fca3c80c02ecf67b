package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// errTimeout is the cause of a context that ended with the time for one request.
var errTimeout = errors.New("no whole answer within the time for one request")

// timed is the link of the chain that gives one request its time, from being sent
// to the last byte of the answer. It stands after the gate, so that waiting for
// the quota does not count.
type timed struct {
	timeout time.Duration
	next    http.RoundTripper
}

func (l timed) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	sentAt := time.Now()
	clock := newClock(l.timeout, func() { cancel(errTimeout) })
	resp, err := l.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		clock.stop()
		err = withCause(ctx, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &timedBody{ReadCloser: resp.Body, ctx: ctx, clock: clock, cancel: cancel, sentAt: sentAt}
	return resp, nil
}

// withCause adds why ctx ended to err, if it ended: transports answer with the
// bare context error.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return errors.Join(cause, err)
	}
	return err
}

// timedBody is an answer's body while the request's clock runs.
type timedBody struct {
	io.ReadCloser
	ctx    context.Context
	clock  *clock
	cancel context.CancelCauseFunc
	sentAt time.Time
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = withCause(b.ctx, err)
	}
	return n, err
}

func (b *timedBody) Close() error {
	b.clock.stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// clock is a timer that can be paused: the wait for a place to read a large body
// is the exporter's own, and no fault of the provider.
type clock struct {
	mu      sync.Mutex
	timer   *time.Timer
	left    time.Duration
	started time.Time
	done    func()
}

func newClock(d time.Duration, done func()) *clock {
	return &clock{timer: time.AfterFunc(d, done), left: d, started: time.Now(), done: done}
}

func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer.Stop()
}

func (c *clock) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer.Stop() {
		c.left -= time.Since(c.started)
	} else {
		c.left = 0
	}
}

func (c *clock) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = time.Now()
	c.timer = time.AfterFunc(c.left, c.done)
}
