package exporter

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// anyFault returns a fault of an account's API that costs requests or time.
func anyFault(rng *rand.Rand, a *simAccount) (string, simulate.Fault) {
	d := anyTime(rng, 2*time.Minute)
	switch rng.IntN(20) {
	case 0:
		return "none", nil
	case 1:
		return "hang", simulate.Hang()
	case 2:
		return "reset", simulate.ResetAfter(rng.IntN(10))
	case 3:
		return "drip", simulate.SlowDrip(d/50, 1+rng.IntN(20))
	case 4:
		return "500", simulate.Status(500, "application/json", `{"code":2000,"message":"Internal server error"}`, nil)
	case 5:
		return "401", simulate.Status(401, "application/json", `{"code":1200,"message":"no"}`, nil)
	case 6:
		return "403", simulate.Status(403, "application/json", `{"code":1201,"message":"no"}`, nil)
	case 7:
		return "garbage", simulate.Body(`{"balance":"x"`)
	case 8:
		return "redirect to the same host", redirectOnce(pick(rng, 301, 302, 307, 308))
	case 9:
		return "redirect elsewhere", simulate.Redirect(302, "https://elsewhere.example/")
	case 10, 11:
		wait := anyTime(rng, 2*time.Hour)
		hint := simulate.Hint(rng.IntN(4))
		return fmt.Sprintf("429 for %s with hint %d", wait, hint), tooManyRequests(hint, wait)
	case 12:
		text := pick(rng, "soon", "-5", "0", "1e400", "NaN", "99999999999999999999", "", "Thu, 01 Jan 1970 00:00:00 GMT")
		return "429 for " + text, simulate.Status(429, "text/plain", "no", http.Header{"Retry-After": {text}})
	case 13:
		return "429 in gzip", gzipped(tooManyRequests(simulate.HintBody, anyTime(rng, 2*time.Hour)))
	case 14:
		return "gzip", simulate.Gzip()
	case 15:
		return "broken when reused", a.watch.tracking(simulate.BreakReused(rng.IntN(2) == 0))
	case 16:
		return "bytes on an idle connection", a.watch.tracking(simulate.IdleBytes(d, "HTTP/1.1 200 OK\r\n\r\n"))
	case 17:
		return "101", simulate.SwitchProtocols()
	case 18:
		return "conflicting lengths", conflictingLengths()
	}
	return "429 with a slow body", slowLimit(d/20, pick(rng, 0, 5, 600))
}

// redirectOnce redirects a request to the same address once.
func redirectOnce(code int) simulate.Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if q.Has("hop") {
				next.ServeHTTP(w, r)
				return
			}
			q.Set("hop", "1")
			http.Redirect(w, r, r.URL.Path+"?"+q.Encode(), code)
		})
	}
}

// tooManyRequests answers 429 with a hint to come again after wait.
func tooManyRequests(hint simulate.Hint, wait time.Duration) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			text := "Quota exceeded."
			if hint == simulate.HintBody {
				text += " " + simulate.Sentence(wait)
			}
			body := []byte(`{"code":429,"message":` + simulate.Quote(text) + `}`)
			simulate.Answer{Status: http.StatusTooManyRequests, RetryAfter: hint.Header(wait, time.Now()), Body: body}.Write(w)
		})
	}
}

// slowLimit answers 429 with a body that follows after d; seconds is the header
// Retry-After, 0 for none.
func slowLimit(d time.Duration, seconds int) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if seconds > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(seconds))
			}
			w.WriteHeader(http.StatusTooManyRequests)
			flush(w)
			if simulate.Sleep(r.Context(), d) != nil {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, "Quota exceeded. Please try again in 7 second(s).")
		})
	}
}

// gzipped returns a fault with its answer in gzip.
func gzipped(f simulate.Fault) simulate.Fault {
	return func(next http.Handler) http.Handler { return simulate.Gzip()(f(next)) }
}

// conflictingLengths answers with two different lengths of the body.
func conflictingLengths() simulate.Fault {
	return simulate.Raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ")
}

// hangIn sends n bytes of a body and then nothing.
func hangIn(n int) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat(" ", n))
			flush(w)
			<-r.Context().Done()
		})
	}
}

// statusThatHangs sends a header and never a body.
func statusThatHangs(status int) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			flush(w)
			<-r.Context().Done()
		})
	}
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }
