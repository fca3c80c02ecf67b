package exporter

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
)

// watch stands in front of a provider and records what must not happen: more requests
// than the limit, one during a cool-down, one for a source that was read within its
// interval.
type watch struct {
	account   *simAccount
	endpoints []simulate.Endpoint // of the account, and others of its provider
	requests  simulate.Recorder

	mu        sync.Mutex
	untracked bool                    // the test judges by itself when a source may be read again
	lenient   time.Time               // until then a source may be read again
	several   map[providers.Kind]bool // whether a refresh may send several requests to one path
	reading   int                     // answers 429 whose body is being sent
	blockedAt time.Time               // of the last 429
	until     time.Time               // no request may arrive before
	read      map[string]time.Time    // when an address was last read
	lastRead  time.Time               // when an answer with a number was last read
	number    string                  // that number
	broken    []string
}

func newWatch(a *simAccount) *watch {
	w := &watch{account: a, read: map[string]time.Time{}, endpoints: slices.Clone(a.Endpoints)}
	for _, c := range alltest.Cases() {
		if c.Provider == a.Provider {
			w.endpoints = append(w.endpoints, c.Endpoints...)
		}
	}
	return w
}

// learn learns from the descriptions of the account's sources for which kinds one
// refresh sends one request.
func (w *watch) learn(sources []providers.Description) {
	several := map[providers.Kind]bool{}
	for _, d := range sources {
		several[d.Kind] = several[d.Kind] || d.Lists || d.Requests != 1
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.several = several
}

// endpoint returns the endpoint of a request; nil for none.
func (w *watch) endpoint(r *http.Request) *simulate.Endpoint {
	for i, e := range w.endpoints {
		if w.account.host(e.Host) == r.Host && e.Path.MatchString(r.URL.Path) {
			return &w.endpoints[i]
		}
	}
	return nil
}

// ServeHTTP implements [http.Handler].
func (w *watch) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.requests.Wrap(http.HandlerFunc(w.serve)).ServeHTTP(rw, r)
}

func (w *watch) serve(rw http.ResponseWriter, r *http.Request) {
	w.arrived(r)
	c := &capture{ResponseWriter: rw, watch: w}
	defer func() {
		w.answered(r, c)
		w.ended(c)
	}()
	w.account.faults.ServeHTTP(c, r)
	c.whole = true
}

// tracking returns f, which takes the connection from the server, as a fault whose
// answers count as read.
func (w *watch) tracking(f simulate.Fault) simulate.Fault {
	return func(next http.Handler) http.Handler {
		return f(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			c := &capture{ResponseWriter: rw, watch: w}
			next.ServeHTTP(c, r)
			c.whole = true
			w.answered(r, c)
		}))
	}
}

func address(r *http.Request) string { return r.Host + r.URL.Path }

func (w *watch) arrived(r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	// A request that arrives at the instant of the 429 was under way.
	if now.After(w.blockedAt) && (w.reading > 0 || now.Before(w.until)) {
		w.broken = append(w.broken, fmt.Sprintf("%s arrived at %s in the cool-down from %s to %s", address(r), clock(now), clock(w.blockedAt), clock(w.until)))
	}
	at, ok := w.read[address(r)]
	if ok && now.Sub(at) < w.account.interval && now.After(at) && now.After(w.lenient) {
		w.broken = append(w.broken, fmt.Sprintf("%s was read at %s and again at %s, within %s", address(r), clock(at), clock(now), w.account.interval))
	}
	delete(w.read, address(r)) // if this try fails, the next may follow within the interval
}

// limited records the header of an answer 429.
func (w *watch) limited(c *capture) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.limited = true
	w.reading++
	w.blockedAt = time.Now()
	until := w.blockedAt.Add(time.Second) // the least without a time
	text := c.Header().Get("Retry-After")
	if s, err := strconv.Atoi(text); err == nil && s > 0 {
		until = w.blockedAt.Add(min(time.Duration(s)*time.Second, quota.MaxBlock))
	} else if at, err := http.ParseTime(text); err == nil {
		until = later(until, earlier(at, w.blockedAt.Add(quota.MaxBlock)))
	}
	w.until = later(w.until, until)
}

var tryAgain = regexp.MustCompile(`try again in (\d+) second`)

// ended records the end of an answer 429, in whatever way it ends.
func (w *watch) ended(c *capture) {
	if !c.limited {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reading--
	w.blockedAt = time.Now()
	if m := tryAgain.FindSubmatch(c.plain()); m != nil && c.Header().Get("Retry-After") == "" && c.whole {
		s, _ := strconv.Atoi(string(m[1]))
		w.until = later(w.until, w.blockedAt.Add(min(time.Duration(s)*time.Second, quota.MaxBlock)))
	}
}

// answered records a good answer.
func (w *watch) answered(r *http.Request, c *capture) {
	e, body := w.endpoint(r), c.plain()
	if e == nil || !c.whole || r.Context().Err() != nil || !e.Good(c.status, body) || !json.Valid(body) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Number != nil {
		before, after, _ := strings.Cut(e.Number("\x00"), "\x00")
		if text, ok := strings.CutPrefix(string(body), before); ok {
			w.lastRead, w.number = time.Now(), strings.TrimSuffix(text, after)
		}
	}
	several := e.Several && (e.Login || e.Interval > 0 || w.several[providers.Kind(e.Source)])
	if w.untracked || several {
		return
	}
	w.read[address(r)] = time.Now()
}

// last returns when an answer in the form of [simulate.Endpoint.Number] was last read,
// zero for never, and its number.
func (w *watch) last() (time.Time, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lastRead, w.number
}

// forgetRead allows every source to be read at once.
func (w *watch) forgetRead() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.read)
}

// reset forgets everything.
func (w *watch) reset() {
	w.requests.Reset()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until, w.blockedAt = time.Time{}, time.Time{}
	clear(w.read)
}

// fault returns what has happened and must not; "" for nothing.
func (w *watch) fault(limit quota.Limit) string {
	if v, found := w.requests.Excess(limit.Requests, limit.Per, limit.Burst); found {
		return fmt.Sprintf("%v, the limit is %+v", v, limit)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.broken, "\n")
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// capture sees the answer to a request.
type capture struct {
	http.ResponseWriter
	watch   *watch
	status  int
	body    bytes.Buffer // its start
	limited bool
	whole   bool
}

const maxCaptured = 64 << 10

// WriteHeader implements [http.ResponseWriter].
func (c *capture) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
		if status == http.StatusTooManyRequests {
			c.watch.limited(c)
		}
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write implements [io.Writer].
func (c *capture) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	c.body.Write(p[:min(len(p), max(0, maxCaptured-c.body.Len()))])
	return c.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (c *capture) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// plain returns the body as it is without compression.
func (c *capture) plain() []byte {
	if c.Header().Get("Content-Encoding") == "gzip" {
		if z, err := gzip.NewReader(bytes.NewReader(c.body.Bytes())); err == nil {
			body, _ := io.ReadAll(io.LimitReader(z, maxCaptured))
			return body
		}
	}
	return c.body.Bytes()
}
