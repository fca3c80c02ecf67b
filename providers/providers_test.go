package providers_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/balance-exporter/balance_exporter/providers"
)

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                   "",
		" \n":                "",
		"as it is":           "as it is",
		" a\tb\x00c\u202ed ": "a b c d",
		"bytes \xff\xfe":     "bytes",
		"ten of it.":         "ten of it.",
		"one of too many":    "one of…",
		"üüüüüüüüüüü":        "…",
		"üü üüüüü üü":        "üü üüüüü…",
	} {
		assert.Equal(t, want, providers.OneLine(text, 10), "%q", text)
	}
}

func TestLabel(t *testing.T) {
	long := strings.Repeat("x", 255)
	for text, want := range map[string]string{
		"":                             "",
		"SingTel é":                    "SingTel é",
		" a\tb\r\n\x00c\u0085d\x7f ":   " a b   c d  ",
		"bytes \xff\xfe.":              "bytes \ufffd\ufffd.",
		"\xed\xa0\x80":                 "\ufffd\ufffd\ufffd",
		long + "y":                     long + "y",
		long + "yz":                    long + "y",
		long + "é":                     long,
		long + "\xff":                  long,
		long[:253] + "€":               long[:253] + "€",
		long[:254] + "\n😀":             long[:254] + " ",
		strings.Repeat("€", 1_000_000): strings.Repeat("€", 85),
	} {
		label := providers.Label(text)
		assert.Equal(t, want, label)
		assert.Equal(t, label, providers.Label(label))
	}
}

func TestReasonOfStatus(t *testing.T) {
	for status, want := range map[int]providers.Reason{
		301: "bad_response", 307: "bad_response",
		400: "bad_request", 401: "auth", 403: "forbidden", 404: "not_found", 408: "timeout", 410: "not_found",
		422: "bad_request", 426: "tls", 429: "rate_limited", 500: "unavailable", 502: "unavailable", 503: "unavailable", 504: "unavailable", 599: "unavailable",
	} {
		assert.Equal(t, want, providers.ReasonOfStatus(status), "%d", status)
		assert.Contains(t, providers.Reasons(), want)
		assert.Equal(t, want, providers.AsError(providers.CheckStatus(providers.Answer{Status: status})).Reason)
	}
	assert.NoError(t, providers.CheckStatus(providers.Answer{Status: 204}))
}

func TestErrors(t *testing.T) {
	cause := errors.New("cause")
	err := providers.Errorf(providers.ReasonTLS, "reading: %w", cause)
	assert.Equal(t, "tls: reading: cause", err.Error())
	assert.ErrorIs(t, err, cause)
	err.ID = "85fa"
	assert.Equal(t, "tls: reading: cause (id 85fa)", err.Error())
	assert.Same(t, err, providers.AsError(fmt.Errorf("outside: %w", err)))
	assert.Equal(t, providers.ReasonInternal, providers.AsError(cause).Reason)
	assert.Nil(t, providers.AsError(nil))
}
