// Package providertest is the conformance suite of the contract in package
// providers: every provider in the list passes it unchanged. It reads accounts
// through the real request chain of internal/httpapi from a simulated API that
// misbehaves in every way that is known from the field, in the fake time of
// [testing/synctest].
package providertest

import (
	"net/http"
	"testing"

	"github.com/balance-exporter/balance_exporter/providers"
)

// Harness is what the suite has to know of a provider.
type Harness struct {
	Provider providers.Provider
	// Config is what only the provider knows of an account's configuration: YAML
	// with one key to a line, from the first column on. Secrets have to be unlike
	// anything in answers. The fewer sources and rows there are, the quicker the
	// suite.
	Config string
	// NewServer returns the simulated API in its best mood, with an account that
	// Config fits and a good answer that is always the same. It is called in the
	// bubble of the test.
	NewServer func() http.Handler
	// Values is the number of values that the good readings of all sources have
	// together: balances, prices and balances of subscribers. It is more than 0.
	Values int
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for name, scenario := range map[string]func(*testing.T, Harness){
		"sources":           testSources,
		"good answer":       testGoodAnswer,
		"requests":          testRequests,
		"credentials":       testCredentials,
		"statuses":          testStatuses,
		"rate limited":      testRateLimited,
		"own rate limit":    testOwnRateLimit,
		"hang":              testHang,
		"cancel":            testCancel,
		"faulty answers":    testFaultyAnswers,
		"cut answers":       testCutAnswers,
		"mutated answers":   testMutatedAnswers,
		"repeated elements": testRepeatedElements,
		"invalid UTF-8":     testInvalidUTF8,
		"redirects":         testRedirects,
		"secrets":           testSecrets,
	} {
		t.Run(name, func(t *testing.T) { scenario(t, h) })
	}
}
