package eightxeightsim

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// apiError is the body of every answer from 400 on.
type apiError struct {
	Code      int    `json:"code"`
	Message   string `json:"message,omitempty"`
	ErrorID   string `json:"errorId"`
	Timestamp string `json:"timestamp"`
}

// fault returns a fault that answers with an error body.
func fault(status, code int, message string) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeError(w, status, code, message)
		})
	}
}

// Unauthorized answers 401 as for a wrong key.
func Unauthorized() simulate.Fault {
	return fault(http.StatusUnauthorized, 1200, "Request was not authenticated properly")
}

// Forbidden answers 403 with the meaning of code 1201 in the code table.
func Forbidden() simulate.Fault {
	return fault(http.StatusForbidden, 1201, "Access forbidden")
}

// NotPrepaid answers 403 with the meaning of code 1201 in the balance example.
func NotPrepaid() simulate.Fault {
	return fault(http.StatusForbidden, 1201, "Account not in prepaid mode")
}

// NotFound answers 404 as for an unknown account.
func NotFound() simulate.Fault {
	return fault(http.StatusNotFound, 1300, "Not found")
}

// TLSRequired answers 426 and names the protocol to upgrade to.
func TLSRequired() simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Upgrade", "TLS/1.3")
			writeError(w, http.StatusUpgradeRequired, 1014,
				"TLS 1.3+ is required for Singapore-bound messages. Detected: TLSv1.2")
		})
	}
}

// InternalError answers 500.
func InternalError() simulate.Fault {
	return fault(http.StatusInternalServerError, 2000, "Internal server error")
}

// BadGateway answers 502 with a page, as a proxy would.
func BadGateway() simulate.Fault { return simulate.HTML(http.StatusBadGateway) }

// LargePrices answers with [WriteSynthetic] of so many rows.
func LargePrices(rows int) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = WriteSynthetic(w, rows)
		})
	}
}

// Dialect is how a 429 says when to come again.
type Dialect int

// The dialects of 429.
const (
	// RetryAfterSeconds is as documented: the header in seconds, and the
	// message.
	RetryAfterSeconds Dialect = iota
	// RetryAfterDate has an HTTP date in the header and no number in the
	// message.
	RetryAfterDate
	// BodyOnly has only the message, "… try again in N second(s)."
	BodyOnly
	// Silent says only that it is too much.
	Silent
)

// TooManyRequests answers 429 and says in the given dialect to come again
// after wait, which is rounded up to seconds.
func TooManyRequests(d Dialect, wait time.Duration) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeQuotaExceeded(w, d, wait)
		})
	}
}

func writeQuotaExceeded(w http.ResponseWriter, d Dialect, wait time.Duration) {
	seconds := int64((wait + time.Second - 1) / time.Second)
	message := fmt.Sprintf("Quota exceeded. Please try again in %d second(s).", seconds)
	switch d {
	case RetryAfterSeconds:
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	case RetryAfterDate:
		// The date has whole seconds and must not be too early.
		at := time.Now().Add(wait + time.Second - 1).Truncate(time.Second)
		w.Header().Set("Retry-After", at.UTC().Format(http.TimeFormat))
		message = "Quota exceeded."
	case Silent:
		message = "Quota exceeded."
	case BodyOnly:
	}
	writeError(w, http.StatusTooManyRequests, 429, message)
}

// timestampLayouts are the kinds of timestamps the documentation shows.
var timestampLayouts = []string{
	"2006-01-02T15:04:05.00Z",
	"2006-01-02T15:04:05.0000000+00:00",
	"2006-01-02T15:04:05.000Z",
	"2006-01-02T15:04:05.000000+00:00",
}

func writeError(w http.ResponseWriter, status, code int, message string) {
	id := rand.Uint64()
	writeJSON(w, status, apiError{
		Code:      code,
		Message:   message,
		ErrorID:   fmt.Sprintf("%08x-%04x-eb11-81f8-%012x", uint32(id), uint16(id>>32), id>>16),
		Timestamp: time.Now().UTC().Format(timestampLayouts[id%uint64(len(timestampLayouts))]),
	})
}
