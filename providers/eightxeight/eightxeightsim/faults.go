package eightxeightsim

import (
	"fmt"
	"math/rand/v2"
	"net/http"
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

// TooManyRequests answers 429 and says to come again after wait. Where the header
// says it, the documented answer says it in its message too.
func TooManyRequests(hint simulate.Hint, wait time.Duration) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeQuotaExceeded(w, hint, wait)
		})
	}
}

func writeQuotaExceeded(w http.ResponseWriter, hint simulate.Hint, wait time.Duration) {
	message := "Quota exceeded."
	if hint == simulate.HintSeconds || hint == simulate.HintBody {
		message += " " + simulate.Sentence(wait)
	}
	if text := hint.Header(wait, time.Now()); text != "" {
		w.Header().Set("Retry-After", text)
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
