package providertest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
)

func status(code int, body string) simulate.Fault {
	return simulate.Status(code, "application/json", body, nil)
}

// testCredentials: refused credentials are tried a few times in a fetch and never in
// a loop, and as soon as they are accepted the source works again.
func testCredentials(t *testing.T, h Harness) {
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
		for _, at := range places {
			for _, fault := range []simulate.Fault{status(401, "{}"), status(401, ""), simulate.HTML(401)} {
				w, s := open()
				w.spoil(s, at, fault)
				for range 3 {
					w.requests.Reset()
					_, err := s.Fetch(t.Context())
					require.Equal(t, 401, w.fails(err, because(providers.ReasonAuth), at.name).Status)
					w.bounded(s, at.name)
				}
				w.faults.Clear()
				_, err := s.Fetch(t.Context())
				require.NoError(t, err)
			}
		}
	})
}

// testStatuses: an error status tells the reason, whatever the body.
func testStatuses(t *testing.T, h Harness) {
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
		for _, at := range places {
			for code, reason := range map[int]providers.Reason{
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
			} {
				for _, fault := range []simulate.Fault{simulate.HTML(code), status(code, "{}"), status(code, ""), status(code, "[")} {
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
	})
}

// testRateLimited: an answer "too many requests" holds the account for as long as it
// says, in whichever way, and then the source works again.
func testRateLimited(t *testing.T, h Harness) {
	const told = 11 * time.Second
	retryAfter := func(text string) func() http.Header {
		return func() http.Header { return http.Header{"Retry-After": {text}} }
	}
	nothing := func() http.Header { return nil }
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
		for _, at := range places {
			for name, dialect := range map[string]struct {
				header func() http.Header
				body   string
				told   bool
			}{
				"seconds":          {retryAfter("11"), "{}", true},
				"seconds, no body": {retryAfter(" 11 "), "", true},
				"date": {func() http.Header {
					return retryAfter(time.Now().Add(told).UTC().Format(http.TimeFormat))()
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
				before := w.requests.Len()
				limited, logins := w.sent()
				if at.logins {
					limited += logins
				}
				require.Equal(t, 1, limited, "%s: nothing is sent after the answer", name)
				until, reason := w.gate.Hold()
				require.Equal(t, providers.ReasonRateLimited, reason)
				hold := time.Until(until)
				if dialect.told {
					require.Equal(t, told, e.RetryAfter, name)
					require.Equal(t, told, hold, name)
				}
				require.Positive(t, hold, name)

				w.faults.Clear()
				for range 2 {
					_, err = s.Fetch(t.Context())
					require.ErrorIs(t, err, providers.ErrNotAsked)
					require.Equal(t, before, w.requests.Len(), "%s: nothing is sent during the hold", name)
					time.Sleep((time.Until(until) - 1) / 2)
				}
				time.Sleep(time.Until(until))
				_, err = s.Fetch(t.Context())
				require.NoError(t, err, name)
			}
		}
	})
}

// testOwnRateLimit: what the account may not send is not sent, and waiting for it is
// no failure.
func testOwnRateLimit(t *testing.T, h Harness) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, h, quota.Limit{Requests: 1, Per: time.Minute, Burst: 1})
		for _, s := range w.sources() {
			_, err := s.Fetch(t.Context())
			require.NoError(t, err, s.Key())

			w.requests.Reset()
			require.NoError(t, w.gate.Wait(t.Context()), "spends what there is")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err = s.Fetch(ctx)
			cancel()
			require.ErrorIs(t, err, providers.ErrNotAsked)
			w.failure(err)
			require.Zero(t, w.requests.Len())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, h, quota.Limit{Requests: 1, Per: 10 * time.Second, Burst: 2})
		for _, s := range w.sources() {
			for range 2 {
				_, err := s.Fetch(t.Context())
				require.NoError(t, err, s.Key())
			}
		}
		_, found := w.requests.Excess(1, 10*time.Second, 2)
		require.False(t, found)
	})
}

// testHang: a provider that does not answer, or not in time, is given up after the
// time for one request.
func testHang(t *testing.T, h Harness) {
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
		for name, fault := range map[string]simulate.Fault{
			"hang":      simulate.Hang(),
			"late":      simulate.Delay(timeout + time.Second),
			"slow drip": simulate.SlowDrip(time.Second, 1),
		} {
			for _, at := range places {
				w, s := open()
				w.spoil(s, at, fault)
				start := time.Now()
				_, err := s.Fetch(t.Context())
				w.fails(err, because(providers.ReasonTimeout), name, at.name)
				require.Equal(t, timeout, time.Since(start), "%s: %s", name, at.name)
				w.faults.Clear()
				_, err = s.Fetch(t.Context())
				require.NoError(t, err)
			}
		}
	})
}

// testCancel: a fetch ends with its context, and the error says so.
func testCancel(t *testing.T, h Harness) {
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
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
					_, err = s.Fetch(t.Context())
					require.NoError(t, err)
				}
			}
		}
	})
}

// testRedirects: a redirect is followed where the credentials belong, and counts; to
// anywhere else nothing is sent.
func testRedirects(t *testing.T, h Harness) {
	const moved = "/moved"
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
		for _, code := range []int{301, 302, 303, 307, 308} {
			for _, to := range []string{
				"https://elsewhere.test/", "https://" + host + ":8443/", "http://" + host + "/", "//elsewhere.test/",
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

		w, s := open()
		_, err := s.Fetch(t.Context())
		require.NoError(t, err)
		before := w.observed.requests()
		w.spoil(s, where{logins: true}, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, moved+"/") {
					http.StripPrefix(moved, next).ServeHTTP(rw, r)
					return
				}
				http.Redirect(rw, r, moved+r.URL.RequestURI(), http.StatusTemporaryRedirect)
			})
		})
		_, err = s.Fetch(t.Context())
		require.NoError(t, err, "a redirect on the same host")
		require.Equal(t, 2*s.Requests(), w.requests.Len())
		require.Equal(t, 2*s.Requests(), w.observed.requests()-before)

		w, s = open()
		w.spoil(s, where{logins: true}, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				http.Redirect(rw, r, r.URL.RequestURI(), http.StatusTemporaryRedirect)
			})
		})
		_, err = s.Fetch(t.Context())
		w.fails(err, because(providers.ReasonBadResponse), "a redirect to itself")
		require.LessOrEqual(t, w.requests.Len(), 10)
	})
}

// testSecrets: what a provider says of the credentials is not repeated, be it whole,
// in part or in another form.
func testSecrets(t *testing.T, h Harness) {
	// echo answers with what it was sent, in every field that an error may have.
	echo := func(code, shift int) simulate.Fault {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				said := strings.Repeat("x ", shift/2) + strings.Repeat("x", shift%2)
				for _, values := range r.Header {
					said += strings.Join(values, " ") + " "
				}
				said += r.URL.RequestURI() + " " + string(body)
				answer := map[string]any{"status": code, "errors": []any{said}}
				for _, field := range []string{
					"code", "message", "detailMessage", "requestId", "errorId", "errorCode", "errorMessage", "error", "error_description",
				} {
					answer[field] = said
				}
				status(code, string(encode(t, answer)))(nil).ServeHTTP(rw, r)
			})
		}
	}
	// located answers with a redirect to a place made of what it was sent.
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
	for shift := 1; shift < 300; shift += recognisable - 1 {
		faults[fmt.Sprint("echo, shifted ", shift)] = echo(400, shift)
	}
	each(t, h, func(t *testing.T, open func() (*world, providers.Source)) {
		for _, at := range places {
			for name, fault := range faults {
				w, s := open()
				w.spoil(s, at, fault)
				_, err := s.Fetch(t.Context())
				if strings.HasPrefix(name, "echo 200") && err == nil {
					continue
				}
				w.failure(err, name, at.name)
				w.hides(w.log.String())
			}
		}
	})
}
