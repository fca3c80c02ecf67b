package providertest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
)

// stated is how long an answer demands to wait, if it names a time.
const stated = 11 * time.Second

func status(code int, body string) simulate.Fault {
	return simulate.Status(code, "application/json", body, nil)
}

// checkConnections: a connection that breaks when it is used again costs one more
// request and no failure. Only what neither reads nor logs in must not be repeated.
func checkConnections(t *T, open opener) {
	for name, fault := range map[string]simulate.Fault{
		"reset": simulate.BreakReused(true), "closed": simulate.BreakReused(false),
		"bytes while idle": simulate.IdleBytes(time.Second, "HTTP/1.1 408 Request Timeout\r\n\r\n"),
	} {
		w, s := open()
		good, requests := w.warm(s)
		w.faults.Set(fault)
		for range 3 {
			w.requests.Reset()
			got, err := s.Fetch(t.Context())
			if err != nil && w.posts() {
				w.fails(err, because(providers.ReasonUnavailable), name)
				break
			}
			require.NoError(t, err, name)
			require.Equal(t, contents(good), contents(got), name)
			require.LessOrEqual(t, w.requests.Len(), 2*requests, name)
			time.Sleep(interval)
		}
		w.hides(w.log.String())
	}
}

// posts reports whether the account has sent a POST that is no login.
func (w *world) posts() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.exchanges, func(e *exchange) bool { return e.method == http.MethodPost && !w.http.isLogin(e.path) })
}

// warm reads a source that has a token and all that it reads less often, and returns
// how many requests that took.
func (w *world) warm(s providers.Source) (reading providers.Reading, requests int) {
	w.t.Helper()
	w.fetch(s)
	w.requests.Reset()
	reading = w.fetch(s)
	return reading, w.requests.Len()
}

// checkCredentials: refused credentials are tried a few times in a fetch and never in
// a loop, they block the account, and the source recovers as soon as they are
// accepted.
func checkCredentials(t *T, open opener) {
	for _, at := range places {
		for _, fault := range []simulate.Fault{status(401, "{}"), status(401, ""), simulate.HTML(401)} {
			w, s := open()
			w.spoil(s, at, fault)
			for range 3 {
				w.requests.Reset()
				_, err := s.Fetch(t.Context())
				require.Equal(t, 401, w.fails(err, because(providers.ReasonAuth), at.name).Status)
				w.bounded(s, at.name)
				require.Equal(t, quota.CauseRefused, w.gate.Record().Cause, at.name)
				w.waitForBlock(s)
			}
			w.faults.Clear()
			w.fetch(s)
		}
	}
}

// waitForBlock checks that nothing is sent while the account is blocked, and waits
// until it is not.
func (w *world) waitForBlock(s providers.Source) {
	w.t.Helper()
	before := w.requests.Len()
	until := w.gate.Record().BlockedUntil
	require.Positive(w.t, time.Until(until), "the account is not blocked")
	for range 2 {
		_, err := s.Fetch(w.t.Context())
		require.ErrorIs(w.t, err, providers.ErrNotAsked)
		require.Equal(w.t, before, w.requests.Len(), "a request is sent while the account is blocked")
		time.Sleep((time.Until(until) - 1) / 2)
	}
	time.Sleep(time.Until(until))
}

// checkStatuses: an error status decides the reason, whatever the body.
func checkStatuses(t *T, open opener) {
	reasons := map[int]providers.Reason{
		400: providers.ReasonBadRequest,
		403: providers.ReasonForbidden,
		404: providers.ReasonNotFound,
		408: providers.ReasonTimeout,
		410: providers.ReasonNotFound,
		422: providers.ReasonBadRequest,
		426: providers.ReasonTLS,
		500: providers.ReasonUnavailable,
		502: providers.ReasonUnavailable,
		503: providers.ReasonUnavailable,
		504: providers.ReasonUnavailable,
	}
	n := 0
	for _, at := range places {
		for _, code := range slices.Sorted(maps.Keys(reasons)) {
			reason := reasons[code]
			for _, fault := range []simulate.Fault{simulate.HTML(code), status(code, "{}"), status(code, ""), status(code, "[")} {
				if n++; !sampled(n, 5) {
					continue
				}
				w, s := open()
				w.spoil(s, at, fault)
				_, err := s.Fetch(t.Context())
				require.Equal(t, code, w.fails(err, because(reason), code, at.name).Status)
				w.bounded(s, code, at.name)
			}
		}
		w, s := open()
		w.spoil(s, at, simulate.Status(503, "", "", http.Header{"Retry-After": {"9"}}))
		_, err := s.Fetch(t.Context())
		require.Equal(t, 9*time.Second, w.fails(err, because(providers.ReasonUnavailable)).RetryAfter)
	}
}

// checkDocumentedErrors: a documented error body has its reason, with its own status
// and with 200.
func checkDocumentedErrors(t *T, open opener) {
	w, _ := open()
	for _, e := range w.subject.Errors {
		for _, code := range []int{e.Status, http.StatusOK} {
			w, s := open()
			w.requests.Reset()
			w.faults.Add(simulate.Rule{Match: w.endpoint(e.Endpoint).matches, Fault: status(code, e.Body)})
			if _, err := s.Fetch(t.Context()); w.met(e.Endpoint) {
				w.fails(err, because(providers.Reason(e.Reason)), code, " ", e.Body)
			}
		}
	}
}

// endpoint is a named endpoint of the case.
type endpoint struct{ simulate.Endpoint }

func (w *world) endpoint(name string) endpoint {
	for _, e := range w.subject.Endpoints {
		if e.Name == name {
			return endpoint{e}
		}
	}
	require.Fail(w.t, "the case has no endpoint "+name)
	return endpoint{}
}

func (e endpoint) matches(r *http.Request) bool { return e.Path.MatchString(r.URL.Path) }

// met reports whether a request for an endpoint has arrived.
func (w *world) met(name string) bool {
	for _, a := range w.requests.Arrivals() {
		if w.endpoint(name).Path.MatchString(a.Path) {
			return true
		}
	}
	return false
}

// checkLongMessages: an error quotes a bounded part of what the provider says.
func checkLongMessages(t *T, open opener) {
	w, _ := open()
	bodies := []string{`{}`}
	for _, e := range w.subject.Errors {
		bodies = append(bodies, e.Body)
	}
	n := 0
	for _, long := range []string{strings.Repeat("word ", 600), strings.Repeat("x", 3000)} {
		for _, body := range bodies {
			said := encode(t, edit(decode([]byte(body)), "", func(path string, node any) any {
				if text, ok := node.(string); ok {
					return text + " " + long
				}
				if object, ok := node.(map[string]any); ok && path == "" {
					return describing(object, long)
				}
				return node
			}))
			for _, code := range []int{200, 400, 401, 403, 404, 429, 500} {
				if n++; !sampled(n, 3) {
					continue
				}
				w, s := open()
				w.spoil(s, where{logins: true}, status(code, string(said)))
				if _, err := s.Fetch(t.Context()); err != nil {
					w.failure(err, code)
				}
			}
		}
	}
}

// describing returns an error body with text in every member that errors are known
// to have and object has not.
func describing(object map[string]any, text string) map[string]any {
	described := map[string]any{}
	for _, name := range []string{
		"code", "message", "detailMessage", "requestId", "errorId", "errorCode", "errorMessage", "error", "error_description",
	} {
		described[name] = text
	}
	for name, value := range object {
		described[name] = value
	}
	return described
}

// checkRateLimited: an answer "too many requests" blocks the account for as long as
// it says, in whichever form, and then the source recovers.
func checkRateLimited(t *T, open opener) {
	retryAfter := func(text string) func() http.Header {
		return func() http.Header { return http.Header{"Retry-After": {text}} }
	}
	nothing := func() http.Header { return nil }
	for _, at := range places {
		for name, dialect := range map[string]struct {
			header func() http.Header
			body   string
			stated bool
		}{
			"seconds":          {retryAfter("11"), "{}", true},
			"seconds, no body": {retryAfter(" 11 "), "", true},
			"date": {func() http.Header {
				return retryAfter(time.Now().Add(stated).UTC().Format(http.TimeFormat))()
			}, "{}", true},
			"body":               {nothing, `{"code":429,"message":"Quota exceeded. Please try again in 11 second(s)."}`, true},
			"body in words":      {nothing, "Please try again in 11 seconds", true},
			"seconds, then body": {retryAfter("11"), "try again in 99 seconds", true},
			"nothing":            {nothing, "{}", false},
			"garbled":            {retryAfter("soon"), "<html>", false},
			"negative":           {retryAfter("-5"), "", false},
		} {
			w, s := open()
			// A date has no fraction of a second.
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
			w.spoil(s, at, simulate.Status(429, "application/json", dialect.body, dialect.header()))
			_, err := s.Fetch(t.Context())
			e := w.fails(err, because(providers.ReasonRateLimited), name, at.name)
			limited, logins := w.sent()
			if at.logins {
				limited += logins
			}
			require.Equal(t, 1, limited, "%s: a request is sent after the answer", name)
			record := w.gate.Record()
			require.Equal(t, quota.CauseRateLimited, record.Cause)
			if dialect.stated {
				require.Equal(t, stated, e.RetryAfter, name)
				require.Equal(t, stated, time.Until(record.BlockedUntil), name)
			}
			w.faults.Clear()
			w.waitForBlock(s)
			w.fetch(s)
		}
	}
}

// checkOwnRateLimit: what the account may not send is not sent, and waiting for it is
// no failure.
func checkOwnRateLimit(t *T, s subject) {
	w := newWorld(t, s, options{limit: quota.Limit{Requests: 1, Per: time.Minute, Burst: 1}})
	for _, source := range w.sources() {
		w.fetch(source)
		w.requests.Reset()
		_, err := w.gate.Wait(t.Context()) // empties the bucket
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err = source.Fetch(ctx)
		cancel()
		require.ErrorIs(t, err, providers.ErrNotAsked)
		w.failure(err)
		require.Zero(t, w.requests.Len())
	}

	w = newWorld(t, s, options{limit: quota.Limit{Requests: 1, Per: 10 * time.Second, Burst: 2}})
	for _, source := range w.sources() {
		w.fetch(source)
		w.fetch(source)
	}
	_, found := w.requests.Excess(1, 10*time.Second, 2)
	require.False(t, found)
}

// checkHang: a provider that does not answer, or not in time, costs the time for one
// request.
func checkHang(t *T, open opener) {
	for name, fault := range map[string]simulate.Fault{
		"hang":             simulate.Hang(),
		"late":             simulate.Delay(timeout + time.Second),
		"slow drip":        simulate.SlowDrip(time.Second, 1),
		"another protocol": simulate.SwitchProtocols(),
	} {
		for _, at := range places {
			w, s := open()
			w.spoil(s, at, fault)
			start := time.Now()
			_, err := s.Fetch(t.Context())
			if name == "another protocol" {
				w.fails(err, because(providers.ReasonTimeout, providers.ReasonBadResponse), name, at.name)
				require.LessOrEqual(t, time.Since(start), timeout, "%s: %s", name, at.name)
			} else {
				w.fails(err, because(providers.ReasonTimeout), name, at.name)
				require.Equal(t, timeout, time.Since(start), "%s: %s", name, at.name)
			}
			w.faults.Clear()
			w.fetch(s)
		}
	}
}

// checkCancel: a fetch ends with its context, and the error says so.
func checkCancel(t *T, open opener) {
	for name, tt := range map[string]struct {
		context func(context.Context) (context.Context, context.CancelFunc)
		cause   error
	}{
		"cancelled": {func(parent context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(parent)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, context.Canceled},
		"deadline": {func(parent context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(parent, time.Second)
		}, context.DeadlineExceeded},
	} {
		for _, fault := range []simulate.Fault{simulate.Hang(), simulate.SlowDrip(300*time.Millisecond, 1)} {
			for _, at := range places {
				w, s := open()
				w.spoil(s, at, fault)
				ctx, cancel := tt.context(t.Context())
				start := time.Now()
				_, err := s.Fetch(ctx)
				cancel()
				require.ErrorIs(t, err, tt.cause, "%s: %s", name, at.name)
				require.Equal(t, time.Second, time.Since(start), "%s: %s", name, at.name)
				w.faults.Clear()
				w.fetch(s)
			}
		}
	}
}

// checkRedirects: a redirect is followed on the same host, where the credentials
// belong, and counts; to anywhere else nothing is sent.
func checkRedirects(t *T, open opener) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{
			"http://elsewhere.test/", "http://" + host + ":8443/", "https://" + host + "/", "//elsewhere.test/",
		} {
			for _, at := range places {
				w, s := open()
				w.spoil(s, at, simulate.Redirect(code, to))
				_, err := s.Fetch(t.Context())
				w.fails(err, because(providers.ReasonBadResponse), code, to, at.name)
				require.Zero(t, w.elsewhere.Len(), "%d to %s: %s", code, to, at.name)
				w.bounded(s, code, to, at.name)
			}
		}
	}

	const moved = "/moved"
	for _, sameHost := range []func(*http.Request) string{
		func(*http.Request) string { return "" },
		func(r *http.Request) string { return "http://" + strings.ToUpper(r.Host) + ":80" },
	} {
		w, s := open()
		_, requests := w.warm(s)
		before := w.observed.requests()
		w.spoil(s, where{logins: true}, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, moved+"/") {
					r.Host = strings.TrimSuffix(r.Host, ":80")
					http.StripPrefix(moved, next).ServeHTTP(rw, r)
					return
				}
				http.Redirect(rw, r, sameHost(r)+moved+r.URL.RequestURI(), http.StatusTemporaryRedirect)
			})
		})
		w.fetch(s)
		require.Equal(t, 2*requests, w.requests.Len())
		require.Equal(t, 2*requests, w.observed.requests()-before)
	}

	w, s := open()
	w.spoil(s, where{logins: true}, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, r.URL.RequestURI(), http.StatusTemporaryRedirect)
		})
	})
	_, err := s.Fetch(t.Context())
	w.fails(err, because(providers.ReasonBadResponse), "a redirect to itself")
	require.LessOrEqual(t, w.requests.Len(), 10)
}

// checkSecrets: what a provider says of the credentials is not repeated, be it whole,
// in part or in another form.
func checkSecrets(t *T, open opener) {
	// echo answers with what it was sent, in every member that an error may have.
	echo := func(code, shift int) simulate.Fault {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				said := strings.Repeat("x ", shift/2) + strings.Repeat("x", shift%2)
				for _, values := range r.Header {
					said += strings.Join(values, " ") + " "
				}
				said += r.URL.RequestURI() + " " + string(body)
				answer := describing(map[string]any{"status": code, "errors": []any{said}}, said)
				status(code, string(encode(t, answer)))(nil).ServeHTTP(rw, r)
			})
		}
	}
	// located answers with a redirect to an address made of what it was sent.
	located := func(format string) simulate.Fault {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				said := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") + string(body)
				simulate.Redirect(302, fmt.Sprintf(format, said))(nil).ServeHTTP(rw, r)
			})
		}
	}
	faults := map[string]simulate.Fault{
		"host":       located("https://%s.test/"),
		"path":       located("https://elsewhere.test/%s"),
		"query":      located("https://elsewhere.test/?%s"),
		"unreadable": located("https://[%s"),
		"scheme":     located("%s://elsewhere.test/"),
	}
	for _, code := range []int{200, 400, 401, 403, 404, 429, 500} {
		faults[fmt.Sprint("echo ", code)] = echo(code, 0)
	}
	n := 0
	try := func(at where, faults map[string]simulate.Fault) {
		for _, name := range slices.Sorted(maps.Keys(faults)) {
			if n++; !sampled(n, 5) {
				continue
			}
			w, s := open()
			w.spoil(s, at, faults[name])
			_, err := s.Fetch(t.Context())
			if strings.HasPrefix(name, "echo 200") && err == nil {
				continue
			}
			w.failure(err, name, at.name)
			w.hides(w.log.String())
		}
	}
	for _, at := range places {
		try(at, faults)
	}
	shifted := map[string]simulate.Fault{} // so that a message is cut at any part of a secret
	for shift := 1; shift < 300; shift += recognisable - 1 {
		shifted[fmt.Sprint("echo, shifted ", shift)] = echo(400, shift)
	}
	try(places[0], shifted)
}
